//! Many threads, little device memory, nothing lost.
//!
//! `DRM_PAGEMAP_STRESS_SECONDS` makes it last longer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::pagemap::{Atomicity, DeviceAtomic, Windows};

fn seconds() -> Duration {
    let asked = std::env::var("DRM_PAGEMAP_STRESS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(asked.unwrap_or(0.7))
}

/// xorshift64, seeded per thread.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Counters in memory that migrates all the time, each the sum of what its writers added.
fn stress(pool_pages: u64, pages: u64, discard: bool) {
    let Some(space) = space() else { return };
    let vram = VramRegion::new(&space, pool_pages * page_size()).unwrap();
    let other = VramRegion::new(&space, pool_pages.div_ceil(2) * page_size()).unwrap();
    let memory = Memory::absent(pages * page_size());
    let device_sum = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let running = || !stop.load(Ordering::Relaxed);
    let cpu_sum = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2u64)
            .map(|n| {
                let (memory, running) = (&memory, &running);
                scope.spawn(move || {
                    let mut random = Random(n + 1);
                    let mut added = 0;
                    while running() {
                        let page = random.below(pages);
                        memory.word(page * page_size()).fetch_add(1, Ordering::Relaxed);
                        added += 1;
                    }
                    added
                })
            })
            .collect();
        scope.spawn(|| {
            let mut random = Random(77);
            while running() {
                let at = memory.start() + random.below(pages) * page_size();
                // SAFETY: the test's own memory, touched through atomics only.
                match unsafe { space.device_atomic(at, 8, DeviceAtomic::Add(1)) } {
                    Ok(_) => device_sum.fetch_add(1, Ordering::Relaxed),
                    Err(error) => panic!("{error}"),
                };
            }
        });
        for (n, region) in [&vram, &other].into_iter().enumerate() {
            let (space, memory, running) = (&space, &memory, &running);
            scope.spawn(move || {
                let mut random = Random(1000 + n as u64);
                while running() {
                    let first = random.below(pages);
                    let range = memory.part(first, 1 + random.below(pages - first));
                    let windows = [Windows::Natural, Windows::Blocks(64 << 10), Windows::Blocks(page_size())];
                    let atomicity = [Atomicity::Window, Atomicity::Range, Atomicity::BestEffort];
                    let options = MigrateOptions::new()
                        .windows(windows[random.below(3) as usize])
                        .atomicity(atomicity[random.below(3) as usize]);
                    match random.below(4) {
                        0 => drop(space.migrate_to_ram(range)),
                        1 => drop(region.evict(random.below(64) * page_size())),
                        _ => drop(space.migrate_to_devmem(region, range, &options)),
                    }
                }
            });
        }
        if discard {
            // Unrelated memory comes and goes meanwhile, so that the kernel keeps reporting.
            scope.spawn(|| {
                while running() {
                    let scrap = Memory::filled(64 << 10);
                    drop(space.migrate_to_devmem(&vram, scrap.range(), &MigrateOptions::new()));
                    scrap.advise(scrap.part(3, 4), rustix::mm::Advice::LinuxDontNeed).unwrap();
                    let scrap = scrap.relocate();
                    assert_eq!((scrap.get(4 * page_size()), scrap.get(0)), (0, 1));
                }
            });
        }
        let end = Instant::now() + seconds();
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).sum::<u64>()
    });
    let counted: u64 = (0..pages).map(|page| memory.word(page * page_size()).load(Ordering::Relaxed)).sum();
    assert_eq!(counted, cpu_sum + device_sum.load(Ordering::Relaxed), "updates were lost");
    let (a, b) = (vram.usage().unwrap(), other.usage().unwrap());
    eprintln!(
        "{pool_pages} of {pages} pages: {cpu_sum} + {} increments, {} windows in, {} evictions, {} faults",
        device_sum.load(Ordering::Relaxed),
        a.counters.windows_in + b.counters.windows_in,
        a.counters.evictions + b.counters.evictions,
        a.counters.cpu_faults + b.counters.cpu_faults
    );
    assert!(a.counters.windows_in > 0 && b.counters.windows_in > 0);
    assert_eq!((a.used, b.used), (0, 0), "reading the counters brought everything back");
}

#[test]
fn no_update_is_lost_with_hardly_any_device_memory() {
    stress(16, 256, false);
}

#[test]
fn no_update_is_lost_with_half_the_device_memory() {
    stress(600, 1200, false);
}

#[test]
fn no_update_is_lost_while_other_memory_comes_and_goes() {
    stress(64, 512, true);
}
