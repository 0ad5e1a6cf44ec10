//! One process, several GPUs: data goes from one to the next, and halves go to two at once.
//!
//! `cargo run --release --example multi_gpu`

#[path = "common/choose.rs"]
mod choose;

use anyhow::{Result, ensure};
use drm_pagemap::residency::{self, Place};
use drm_pagemap::{Buffer, ErrorKind, Mirror};

fn main() -> Result<()> {
    let about = "One process, several GPUs: data goes from one to the next, and halves go to two at once.";
    let Some(gpus) = choose::gpus(about, 2)? else { return Ok(()) };
    ensure!(gpus.len() > 1, "this takes two GPUs: --gpu all");
    let mut data = Buffer::<u64>::zeroed(2 << 20)?;
    data.iter_mut().enumerate().for_each(|(index, word)| *word = index as u64);
    // Each GPU has its own view of the process. They share the pages, which are in one place at a time.
    let mirrors = gpus.iter().map(drm_pagemap::Gpu::mirror).collect::<Result<Vec<Mirror>, _>>()?;

    for (gpu, mirror) in gpus.iter().zip(&mirrors) {
        let outcome = mirror.prefetch(&data).to(gpu.vram()).run()?;
        println!("to {}: {outcome}", gpu.name());
        println!("  {}", residency::of(&data)?.bar(64));
        // Pages that come from another GPU's VRAM count as there already: which GPU has a page, the kernel tells nobody.
    }

    // A mirror moves pages to its own GPU only; what the drivers would quietly do instead is refused.
    match mirrors[0].prefetch(&data).to(gpus[1].vram()).run() {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            println!("\nby the first GPU to the second: {error}")
        }
        other => println!("\nby the first GPU to the second: {other:?}"),
    }

    let _ = mirrors[0].prefetch(&data).to_system().run()?;
    let (first, second) = data.split_at(data.len() / 2);
    std::thread::scope(|scope| -> Result<()> {
        let halves = [(0, first), (1, second)].map(|(number, half)| {
            let (gpu, mirror) = (&gpus[number], &mirrors[number]);
            scope.spawn(move || mirror.prefetch(half).to(gpu.vram()).run())
        });
        for half in halves {
            println!("half: {}", half.join().expect("no panic")?);
        }
        Ok(())
    })?;
    let there = residency::of(&data)?;
    println!("  {}", there.bar(64));
    if gpus[0].is_simulated() {
        ensure!(
            there.summary().bytes(Place::Device) == data.range().len(),
            "both halves are in VRAM: {there}"
        );
    }
    let wrong = data.iter().enumerate().filter(|&(index, &word)| word != index as u64).count();
    ensure!(wrong == 0, "{wrong} words have changed");
    println!("every one of {} words is intact", data.len());
    Ok(())
}
