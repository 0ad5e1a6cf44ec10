//! Touches of random pages by several threads.

use std::time::Instant;

use drm_pagemap::pagemap::{MigrateOptions, Space, VramRegion, Windows};

use super::bare::Mapping;
use super::report::Row;

const PAGES: usize = 4096;
const PAGE: usize = 4096;
const ROUNDS: usize = 15;
const MOST_THREADS: usize = 8;

/// Every page of 16 MiB once, in random order, each in a window of its own, by 1 to 8 threads: against one thread; and
/// against first touches of new memory, the fault that Linux serves best.
pub(crate) fn random_touches(space: &Space, vram: &VramRegion) -> drm_pagemap::Result<()> {
    let (ours, plain) = (Mapping::filled(PAGES * PAGE, false), Mapping::filled(PAGES * PAGE, false));
    let order = shuffled(PAGES);
    let small = MigrateOptions::new().windows(Windows::Blocks(PAGE as u64));
    let mut threads = 1;
    let mut alone = Vec::new();
    while threads <= MOST_THREADS {
        let (mut against_plain, mut against_alone) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let populated = space.migrate_to_devmem(vram, ours.range(), &small)?;
            assert_eq!(populated.moved, (PAGES * PAGE) as u64);
            plain.discard();
            let took = touch_all(&ours, &order, threads);
            against_plain.push((took, touch_all(&plain, &order, threads)));
            if threads == 1 {
                alone.push(took);
            } else {
                against_alone.push((took, alone[round]));
            }
        }
        let what = format!("{PAGES} random touches by {threads} threads");
        Row::timed('d', &what, &against_plain, "first touches of new pages").print();
        if threads > 1 {
            Row::timed('d', &what, &against_alone, "by 1 thread").print();
        }
        threads *= 2;
    }
    Ok(())
}

/// Seconds until every page was touched.
fn touch_all(memory: &Mapping, order: &[usize], threads: usize) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for part in order.chunks(order.len().div_ceil(threads)) {
            scope.spawn(move || part.iter().for_each(|&page| memory.touch_at(page * PAGE)));
        }
    });
    start.elapsed().as_secs_f64()
}

/// The numbers below `count` in an order without pattern that is the same in every run.
pub(crate) fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut random = 0x2545_f491_4f6c_dd1du64;
    for at in (1..count).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        order.swap(at, (random % (at as u64 + 1)) as usize);
    }
    order
}
