//! A live picture of where pages are, while the GPU and the CPU pull them back and forth.
//!
//! `cargo run --release --example residency_map`

#[path = "common/choose.rs"]
mod choose;
#[path = "common/worker.rs"]
mod worker;

use std::hint::black_box;
use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use anyhow::{Result, ensure};
use drm_pagemap::residency::{Place, Residency, Scanner};
use drm_pagemap::{Buffer, outcome::Bytes};
use worker::Worker;

const BLOCKS: usize = 16;
/// The unit in which drivers migrate.
const BLOCK: usize = (2 << 20) / size_of::<u32>();
const FRAMES: usize = 48;

fn main() -> Result<()> {
    let about = "A live picture of where pages are, while the GPU and the CPU pull them back and forth.";
    let Some(gpus) = choose::gpus(about, 1)? else { return Ok(()) };
    println!("GPU: {}   █ in VRAM  ▒ in system memory", gpus[0].name());
    let mut data = Buffer::<u32>::zeroed(BLOCKS * BLOCK)?;
    data.fill(1);
    let range = data.range();
    let mut worker = Worker::new(&gpus[0])?;

    // One scanner and one map serve for all looks: after the first there is no allocation.
    let (mut scanner, mut map) = (Scanner::new()?, Residency::new());
    let live = stdout().is_terminal();
    let mut random = 1u32;
    let mut in_vram = 0;
    for frame in 0..FRAMES {
        // A small generator will do.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let block = (random >> 16) as usize % BLOCKS;
        let first = block * BLOCK;
        // The GPU has two turns of three.
        let who = if frame % 3 < 2 {
            worker.store(&mut data[first..first + BLOCK], 16 << 10, frame as u32)?;
            "GPU writes"
        } else {
            black_box(data[first..first + BLOCK].iter().map(|&word| u64::from(word)).sum::<u64>());
            "CPU reads "
        };
        scanner.scan(range, &mut map)?;
        in_vram = map.summary().bytes(Place::Device);
        let line = format!("{}  {who} block {block:2}, {} in VRAM", map.bar(64), Bytes(in_vram));
        if live {
            print!("\r{line}\x1b[K");
            stdout().flush()?;
            std::thread::sleep(Duration::from_millis(150));
        } else {
            println!("{line}");
        }
    }
    println!();
    if gpus[0].is_simulated() {
        ensure!(
            in_vram > 0 && in_vram < range.len(),
            "both had their turns, and {in_vram} bytes are in VRAM"
        );
    }
    Ok(())
}
