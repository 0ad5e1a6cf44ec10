//! What a background prefetch moves, and what it says of it.

use drm_pagemap::{ErrorKind, Observe, PageRange, Prefetcher, Result};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::Test;
use crate::machine::{MIB, Machine, assert_intact, device_bytes, filled, part};

pub(crate) const TESTS: &[Test] = &[
    ("moves_and_says_so", moves_and_says_so),
    ("many_requests_at_once", many_requests_at_once),
    ("unmapped_parts_are_refused_and_the_rest_moves", unmapped_parts_are_refused_and_the_rest_moves),
    ("freed_memory_is_safe", freed_memory_is_safe),
    ("helper_spaces_change_nothing_but_the_way", helper_spaces_change_nothing_but_the_way),
];

fn moves_and_says_so(machine: &Machine) -> Result<()> {
    let prefetcher = Prefetcher::builder(machine.mirror.clone()).chunk(2 * MIB).build()?;
    let data = filled(8 * MIB)?;
    let outcome = prefetcher.prefetch(&data).to(machine.gpu.vram()).submit()?.wait()?;
    assert_eq!((outcome.moved(), outcome.is_complete()), (8 * MIB, true), "{outcome}");
    assert_eq!(device_bytes(data.range())?, 8 * MIB);
    let again = prefetcher.prefetch(&data).to(machine.gpu.vram()).submit()?.wait()?;
    assert_eq!((again.moved(), again.already_there()), (0, 8 * MIB), "{again}");
    let back = prefetcher.prefetch(&data).to_system().submit()?.wait()?;
    assert_eq!(back.moved(), 8 * MIB, "{back}");
    assert_eq!(device_bytes(data.range())?, 0);
    let unseen =
        prefetcher.prefetch(&data).to(machine.gpu.vram()).observe(Observe::Nothing).submit()?.wait()?;
    assert!(!unseen.is_observed() && unseen.requested() == 8 * MIB);
    assert_eq!(device_bytes(data.range())?, 8 * MIB);
    assert_intact(&data);
    Ok(())
}

fn many_requests_at_once(machine: &Machine) -> Result<()> {
    let prefetcher = Prefetcher::builder(machine.mirror.clone()).threads(3).chunk(MIB).build()?;
    let data = filled(16 * MIB)?;
    // Submitted by several threads, in pieces of odd sizes, each page once.
    let pages = data.range().pages();
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < pages {
        let count = (1 + at * 7 % 61).min(pages - at);
        pieces.push(part(&data, at * 4096, count * 4096));
        at += count;
    }
    let moved: u64 = std::thread::scope(|scope| {
        let submitters: Vec<_> = (0..4)
            .map(|thread| {
                let (prefetcher, pieces) = (&prefetcher, &pieces);
                scope.spawn(move || -> Result<u64> {
                    let own: Vec<_> = pieces.iter().skip(thread).step_by(4).collect();
                    let pending = own
                        .iter()
                        .map(|&&piece| prefetcher.prefetch_range(piece).to(machine.gpu.vram()).submit())
                        .collect::<Result<Vec<_>>>()?;
                    let mut moved = 0;
                    for (pending, piece) in pending.into_iter().zip(own) {
                        let outcome = pending.wait()?;
                        assert_eq!(outcome.requested(), piece.len());
                        assert!(outcome.is_complete(), "{outcome}");
                        moved += outcome.moved() + outcome.already_there();
                    }
                    Ok(moved)
                })
            })
            .collect();
        submitters.into_iter().map(|thread| thread.join().expect("no panic")).sum::<Result<u64>>()
    })?;
    assert_eq!(moved, 16 * MIB);
    let stats = prefetcher.stats();
    assert_eq!(stats.requests, pieces.len() as u64);
    assert_intact(&data);
    Ok(())
}

