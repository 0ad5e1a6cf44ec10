//! Preparing pages before they move.

use drm_pagemap::prefetcher::Prepare;
use drm_pagemap::{Prefetcher, Result, residency};

use crate::Test;
use crate::machine::{MIB, Machine, assert_intact, device_bytes, filled, part};

pub(crate) const TESTS: &[Test] = &[
    ("prepare/pages_in_vram_are_left_there", pages_in_vram_are_left_there),
    ("prepare/huge_pages", huge_pages),
];

fn pages_in_vram_are_left_there(machine: &Machine) -> Result<()> {
    let prefetcher = Prefetcher::builder(machine.mirror.clone()).chunk(2 * MIB).build()?;
    let data = filled(8 * MIB)?;
    let there = part(&data, 2 * MIB, 2 * MIB);
    assert!(prefetcher.prefetch_range(there).to(machine.gpu.vram()).submit()?.wait()?.is_complete());
    for prepare in [Prepare::Populate, Prepare::HugePages] {
        let outcome = prefetcher.prefetch(&data).to(machine.gpu.vram()).prepare(prepare).submit()?.wait()?;
        assert!(outcome.is_complete(), "{outcome}");
        assert!(outcome.already_there() >= 2 * MIB, "{prepare:?} brought nothing back: {outcome}");
        assert_eq!(device_bytes(data.range())?, 8 * MIB);
    }
    assert_intact(&data);
    Ok(())
}

fn huge_pages(machine: &Machine) -> Result<()> {
    let modes = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let possible = modes.contains("[madvise]") || modes.contains("[always]");
    let prefetcher = Prefetcher::builder(machine.mirror.clone()).chunk(4 * MIB).build()?;
    let data = filled(8 * MIB)?;
    // SAFETY: the buffer's own pages; the advice chooses page sizes, and the pages made anew below are small.
    unsafe {
        let start = std::ptr::NonNull::new(data.range().start() as *mut _).unwrap();
        let len = data.range().len() as usize;
        nix::sys::mman::madvise(start, len, nix::sys::mman::MmapAdvise::MADV_DONTNEED).expect("discards");
        nix::sys::mman::madvise(start, len, nix::sys::mman::MmapAdvise::MADV_NOHUGEPAGE).expect("advises");
    }
    let mut data = data;
    let pattern = filled(8 * MIB)?;
    let quarter = data.len() / 4;
    // The first quarter in small pages, the others untouched.
    data[..quarter].copy_from_slice(&pattern[..quarter]);
    let small = residency::of_range(data.range())?;
    assert!(small.runs().iter().all(|run| !run.is_huge()), "{small}");
    let outcome = prefetcher.prefetch(&data).to_system().prepare(Prepare::HugePages).submit()?.wait()?;
    assert!(outcome.is_complete(), "{outcome}");
    let now = residency::of_range(data.range())?;
    let huge: u64 = now.runs().iter().filter(|run| run.is_huge()).map(|run| run.len()).sum();
    if possible {
        // Blocks for which no huge page could be had are counted.
        assert_eq!(huge + prefetcher.stats().unprepared, 8 * MIB, "{now}");
    }
    assert_eq!(data[..quarter], pattern[..quarter]);
    assert!(data[quarter..].iter().all(|&word| word == 0));
    Ok(())
}
