//! Puts a buffer into VRAM, shows where its pages are, lets the CPU pull part of it back, and checks every byte.
//!
//! `cargo run --release --example prefetch -- --help`

mod options;
mod progress;
mod report;

use std::time::Instant;

use anyhow::{Context, Result, bail};
use drm_pagemap::{Buffer, Gpu, Location, Mirror, Outcome, PageRange, residency};
use options::{Direction, Options};
use progress::Progress;
use report::{Report, Step};

/// Long prefetches are made in steps, so that progress can be shown; each is one call to the driver.
const STEP: u64 = 64 << 20;

fn main() -> Result<()> {
    let Some(options) = Options::from_arguments()? else { return Ok(()) };
    let gpu = choose_gpu(&options)?;
    let mirror = gpu.mirror().context("the GPU cannot mirror this process")?;

    let mut data = Buffer::<u64>::zeroed(options.size / size_of::<u64>())?;
    for (index, word) in data.iter_mut().enumerate() {
        *word = pattern(index);
    }

    let mut report = Report::new(&gpu, data.range());
    report.place("filled by the CPU", &residency::of(&data)?);

    if options.direction != Direction::ToSystem {
        let step = prefetch(&mirror, data.range(), &gpu.vram(), "to VRAM", &options)?;
        report.step(step);
        report.place("after prefetch to VRAM", &residency::of(&data)?);

        // One touch brings back the whole block that the driver migrated, up to 2 MiB.
        let touched = data.len() / 8;
        let started = Instant::now();
        let sum = data[..touched].iter().step_by(512).fold(0u64, |sum, word| sum.wrapping_add(*word));
        std::hint::black_box(sum);
        report.touched((touched * size_of::<u64>()) as u64, started.elapsed());
        report.place("after the CPU read the first eighth", &residency::of(&data)?);
    }
    if options.direction != Direction::ToVram {
        let step = prefetch(&mirror, data.range(), &Location::System, "to system memory", &options)?;
        report.step(step);
        report.place("after prefetch to system memory", &residency::of(&data)?);
    }

    let wrong = data.iter().enumerate().filter(|&(index, word)| *word != pattern(index)).count();
    report.verified(data.len(), wrong);
    report.finish(options.json)?;
    if wrong > 0 {
        bail!("{wrong} of {} words have changed", data.len());
    }
    Ok(())
}

/// The GPU that was asked for, or the first real one, or the simulated one, saying why.
fn choose_gpu(options: &Options) -> Result<Gpu> {
    if options.device.as_deref() == Some("simulated") {
        return Ok(Gpu::simulated());
    }
    let found = Gpu::discover()?;
    let usable = |gpu: &&Gpu| gpu.svm().mirroring().is_ok();
    if let Some(wanted) = &options.device {
        let gpu = match wanted.parse::<usize>() {
            Ok(index) => found.gpus().get(index),
            Err(_) => found.gpus().iter().find(|gpu| gpu.name().contains(wanted.as_str())),
        };
        return gpu.cloned().with_context(|| {
            format!(
                "no GPU {wanted:?} among the {} found; `cargo run --example info` lists them",
                found.gpus().len()
            )
        });
    }
    if let Some(gpu) = found.gpus().iter().find(usable) {
        return Ok(gpu.clone());
    }
    if !options.json {
        println!("No GPU with shared virtual memory here, so the simulated one serves:");
        for gpu in found.gpus() {
            if let Err(reason) = gpu.svm().mirroring() {
                println!("  {}: {reason}", gpu.name());
            }
        }
        for passed_over in found.passed_over() {
            println!("  {passed_over}");
        }
        println!();
    }
    Ok(Gpu::simulated())
}

fn prefetch(
    mirror: &Mirror,
    range: PageRange,
    to: &Location,
    label: &'static str,
    options: &Options,
) -> Result<Step> {
    let mut progress = Progress::new(label, range.len(), options.json);
    let mut total: Option<Outcome> = None;
    let started = Instant::now();
    for block in range.blocks(STEP) {
        let outcome = mirror.prefetch_range(block).to(to.clone()).run()?;
        total = Some(match total {
            Some(sum) => sum.merge(outcome),
            None => outcome,
        });
        progress.advance(block.len());
    }
    let took = started.elapsed();
    progress.finish();
    let outcome = total.context("the buffer is empty")?;
    Ok(Step { label, outcome, took })
}

/// A word that tells its own index, so that no two pages are alike.
fn pattern(index: usize) -> u64 {
    (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995
}
