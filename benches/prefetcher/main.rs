//! Prefetching in the background beside calling for it: how long the caller is held up, and when all is done.
//!
//! `cargo bench --bench prefetcher`, on the simulated xe device. With the argument `real` on the first GPU of the machine that
//! can migrate, which is how it is run in the lab: times there are not those of hardware, but counts and contents are.

#[path = "../report/mod.rs"]
mod report;

use std::sync::Arc;
use std::time::Instant;

use drm_pagemap::{Buffer, Driver, Gpu, Location, Mirror, Observe, Prefetcher, Result};
use report::{Row, skipped};

/// Requests of one round, and the bytes of each.
const REQUESTS: usize = 24;
const BYTES: usize = 2 << 20;
const ROUNDS: usize = 25;

fn main() -> Result<()> {
    let real = std::env::args().skip(1).any(|word| word == "real");
    let gpu = if real {
        let mut gpus = Gpu::discover()?.into_iter();
        match gpus.find(|gpu| gpu.svm().migration().is_ok()) {
            Some(gpu) => gpu,
            None => {
                skipped('e', "prefetcher on a real driver", "no GPU here migrates");
                return Ok(());
            }
        }
    } else {
        Gpu::simulated()
    };
    println!("{}: {REQUESTS} requests of {BYTES} bytes, {ROUNDS} rounds", gpu.name());
    let mirror = Arc::new(gpu.mirror()?);
    let buffers = (0..REQUESTS).map(|index| filled(index as u8)).collect::<Result<Vec<_>>>()?;
    compare(&gpu, &mirror, &buffers, 1, false)?;
    compare(&gpu, &mirror, &buffers, 2, false)?;
    if gpu.driver() == Driver::Xe {
        compare(&gpu, &mirror, &buffers, 2, true)?;
    } else {
        skipped('e', "helper spaces", "KFD has one address space for each process");
    }
    Ok(())
}

fn filled(byte: u8) -> Result<Buffer<u8>> {
    let mut buffer = Buffer::zeroed(BYTES)?;
    buffer.fill(byte);
    Ok(buffer)
}

fn compare(
    gpu: &Gpu,
    mirror: &Arc<Mirror>,
    buffers: &[Buffer<u8>],
    threads: usize,
    helpers: bool,
) -> Result<()> {
    let prefetcher = Prefetcher::builder(mirror.clone()).threads(threads).helper_spaces(helpers).build()?;
    let (mut held, mut done) = (Vec::new(), Vec::new());
    let (mut submitting, mut completing, mut calling) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for buffer in buffers {
            let _ = mirror.prefetch(buffer).to(gpu.vram()).observe(Observe::Nothing).run()?;
        }
        calling.push(start.elapsed().as_secs_f64());
        send_back(mirror, buffers)?;

        let start = Instant::now();
        let mut pending = Vec::with_capacity(REQUESTS);
        for buffer in buffers {
            pending.push(prefetcher.prefetch(buffer).to(gpu.vram()).observe(Observe::Nothing).submit()?);
        }
        submitting.push(start.elapsed().as_secs_f64());
        for request in pending {
            let _ = request.wait()?;
        }
        completing.push(start.elapsed().as_secs_f64());
        send_back(mirror, buffers)?;
    }
    held.extend(submitting.into_iter().zip(calling.iter().copied()));
    done.extend(completing.into_iter().zip(calling));
    let how = if helpers { ", each in a space of its own" } else { "" };
    let of = |what: &str| format!("{what}, {threads} threads{how}");
    Row::timed('e', &of("caller held up"), &held, "calls one after another").print();
    Row::timed('e', &of("until all is done"), &done, "calls one after another").print();
    check(gpu, mirror, &prefetcher, buffers, &of("bytes observed in VRAM"))
}

fn send_back(mirror: &Mirror, buffers: &[Buffer<u8>]) -> Result<()> {
    for buffer in buffers {
        let _ = mirror.prefetch(buffer).to(Location::System).observe(Observe::Nothing).run()?;
    }
    Ok(())
}

/// Every request once more, looked at: where the pages are, and what is in them afterwards.
fn check(
    gpu: &Gpu,
    mirror: &Mirror,
    prefetcher: &Prefetcher,
    buffers: &[Buffer<u8>],
    what: &str,
) -> Result<()> {
    let before = prefetcher.stats();
    let pending: Vec<_> = buffers
        .iter()
        .map(|buffer| prefetcher.prefetch(buffer).to(gpu.vram()).submit())
        .collect::<Result<_>>()?;
    let mut there = 0;
    for request in pending {
        let outcome = request.wait()?;
        there += outcome.moved() + outcome.already_there();
    }
    for (index, buffer) in buffers.iter().enumerate() {
        assert!(buffer.iter().all(|&byte| byte == index as u8), "request {index} changed a byte");
    }
    send_back(mirror, buffers)?;
    let calls = prefetcher.stats().chunks - before.chunks;
    let note = format!("{calls} prefetches, contents checked");
    Row::counted('e', what, "bytes", there as f64, "asked for", (REQUESTS * BYTES) as f64)
        .note(&note)
        .print();
    Ok(())
}
