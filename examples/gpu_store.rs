//! The GPU writes into a `Vec`, at the addresses that the CPU knows.
//!
//! `cargo run --release --example gpu_store`

#[path = "common/choose.rs"]
mod choose;
#[path = "common/worker.rs"]
mod worker;

use anyhow::{Result, ensure};
use drm_pagemap::{PageRange, residency};
use worker::Worker;

/// Numbers between those that the GPU stores.
const STEP: usize = (64 << 10) / size_of::<u32>();

fn main() -> Result<()> {
    let Some(gpus) = choose::gpus("The GPU writes into a Vec.", 1)? else { return Ok(()) };
    let gpu = &gpus[0];
    println!("GPU: {}", gpu.name());

    // Plain memory of the allocator: nobody prepared it for a GPU.
    let mut data = vec![7u32; 2 << 20];
    let pages = PageRange::inside(&data);
    println!("{}  filled by the CPU", residency::of_range(pages)?.bar(48));

    // A store by the GPU to an address that it has no page for: a page fault, which the driver answers. With migration, the
    // block of up to 2 MiB around the address moves to VRAM.
    let mut worker = Worker::new(gpu)?;
    let half = data.len() / 2;
    worker.store(&mut data[..half], STEP, 42)?;
    println!(
        "{}  after the GPU stored into each 64 KiB of the first half",
        residency::of_range(pages)?.bar(48)
    );

    // The CPU just reads; the kernel brings back what it touches.
    for (index, &word) in data.iter().enumerate() {
        let expected = if index < half && index % STEP == 0 { 42 } else { 7 };
        ensure!(word == expected, "word {index} is {word}, not {expected}");
    }
    println!("{}  after the CPU read every word", residency::of_range(pages)?.bar(48));
    println!("all {} words are as they should be", data.len());
    Ok(())
}
