//! Budgets: each policy, alone and in a prefetcher.

use std::sync::Arc;

use drm_pagemap::budget::Policy;
use drm_pagemap::{Budget, Buffer, Cause, ErrorKind, Observe, Prefetcher, Result};

use crate::Test;
use crate::machine::{MIB, Machine, VRAM, assert_intact, device_bytes, filled, part};

pub(crate) const TESTS: &[Test] = &[
    ("budget/refuse", refuse),
    ("budget/split", split),
    ("budget/evict", evict),
    ("budget/evict_is_not_enough", evict_is_not_enough),
    ("budget/the_record_follows_the_pages", the_record_follows_the_pages),
    ("budget/what_is_there_takes_no_room", what_is_there_takes_no_room),
    ("budget/the_drivers_figure_counts", the_drivers_figure_counts),
    ("budget/in_a_prefetcher", in_a_prefetcher),
    ("budget/threads_never_exceed_it", threads_never_exceed_it),
];

fn budget(machine: &Machine, limit: u64, policy: Policy) -> Result<Budget> {
    Ok(Budget::new(&machine.gpu.vram_regions()[0])?.with_limit(limit).with_policy(policy))
}

fn refuse(machine: &Machine) -> Result<()> {
    let budget = budget(machine, 8 * MIB, Policy::Refuse)?;
    assert_eq!(budget.available()?, 8 * MIB);
    let (first, second) = (filled(6 * MIB)?, filled(4 * MIB)?);
    assert!(budget.prefetch(&machine.mirror, &first)?.is_complete());
    assert_eq!((budget.placed()?, budget.available()?), (vec![first.range()], 2 * MIB));
    let error = budget.prefetch(&machine.mirror, &second).unwrap_err();
    assert_eq!((error.kind(), error.range()), (ErrorKind::OutOfVram, Some(second.range())));
    assert!(error.reason().contains("4 MiB") && error.reason().contains("2 MiB"), "{error}");
    assert_eq!((device_bytes(first.range())?, device_bytes(second.range())?), (6 * MIB, 0), "nothing moved");
    assert_intact(&first);
    assert_intact(&second);
    Ok(())
}

fn split(machine: &Machine) -> Result<()> {
    let budget = budget(machine, 8 * MIB, Policy::Split)?;
    let (first, second) = (filled(5 * MIB)?, filled(6 * MIB)?);
    assert!(budget.prefetch(&machine.mirror, &first)?.is_complete());
    // 3 MiB are left, of which a block of 2 MiB is whole.
    let outcome = budget.prefetch(&machine.mirror, &second)?;
    assert_eq!((outcome.moved(), outcome.not_moved()), (2 * MIB, 4 * MIB), "{outcome}");
    assert_eq!(outcome.refusals().len(), 1);
    assert_eq!(outcome.refusals()[0].range, part(&second, 2 * MIB, 4 * MIB));
    assert_eq!(outcome.refusals()[0].cause, Cause::NoVram);
    assert!(outcome.retry_useful());
    assert_eq!(device_bytes(first.range())?, 5 * MIB, "the older work stays");
    assert_eq!(device_bytes(second.range())?, 2 * MIB);
    assert_eq!(budget.placed()?.iter().map(|range| range.len()).sum::<u64>(), 7 * MIB);
    Ok(())
}

fn evict(machine: &Machine) -> Result<()> {
    let budget = budget(machine, 12 * MIB, Policy::Evict)?;
    let (oldest, older, newest) = (filled(4 * MIB)?, filled(6 * MIB)?, filled(6 * MIB)?);
    assert!(budget.prefetch(&machine.mirror, &oldest)?.is_complete());
    assert!(budget.prefetch(&machine.mirror, &older)?.is_complete());
    // 2 MiB are left: 4 more have to go, and the longest placed go first.
    let outcome = budget.prefetch(&machine.mirror, &newest)?;
    assert!(outcome.is_complete(), "{outcome}");
    assert_eq!(
        [device_bytes(oldest.range())?, device_bytes(older.range())?, device_bytes(newest.range())?],
        [0, 6 * MIB, 6 * MIB]
    );
    // Prefetched again, the second is the youngest, and the third has to go for the first.
    assert!(budget.prefetch(&machine.mirror, &older)?.is_complete());
    assert!(budget.prefetch(&machine.mirror, &oldest)?.is_complete());
    assert_eq!(
        [device_bytes(oldest.range())?, device_bytes(older.range())?, device_bytes(newest.range())?],
        [4 * MIB, 6 * MIB, 2 * MIB]
    );
    assert_intact(&oldest);
    assert_intact(&older);
    assert_intact(&newest);
    Ok(())
}