fn unmapped_parts_are_refused_and_the_rest_moves(machine: &Machine) -> Result<()> {
    let prefetcher = Prefetcher::builder(machine.mirror.clone()).chunk(2 * MIB).build()?;
    // Far from where the kernel puts anything by itself, so that the hole stays one.
    let start = std::num::NonZero::new(0x1200_0000_0000usize).expect("not null");
    let (prot, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
    let map = |at: u64, len: u64| {
        let at = start.checked_add(at as usize).expect("a low address");
        let len = std::num::NonZero::new(len as usize).expect("not empty");
        // SAFETY: the kernel refuses addresses where something is, so nothing existing is replaced.
        let mapped = unsafe { mmap_anonymous(Some(at), len, prot, flags | MapFlags::MAP_FIXED_NOREPLACE) };
        mapped.expect("free addresses");
        PageRange::new(at.get() as u64, len.get() as u64)
    };
    let (left, right) = (map(0, 3 * MIB)?, map(4 * MIB, 2 * MIB)?);
    let whole = left.hull(right);
    let hole = PageRange::new(left.end(), MIB)?;
    let result = prefetcher.prefetch_range(whole).to(machine.gpu.vram()).submit()?.wait();
    match result {
        Ok(outcome) => {
            assert_eq!((outcome.moved(), outcome.not_moved()), (5 * MIB, MIB), "{outcome}");
            assert_eq!(outcome.refusals()[0].range, hole);
        }
        Err(error) => panic!("a hole is not an error when observed: {error}"),
    }
    assert_eq!(device_bytes(left)?, 3 * MIB);
    for part in [left, right] {
        let at = std::ptr::NonNull::new(part.start() as *mut _).expect("not null");
        // SAFETY: a mapping made above, to which nothing refers.
        unsafe { munmap(at, part.len() as usize) }.expect("own memory can be unmapped");
    }
    Ok(())
}

fn freed_memory_is_safe(machine: &Machine) -> Result<()> {
    let prefetcher = Prefetcher::builder(machine.mirror.clone()).chunk(MIB).build()?;
    for _ in 0..8 {
        let doomed = filled(8 * MIB)?;
        let pending = prefetcher.prefetch(&doomed).to(machine.gpu.vram()).submit()?;
        drop(doomed);
        // Moved before it was freed, or not there any more: one of the two, and nothing worse.
        match pending.wait() {
            Ok(outcome) => assert_eq!(outcome.requested(), 8 * MIB),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::NotMapped | ErrorKind::MemoryKind | ErrorKind::TryAgain),
                "{error}"
            ),
        }
    }
    let data = filled(8 * MIB)?;
    assert!(prefetcher.prefetch(&data).to(machine.gpu.vram()).submit()?.wait()?.is_complete());
    assert_intact(&data);
    Ok(())
}

fn helper_spaces_change_nothing_but_the_way(machine: &Machine) -> Result<()> {
    let builder = || Prefetcher::builder(machine.mirror.clone()).threads(3).chunk(2 * MIB);
    if !machine.is_xe() {
        let error = builder().helper_spaces(true).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().is_some());
        return Ok(());
    }
    let mut outcomes = Vec::new();
    for helpers in [false, true] {
        let prefetcher = builder().helper_spaces(helpers).build()?;
        let data = filled(12 * MIB)?;
        let there = prefetcher.prefetch(&data).to(machine.gpu.vram()).submit()?.wait()?;
        drop(prefetcher);
        assert_eq!(device_bytes(data.range())?, 12 * MIB, "also when the helpers are gone");
        let again = machine.mirror.prefetch(&data).to(machine.gpu.vram()).run()?;
        assert_eq!(again.already_there(), 12 * MIB, "{again}");
        let prefetcher = builder().helper_spaces(helpers).build()?;
        let back = prefetcher.prefetch_range(part(&data, 0, 6 * MIB)).to_system().submit()?.wait()?;
        assert_eq!(device_bytes(data.range())?, 6 * MIB);
        assert_intact(&data);
        outcomes.push((there, back));
    }
    assert_eq!(outcomes[0], outcomes[1]);
    Ok(())
}
