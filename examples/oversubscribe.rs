//! Data larger than VRAM, gone over again and again: with a budget it does not thrash.
//!
//! `cargo run --release --example oversubscribe`

#[path = "common/choose.rs"]
mod choose;

use anyhow::{Result, ensure};
use drm_pagemap::budget::{Budget, Policy};
use drm_pagemap::outcome::Bytes;
use drm_pagemap::{Buffer, ErrorKind, Gpu, Mirror};

const TILE: usize = 8 << 20;
const PASSES: usize = 3;

fn main() -> Result<()> {
    let about = "Data larger than VRAM, gone over again and again: with a budget it does not thrash.";
    let Some(gpus) = choose::gpus(about, 1)? else { return Ok(()) };
    let gpu = &gpus[0];
    let vram = gpu.vram_regions()[0].size();
    // On a real GPU the budget plays the part of a small VRAM, or the example would fill it for everybody.
    let limit = if gpu.is_simulated() { vram - (8 << 20) } else { (vram / 2).min(256 << 20) };
    let data = Buffer::<u8>::zeroed(limit as usize / TILE * TILE * 3 / 2)?;
    let mirror = gpu.mirror()?;
    println!("{}: {} of data, {} for them", gpu.name(), Bytes(data.range().len()), Bytes(limit));

    if gpu.is_simulated() {
        println!("\nwithout a budget, the driver makes room by sending back what was used longest ago:");
        let moved = passes(&data, |tile| Ok(mirror.prefetch(tile).to(gpu.vram()).run()?.moved()))?;
        ensure!(moved[PASSES - 1] > 0, "it thrashes: what comes next has always just gone");
        let _ = mirror.prefetch(&data).to_system().run()?;
    }

    println!("\nwith a budget, what fits stays, and the rest is used where it is, in system memory:");
    let moved = with_budget(gpu, &mirror, &data, limit)?;
    ensure!(moved[0] > 0 && moved[1..].iter().all(|&bytes| bytes == 0), "nothing moves after the first pass");
    Ok(())
}

fn with_budget(gpu: &Gpu, mirror: &Mirror, data: &[u8], limit: u64) -> Result<Vec<u64>> {
    let budget = Budget::new(&gpu.vram_regions()[0])?.with_limit(limit).with_policy(Policy::Refuse);
    passes(data, |tile| match budget.prefetch(mirror, tile) {
        Ok(outcome) => Ok(outcome.moved()),
        // A GPU that takes page faults reads the tile where it is, across the bus.
        Err(error) if error.kind() == ErrorKind::OutOfVram => Ok(0),
        Err(error) => Err(error.into()),
    })
}

/// Goes over the data in turns; how many bytes moved in each pass.
fn passes(data: &[u8], mut prefetch: impl FnMut(&[u8]) -> Result<u64>) -> Result<Vec<u64>> {
    let mut moved = Vec::new();
    for pass in 1..=PASSES {
        let mut bytes = 0;
        for tile in data.chunks(TILE) {
            bytes += prefetch(tile)?;
        }
        println!("  pass {pass}: {} moved to VRAM", Bytes(bytes));
        moved.push(bytes);
    }
    Ok(moved)
}