fn evict_is_not_enough(machine: &Machine) -> Result<()> {
    let budget = budget(machine, 8 * MIB, Policy::Evict)?;
    let (old, huge) = (filled(4 * MIB)?, filled(12 * MIB)?);
    assert!(budget.prefetch(&machine.mirror, &old)?.is_complete());
    let outcome = budget.prefetch(&machine.mirror, &huge)?;
    assert_eq!((outcome.moved(), outcome.not_moved()), (8 * MIB, 4 * MIB), "{outcome}");
    assert_eq!((device_bytes(old.range())?, device_bytes(huge.range())?), (0, 8 * MIB));
    Ok(())
}

fn the_record_follows_the_pages(machine: &Machine) -> Result<()> {
    let budget = budget(machine, 8 * MIB, Policy::Refuse)?;
    let (first, second) = (filled(8 * MIB)?, filled(8 * MIB)?);
    assert!(budget.prefetch(&machine.mirror, &first)?.is_complete());
    assert!(budget.prefetch(&machine.mirror, &second).is_err());
    // The CPU touches every page: they leave VRAM by themselves, and a prefetch that seems not to fit looks again.
    assert_intact(&first);
    assert!(budget.prefetch(&machine.mirror, &second)?.is_complete());
    assert_eq!(budget.placed()?, [second.range()]);
    let range = second.range();
    drop(second);
    assert_eq!(budget.placed()?, [range], "nobody has looked yet");
    assert_eq!(budget.reconcile()?, 0, "freed memory is not in VRAM");
    let third = filled(4 * MIB)?;
    let unseen = budget.prefetch_range(&machine.mirror, third.range(), Observe::Nothing)?;
    assert!(!unseen.is_observed());
    assert_eq!(budget.reconcile()?, 4 * MIB);
    budget.forget(part(&third, 0, MIB))?;
    assert_eq!(budget.placed()?, [part(&third, MIB, 3 * MIB)]);
    Ok(())
}

fn what_is_there_takes_no_room(machine: &Machine) -> Result<()> {
    let budget = budget(machine, 8 * MIB, Policy::Refuse)?;
    let data = filled(8 * MIB)?;
    assert!(budget.prefetch(&machine.mirror, &data)?.is_complete());
    let again = budget.prefetch(&machine.mirror, &data)?;
    assert_eq!((again.already_there(), again.moved()), (8 * MIB, 0), "{again}");
    // Back in part: that part fits again.
    let _ = machine.mirror.prefetch_range(part(&data, 0, 2 * MIB)).to_system().run()?;
    let again = budget.prefetch(&machine.mirror, &data)?;
    assert_eq!((again.already_there(), again.moved()), (6 * MIB, 2 * MIB), "{again}");
    // Files do not move, and so need no room.
    let shared = std::fs::read("/proc/self/maps").expect("/proc is mounted");
    let text = String::from_utf8_lossy(&shared);
    let line = text.lines().find(|line| line.contains("r-xp") && line.contains('/')).expect("code is a file");
    let (start, end) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).expect("a range");
    let hex = |text| u64::from_str_radix(text, 16).expect("a number");
    let code = drm_pagemap::PageRange::new(hex(start), hex(end) - hex(start))?;
    let outcome = budget.prefetch_range(&machine.mirror, code, Observe::Cheaply)?;
    assert_eq!((outcome.moved(), outcome.not_moved()), (0, code.len()), "{outcome}");
    assert_eq!(budget.reconcile()?, 8 * MIB);
    Ok(())
}

