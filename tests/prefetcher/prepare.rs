//! Preparing pages before they move.

use drm_pagemap::prefetcher::Prepare;
use drm_pagemap::residency::{self, Place};
use drm_pagemap::{Buffer, PageRange, Prefetcher, Result};

use crate::Test;
use crate::machine::{MIB, Machine, assert_intact, device_bytes, filled, part};

pub const TESTS: &[Test] = &[
    ("prepare/populate_makes_pages_in_system_memory", populate),
    ("prepare/pages_in_vram_are_left_there", pages_in_vram_are_left_there),
    ("prepare/huge_pages", huge_pages),
    ("prepare/files_are_not_touched", files_are_not_touched),
];

fn absent(range: PageRange) -> Result<u64> {
    Ok(residency::of_range(range)?.summary().bytes(Place::Absent))
}

fn populate(machine: &Machine) -> Result<()> {
    let prefetcher = Prefetcher::new(machine.mirror.clone())?;
    let data = Buffer::<u64>::zeroed(4 * MIB as usize / 8)?;
    assert_eq!(absent(data.range())?, 4 * MIB);
    let outcome = prefetcher.prefetch(&data).to_system().prepare(Prepare::Populate).submit()?.wait()?;
    assert!(outcome.is_complete(), "{outcome}");
    assert_eq!(absent(data.range())?, 0);
    assert_eq!(prefetcher.stats().unprepared, 0);
    assert!(data.iter().all(|&word| word == 0));
    Ok(())
}

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

fn files_are_not_touched(machine: &Machine) -> Result<()> {
    use std::os::fd::AsRawFd;
    let file = tempfile::tempfile().expect("a file can be made");
    file.set_len(4 * MIB).expect("it can grow");
    // SAFETY: a new mapping at an address that the kernel chooses.
    let start = unsafe {
        nix::libc::mmap(
            std::ptr::null_mut(),
            4 * MIB as usize,
            nix::libc::PROT_READ | nix::libc::PROT_WRITE,
            nix::libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(start, nix::libc::MAP_FAILED);
    let range = PageRange::new(start as u64, 4 * MIB)?;
    let prefetcher = Prefetcher::new(machine.mirror.clone())?;
    let outcome = prefetcher.prefetch_range(range).to_system().prepare(Prepare::Populate).submit()?.wait()?;
    assert_eq!(outcome.requested(), 4 * MIB);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().expect("it is open"));
    // xe makes the pages of a file itself; what is prepared is not the cause, so only KFD tells.
    if !machine.is_xe() {
        assert_eq!((absent(range)?, blocks), (4 * MIB, 0), "no page of the file was made");
    }
    // SAFETY: the mapping made above, to which nothing refers any more.
    unsafe { nix::libc::munmap(start, 4 * MIB as usize) };
    Ok(())
}
