//! While the GPU works on one tile, the next is on its way: with and without prefetch.
//!
//! `cargo run --release --example pipeline`

#[path = "common/choose.rs"]
mod choose;
#[path = "common/worker.rs"]
mod worker;

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use drm_pagemap::budget::{Budget, Policy};
use drm_pagemap::outcome::Bytes;
use drm_pagemap::prefetcher::Pending;
use drm_pagemap::residency::{self, Place};
use drm_pagemap::{Buffer, Gpu, PageRange, Prefetcher};
use worker::Worker;

const TILES: usize = 16;
const TILE: usize = 4 << 20;
/// The GPU touches each 64 KiB.
const STEP: usize = (64 << 10) / 4;
/// The tile that the GPU works on, the one on its way, and the one that leaves.
const IN_VRAM: usize = 3;

fn main() -> Result<()> {
    let about = "While the GPU works on one tile, the next is on its way: with and without prefetch.";
    let Some(gpus) = choose::gpus(about, 1)? else { return Ok(()) };
    println!("GPU: {}, {TILES} tiles of {}", gpus[0].name(), Bytes(TILE as u64));
    let without = run(&gpus[0], false)?;
    println!("without prefetch   {without}");
    let with = run(&gpus[0], true)?;
    println!("with prefetch      {with}");
    if gpus[0].is_simulated() {
        // Not so on every real GPU at every time: others use it too.
        ensure!(without.ready == 0 && with.ready == TILES, "with prefetch, the GPU waits for no tile");
    } else {
        println!("that is {:.2} times as fast", without.seconds / with.seconds);
    }
    Ok(())
}

/// What one way of doing it came to.
struct Account {
    /// Tiles that were in VRAM when the GPU came to them. Each of the others costs it page faults.
    ready: usize,
    seconds: f64,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waited = TILES - self.ready;
        write!(
            f,
            "{:2} tiles in VRAM when the GPU came to them, {waited:2} moved while it waited",
            self.ready
        )
    }
}

fn run(gpu: &Gpu, ahead: bool) -> Result<Account> {
    let mut data = Buffer::<u32>::zeroed(TILES * TILE / 4)?;
    data.fill(1);
    let mut worker = Worker::new(gpu)?;
    // The budget makes room for the tile that comes by sending back the one that was placed longest ago.
    let budget = Budget::new(&gpu.vram_regions()[0])?;
    let budget = Arc::new(budget.with_limit((IN_VRAM * TILE) as u64).with_policy(Policy::Evict));
    let prefetcher = Prefetcher::builder(Arc::new(gpu.mirror()?)).budget(budget).build()?;
    let request = |tile: PageRange| prefetcher.prefetch_range(tile).to(gpu.vram()).submit();

    let ranges: Vec<PageRange> = data.chunks(TILE / 4).map(PageRange::inside).collect();
    let mut coming: Option<Pending> = if ahead { Some(request(ranges[0])?) } else { None };
    let mut ready = 0;
    let started = Instant::now();
    for (number, tile) in data.chunks_mut(TILE / 4).enumerate() {
        if let Some(pending) = coming.take() {
            let _ = pending.wait()?;
        }
        if residency::of_range(ranges[number])?.summary().bytes(Place::Device) == TILE as u64 {
            ready += 1;
        }
        // From here on the prefetcher's thread moves the next tile while the GPU works on this one.
        if let (true, Some(&next)) = (ahead, ranges.get(number + 1)) {
            coming = Some(request(next)?);
        }
        worker.store(tile, STEP, number as u32)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut stored = data.iter().enumerate().step_by(STEP);
    ensure!(stored.all(|(index, &word)| word as usize == index / (TILE / 4)), "the GPU has been everywhere");
    Ok(Account { ready, seconds })
}
