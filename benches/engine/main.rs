//! What migration costs, as ratios between things measured in the same run.
//!
//! `cargo bench --bench engine`. Each figure is the median of many repetitions; the parts that are compared take turns, so
//! that whatever disturbs the machine disturbs both.

mod bare;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bare::{Bare, Mapping};
use drm_pagemap::PageRange;
use drm_pagemap::pagemap::{MigrateOptions, Space, VramRegion, Windows};

const MB2: usize = 2 << 20;
const ROUNDS: usize = 300;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let space = Space::of_process()?;
    let vram = VramRegion::new(&space, 64 << 20)?;
    println!("median of {ROUNDS} rounds, 2 MiB each");
    for huge in [false, true] {
        let pages = if huge { "2 MiB page" } else { "4 KiB pages" };
        populate(&space, &vram, huge, pages)?;
    }
    for huge in [false, true] {
        let pages = if huge { "2 MiB page" } else { "4 KiB pages" };
        touch(&space, &vram, huge, pages)?;
    }
    small_windows(&space, &vram)?;
    again(&space, &vram)?;
    Ok(())
}

/// Moving 2 MiB to device memory, against copying 2 MiB: to new pages, as a migration by copy has to; between pages that the
/// caches do not hold; and between pages that they do.
fn populate(space: &Space, vram: &VramRegion, huge: bool, pages: &str) -> drm_pagemap::Result<()> {
    const COLD: usize = 64;
    let memory = Mapping::filled(MB2, huge);
    let range = memory.range();
    let (from, mut to) = (vec![1u8; COLD * MB2], vec![2u8; COLD * MB2]);
    let fresh = Mapping::filled(MB2, huge);
    let (mut moving, mut new, mut cold, mut warm) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        moving.push(time(|| space.migrate_to_devmem(vram, range, &MigrateOptions::new()))?);
        space.migrate_to_ram(range)?;
        let part = round % COLD * MB2..(round % COLD + 1) * MB2;
        let far = (round + COLD / 2) % COLD * MB2;
        let other = far..far + MB2;
        fresh.discard();
        new.push(time(|| {
            fresh.copy_from(black_box(&from[other.clone()]));
            Ok(())
        })?);
        for times in [&mut cold, &mut warm] {
            times.push(time(|| {
                to[part.clone()].copy_from_slice(black_box(&from[part.clone()]));
                black_box(&mut to);
                Ok(())
            })?);
        }
    }
    let moving = median(moving);
    report(&format!("populate, {pages}"), moving, "memcpy to new pages", median(new));
    report(&format!("populate, {pages}"), moving, "memcpy, not in cache", median(cold));
    report(&format!("populate, {pages}"), moving, "memcpy, in cache", median(warm));
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
    let (mut engine, mut handler) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        space.migrate_to_devmem(vram, ours.range(), &MigrateOptions::new())?;
        engine.push(time(|| Ok(ours.touch()))?);
        bare.move_away();
        handler.push(time(|| Ok(theirs.touch()))?);
    }
    report(&format!("touch, {pages}"), median(engine), "bare UFFDIO_MOVE handler", median(handler));
    Ok(())
}

/// 2 MiB in windows of one page each: what a window costs by itself.
fn small_windows(space: &Space, vram: &VramRegion) -> drm_pagemap::Result<()> {
    let memory = Mapping::filled(MB2, false);
    let range = memory.range();
    let small = MigrateOptions::new().windows(Windows::Blocks(4096));
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS / 10 {
        many.push(time(|| space.migrate_to_devmem(vram, range, &small))?);
        space.migrate_to_ram(range)?;
        one.push(time(|| space.migrate_to_devmem(vram, range, &MigrateOptions::new()))?);
        space.migrate_to_ram(range)?;
    }
    report("populate in 512 windows", median(many), "in one window", median(one));
    Ok(())
}

/// Asking for what is there already: the price of a request.
fn again(space: &Space, vram: &VramRegion) -> drm_pagemap::Result<()> {
    let memory = Mapping::filled(MB2, false);
    let range: PageRange = memory.range();
    space.migrate_to_devmem(vram, range, &MigrateOptions::new())?;
    let (mut there, mut pipe) = (Vec::new(), Vec::new());
    let echo = bare::Echo::new();
    for _ in 0..ROUNDS {
        there.push(time(|| space.migrate_to_devmem(vram, range, &MigrateOptions::new()))?);
        pipe.push(time(|| {
            echo.round_trip();
            Ok(())
        })?);
    }
    report("populate, already there", median(there), "round trip to a thread", median(pipe));
    Ok(())
}

fn time<T>(act: impl FnOnce() -> drm_pagemap::Result<T>) -> drm_pagemap::Result<Duration> {
    let start = Instant::now();
    black_box(act()?);
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn report(what: &str, ours: Duration, against: &str, theirs: Duration) {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{what:<28} {:8.1} us   {against:<26} {:8.1} us   ratio {:.2}",
        micros(ours),
        micros(theirs),
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
}
