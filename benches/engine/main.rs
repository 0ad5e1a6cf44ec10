//! What migration on the simulated device costs, as ratios between things measured in the same run.
//!
//! `cargo bench --bench engine`. The parts that are compared take turns, so that whatever disturbs the machine disturbs both; a
//! ratio is the median over the turns.

mod bare;
mod growth;
#[path = "../report/mod.rs"]
mod report;
mod threads;

use std::hint::black_box;
use std::time::Instant;

use bare::{Bare, Mapping};
use drm_pagemap::PageRange;
use drm_pagemap::pagemap::{MigrateOptions, Space, VramRegion, Windows};
use report::Row;

const MB2: usize = 2 << 20;
const ROUNDS: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let only = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    let space = Space::of_process()?;
    let vram = VramRegion::new(&space, 256 << 20)?;
    println!("2 MiB each where nothing else is said, {ROUNDS} rounds");
    for huge in [false, true] {
        let pages = if huge { "2M page" } else { "4K pages" };
        if wanted("populate") {
            populate(&space, &vram, huge, pages)?;
        }
        if wanted("touch") {
            touch(&space, &vram, huge, pages)?;
        }
        if wanted("evict") {
            evict(&space, &vram, huge, pages)?;
        }
    }
    if wanted("windows") {
        small_windows(&space, &vram)?;
        again(&space, &vram)?;
    }
    if wanted("threads") {
        threads::random_touches(&space, &vram)?;
    }
    drop(vram);
    if wanted("growth") {
        growth::all(&space)?;
    }
    Ok(())
}

/// Moving 2 MiB to device memory, against copying 2 MiB: to new pages, as a migration by copy has to; and between pages that
/// are there, in the caches or not. The bare ioctl is what no engine can go below.
fn populate(
    space: &Space,
    vram: &VramRegion,
    huge: bool,
    pages: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    const COLD: usize = 64;
    let (memory, theirs) = (Mapping::filled(MB2, huge), Mapping::filled(MB2, huge));
    let bare = Bare::new(&theirs)?;
    let range = memory.range();
    let (from, mut to) = (vec![1u8; COLD * MB2], vec![2u8; COLD * MB2]);
    let fresh = Mapping::filled(MB2, huge);
    let (mut floor, mut new, mut cold, mut warm) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let moving = time(|| space.migrate_to_devmem(vram, range, &MigrateOptions::new()))?;
        space.migrate_to_ram(range)?;
        floor.push((moving, time_of(|| bare.move_away())));
        theirs.touch();
        let part = round % COLD * MB2..(round % COLD + 1) * MB2;
        let far = (round + COLD / 2) % COLD * MB2;
        fresh.discard();
        new.push((moving, time_of(|| fresh.copy_from(black_box(&from[far..far + MB2])))));
        for pairs in [&mut cold, &mut warm] {
            let copying = time_of(|| {
                to[part.clone()].copy_from_slice(black_box(&from[part.clone()]));
                black_box(&mut to);
            });
            pairs.push((moving, copying));
        }
    }
    let what = format!("populate, {pages}");
    Row::timed('d', &what, &new, "memcpy to new pages").at_most(0.25).print();
    Row::timed('d', &what, &cold, "memcpy, not in cache").print();
    Row::timed('d', &what, &warm, "memcpy, in cache").print();
    Row::timed('d', &what, &floor, "floor: bare UFFDIO_MOVE").print();
    let against_copy: Vec<_> = floor.iter().zip(&cold).map(|(floor, cold)| (floor.1, cold.1)).collect();
    Row::timed('d', &format!("floor: bare UFFDIO_MOVE, {pages}"), &against_copy, "memcpy, not in cache")
        .print();
    Ok(())
}

/// A CPU touch that brings a window back, against the least a userfaultfd handler can do: poll, read, move, wake.
fn touch(
    space: &Space,
    vram: &VramRegion,
    huge: bool,
    pages: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let (ours, theirs) = (Mapping::filled(MB2, huge), Mapping::filled(MB2, huge));
    let bare = Bare::new(&theirs)?;
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS {
        space.migrate_to_devmem(vram, ours.range(), &MigrateOptions::new())?;
        bare.move_away();
        pairs.push((time(|| Ok(ours.touch()))?, time(|| Ok(theirs.touch()))?));
    }
    let what = format!("CPU touch brings it back, {pages}");
    Row::timed('d', &what, &pairs, "bare UFFDIO_MOVE handler").at_most(1.5).print();
    Ok(())
}

/// The device makes room, against the same memory asked back.
fn evict(space: &Space, vram: &VramRegion, huge: bool, pages: &str) -> drm_pagemap::Result<()> {
    let memory = Mapping::filled(MB2, huge);
    let range = memory.range();
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS {
        space.migrate_to_devmem(vram, range, &MigrateOptions::new())?;
        let evicted = time(|| vram.evict(MB2 as u64))?;
        space.migrate_to_devmem(vram, range, &MigrateOptions::new())?;
        pairs.push((evicted, time(|| space.migrate_to_ram(range))?));
    }
    Row::timed('d', &format!("evict, {pages}"), &pairs, "migrate_to_ram").print();
    Ok(())
}

/// 2 MiB in windows of one page each: what a window costs by itself.
fn small_windows(space: &Space, vram: &VramRegion) -> drm_pagemap::Result<()> {
    let memory = Mapping::filled(MB2, false);
    let range = memory.range();
    let small = MigrateOptions::new().windows(Windows::Blocks(4096));
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS / 10 {
        let many = time(|| space.migrate_to_devmem(vram, range, &small))?;
        space.migrate_to_ram(range)?;
        pairs.push((many, time(|| space.migrate_to_devmem(vram, range, &MigrateOptions::new()))?));
        space.migrate_to_ram(range)?;
    }
    Row::timed('d', "populate in 512 windows", &pairs, "in one window").print();
    Ok(())
}

/// Asking for what is there already: the price of a request.
fn again(space: &Space, vram: &VramRegion) -> drm_pagemap::Result<()> {
    let memory = Mapping::filled(MB2, false);
    let range: PageRange = memory.range();
    space.migrate_to_devmem(vram, range, &MigrateOptions::new())?;
    let echo = bare::Echo::new();
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS {
        let there = time(|| space.migrate_to_devmem(vram, range, &MigrateOptions::new()))?;
        pairs.push((there, time_of(|| echo.round_trip())));
    }
    Row::timed('d', "populate, already there", &pairs, "round trip to a thread").print();
    Ok(())
}

/// Seconds.
fn time_of<T>(act: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    black_box(act());
    start.elapsed().as_secs_f64()
}

/// Seconds, of what succeeds.
fn time<T>(act: impl FnOnce() -> drm_pagemap::Result<T>) -> drm_pagemap::Result<f64> {
    let start = Instant::now();
    black_box(act()?);
    Ok(start.elapsed().as_secs_f64())
}