fn the_drivers_figure_counts(machine: &Machine) -> Result<()> {
    let whole = Budget::new(&machine.gpu.vram_regions()[0])?;
    let free = whole.available()?;
    assert!(free > VRAM / 2 && free <= VRAM, "{free}");
    let margin = Budget::new(&machine.gpu.vram_regions()[0])?.keep_free(10 * MIB);
    assert_eq!(margin.available()?, free - 10 * MIB);
    let nothing = Budget::new(&machine.gpu.vram_regions()[0])?.keep_free(u64::MAX);
    assert_eq!(nothing.available()?, 0);
    let data = filled(16 * MIB)?;
    assert_eq!(nothing.prefetch(&machine.mirror, &data).unwrap_err().kind(), ErrorKind::OutOfVram);
    assert!(whole.prefetch(&machine.mirror, &data)?.is_complete());
    assert!(whole.available()? <= free - 16 * MIB, "what was placed is not free");
    // More than all of VRAM is refused as a whole, and the driver evicts nothing for it.
    let huge = Buffer::<u64>::zeroed((VRAM + 16 * MIB) as usize / 8)?;
    assert_eq!(whole.prefetch(&machine.mirror, &huge).unwrap_err().kind(), ErrorKind::OutOfVram);
    assert_eq!(device_bytes(data.range())?, 16 * MIB);
    Ok(())
}

fn in_a_prefetcher(machine: &Machine) -> Result<()> {
    for policy in [Policy::Refuse, Policy::Split, Policy::Evict] {
        let budget = Arc::new(budget(machine, 8 * MIB, policy)?);
        let builder = Prefetcher::builder(machine.mirror.clone()).threads(2).chunk(2 * MIB);
        let prefetcher = builder.budget(budget.clone()).build()?;
        let (first, second) = (filled(6 * MIB)?, filled(6 * MIB)?);
        let outcome = prefetcher.prefetch(&first).to(machine.gpu.vram()).submit()?.wait()?;
        assert_eq!((outcome.moved(), outcome.is_complete()), (6 * MIB, true), "{outcome}");
        assert_eq!(budget.placed()?.iter().map(|range| range.len()).sum::<u64>(), 6 * MIB);
        let result = prefetcher.prefetch(&second).to(machine.gpu.vram()).submit()?.wait();
        let placed = [device_bytes(first.range())?, device_bytes(second.range())?];
        match policy {
            Policy::Refuse => {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::OutOfVram);
                assert_eq!(placed, [6 * MIB, 0]);
            }
            Policy::Split => {
                let outcome = result?;
                assert_eq!((outcome.moved(), outcome.not_moved()), (2 * MIB, 4 * MIB), "{outcome}");
                assert_eq!(outcome.refusals()[0].cause, Cause::NoVram);
                assert_eq!(placed, [6 * MIB, 2 * MIB]);
            }
            _ => {
                assert!(result?.is_complete());
                assert_eq!(placed, [2 * MIB, 6 * MIB]);
            }
        }
        // Back to system memory is nobody's budget.
        assert!(prefetcher.prefetch(&first).to_system().submit()?.wait()?.is_complete());
        assert!(prefetcher.prefetch(&second).to_system().submit()?.wait()?.is_complete());
        assert_eq!(budget.reconcile()?, 0);
        assert_eq!(budget.available()?, 8 * MIB, "every promise was given back");
        assert_intact(&first);
        assert_intact(&second);
    }
    Ok(())
}

fn threads_never_exceed_it(machine: &Machine) -> Result<()> {
    let budget = budget(machine, 8 * MIB, Policy::Refuse)?;
    let data = (0..8).map(|_| filled(2 * MIB)).collect::<Result<Vec<_>>>()?;
    let placed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            data.iter().map(|data| scope.spawn(|| budget.prefetch(&machine.mirror, data))).collect();
        threads
            .into_iter()
            .map(|thread| match thread.join().expect("no panic") {
                Ok(outcome) => usize::from(outcome.is_complete()),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::OutOfVram, "{error}");
                    0
                }
            })
            .sum()
    });
    assert_eq!(placed, 4, "as many as fit, and no more");
    let there = data.iter().map(|data| device_bytes(data.range())).sum::<Result<u64>>()?;
    assert_eq!(there, 8 * MIB);
    Ok(())
}
