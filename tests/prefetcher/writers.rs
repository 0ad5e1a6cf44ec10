//! Threads that write while their memory is prefetched to and fro.

use std::sync::atomic::{AtomicBool, Ordering};

use drm_pagemap::{Buffer, Prefetcher, Result};

use crate::Test;
use crate::machine::{MIB, Machine};

pub(crate) const TESTS: &[Test] = &[("writers_lose_no_update", writers_lose_no_update)];

const ROUNDS: usize = 12;

fn writers_lose_no_update(machine: &Machine) -> Result<()> {
    let builder = Prefetcher::builder(machine.mirror.clone()).threads(2).chunk(MIB);
    let prefetcher = builder.helper_spaces(machine.is_xe()).build()?;
    let mut data = Buffer::<u64>::zeroed(4 * MIB as usize / 8)?;
    let range = data.range();
    let stop = AtomicBool::new(false);
    let written: Vec<u64> = std::thread::scope(|scope| -> Result<Vec<u64>> {
        let quarter = data.len() / 4;
        let writers: Vec<_> = data
            .chunks_mut(quarter)
            .map(|own| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut updates = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        // Every page, at a word that changes.
                        for word in own.iter_mut().skip(updates as usize % 512).step_by(512) {
                            *word += 1;
                        }
                        updates += 1;
                    }
                    updates
                })
            })
            .collect();
        let mut result = Ok(());
        for _ in 0..ROUNDS {
            // Pages that a writer holds at the moment stay where they are, which is no error.
            let there = prefetcher.prefetch_range(range).to(machine.gpu.vram()).submit()?.wait().map(drop);
            let back = prefetcher.prefetch_range(range).to_system().submit()?.wait().map(drop);
            result = result.and(there).and(back);
        }
        stop.store(true, Ordering::Relaxed);
        let written = writers.into_iter().map(|writer| writer.join().expect("no panic")).collect();
        result.map(|()| written)
    })?;
    let quarter = data.len() / 4;
    for (own, updates) in data.chunks(quarter).zip(written) {
        let sum: u64 = own.iter().sum();
        let pages = (quarter / 512) as u64;
        assert_eq!(sum, updates * pages, "every update of {pages} pages counts");
    }
    Ok(())
}
