//! What moves and what does not: the table of page kinds, each with the answer of `drm_pagemap_migrate_to_devmem`.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

use super::*;
use crate::pagemap::{Atomicity, Windows};

fn whole() -> MigrateOptions {
    MigrateOptions::new().windows(Windows::Blocks(MB2)).atomicity(Atomicity::Range)
}

/// Asserts that a migration is refused with this kind and errno, and changed nothing. Tells the text.
#[track_caller]
fn refused(
    space: &Space,
    vram: &VramRegion,
    range: PageRange,
    options: &MigrateOptions,
    kind: ErrorKind,
    code: i32,
) -> String {
    let before = device_bytes(space, range);
    let used = vram.usage().unwrap().used;
    let error = space.migrate_to_devmem(vram, range, options).unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (kind, code), "{error}");
    assert_eq!(device_bytes(space, range), before);
    assert_eq!(vram.usage().unwrap().used, used);
    error.to_string()
}

#[test]
fn absent_pages_are_holes_and_read_as_zero() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::absent(MB2);
    memory.set(3 * page_size(), 77);
    let migrated = space.migrate_to_devmem(&vram, memory.range(), &whole()).unwrap();
    assert_eq!((migrated.moved, migrated.holes), (MB2, MB2 - page_size()));
    assert_eq!(device_bytes(&space, memory.range()), MB2);
    let mut bytes = [1u8; 64];
    space.device_read(memory.start() + 9 * page_size(), &mut bytes).unwrap();
    assert_eq!(bytes, [0; 64]);
    assert_eq!(memory.get(9 * page_size()), 0);
    assert_eq!(memory.get(3 * page_size()), 77);
    assert_eq!(device_bytes(&space, memory.range()), 0);
}

#[test]
fn zero_pages_move() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::absent(64 << 10);
    assert!((0..memory.pages()).all(|page| memory.get(page * page_size()) == 0));
    let migrated = space.migrate_to_devmem(&vram, memory.range(), &whole()).unwrap();
    assert_eq!(migrated.moved, 64 << 10);
    assert!((0..memory.pages()).all(|page| memory.get(page * page_size()) == 0));
}

#[test]
fn read_only_memory_is_refused() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    memory.protect(memory.range(), MprotectFlags::READ);
    refused(&space, &vram, memory.range(), &whole(), ErrorKind::MemoryKind, libc::EPERM);
    memory.check();
}

#[test]
fn executable_memory_is_refused() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    memory.protect(memory.range(), MprotectFlags::READ | MprotectFlags::WRITE | MprotectFlags::EXEC);
    refused(&space, &vram, memory.range(), &whole(), ErrorKind::MemoryKind, libc::EINVAL);
    memory.check();
}

#[test]
fn locked_memory_is_refused_with_its_cause() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(64 << 10);
    // SAFETY: locks pages of the test's own mapping.
    unsafe { rustix::mm::mlock(memory.start() as *mut _, 64 << 10) }.unwrap();
    let text = refused(&space, &vram, memory.range(), &whole(), ErrorKind::MemoryKind, libc::EINVAL);
    assert!(text.contains("mlock"), "{text}");
    memory.check();
    // SAFETY: as above.
    unsafe { rustix::mm::munlock(memory.start() as *mut _, 64 << 10) }.unwrap();
    assert_eq!(space.migrate_to_devmem(&vram, memory.range(), &whole()).unwrap().moved, 64 << 10);
    memory.check();
}

#[test]
fn shared_memory_is_refused() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::mapped(MB2, MapFlags::SHARED);
    memory.fill();
    refused(&space, &vram, memory.range(), &whole(), ErrorKind::MemoryKind, libc::EBUSY);
    memory.check();
}

#[test]
fn private_file_pages_are_refused_even_after_copy_on_write() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let path = std::env::temp_dir().join(format!("drm-pagemap-file-{}", std::process::id()));
    let mut file = std::fs::File::create_new(&path).unwrap();
    file.write_all(&vec![5u8; 64 << 10]).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new private mapping of a file that nobody else has.
    let at =
        unsafe { rustix::mm::mmap(std::ptr::null_mut(), 64 << 10, prot, MapFlags::PRIVATE, file.as_fd(), 0) };
    let at = at.unwrap();
    // SAFETY: a byte of the mapping, which breaks the sharing with the page cache.
    unsafe { at.cast::<u8>().write_volatile(6) };
    let range = PageRange::new(at as u64, 64 << 10).unwrap();
    refused(&space, &vram, range, &whole(), ErrorKind::MemoryKind, libc::EBUSY);
    // SAFETY: the mapping made above.
    unsafe { rustix::mm::munmap(at, 64 << 10) }.unwrap();
}

#[test]
fn hugetlb_memory_is_refused() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let (prot, flags) =
        (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::NORESERVE);
    // SAFETY: a new mapping, which is not touched: no huge page need be set aside for it.
    let Ok(at) = (unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), MB2 as usize, prot, flags) })
    else {
        return skipped("this kernel maps no hugetlb memory");
    };
    let range = PageRange::new(at as u64, MB2).unwrap();
    refused(&space, &vram, range, &whole(), ErrorKind::MemoryKind, libc::EINVAL);
    // SAFETY: the mapping made above.
    unsafe { rustix::mm::munmap(at, MB2 as usize) }.unwrap();
}

#[test]
fn addresses_without_a_mapping_are_refused() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(2 * MB2);
    let (upper, range) = (memory.part(memory.pages() / 2, memory.pages() / 2), memory.range());
    memory.unmap(upper);
    refused(&space, &vram, upper, &whole(), ErrorKind::NotMapped, libc::ENOENT);
    refused(&space, &vram, range, &whole(), ErrorKind::NotMapped, libc::EINVAL);
    // Window by window, what comes before the gap moves.
    let error = space.migrate_to_devmem(&vram, range, &MigrateOptions::new()).unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::NotMapped, libc::ENOENT));
    assert_eq!(device_bytes(&space, range), MB2);
    memory.check_pages(0..memory.pages() / 2);
    assert_eq!(space.migrate_to_ram(range).unwrap().moved, 0);
    let absurd = PageRange::new(u64::MAX - MB2 + 1 - page_size(), page_size()).unwrap();
    refused(&space, &vram, absurd, &whole(), ErrorKind::NotMapped, libc::ENOENT);
}

#[test]
fn pages_pinned_for_io_are_refused_and_the_range_is_as_before() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(16 * page_size());
    let Some(ring) = pin(memory.part(5, 1)) else {
        return skipped("no io_uring here");
    };
    let text = refused(&space, &vram, memory.range(), &whole(), ErrorKind::Busy, libc::EBUSY);
    assert!(text.contains("pinned"), "{text}");
    memory.check();
    let best = whole().atomicity(Atomicity::BestEffort);
    let migrated = space.migrate_to_devmem(&vram, memory.range(), &best).unwrap();
    assert_eq!((migrated.moved, migrated.refused), (15 * page_size(), page_size()));
    assert_eq!(space.device_bytes(memory.part(5, 1), None).unwrap(), 0);
    assert_eq!(memory.get(5 * page_size()), Memory::pattern(5));
    assert_eq!(
        device_bytes(&space, memory.range()),
        15 * page_size(),
        "a page that stayed is no device page"
    );
    memory.check();
    drop(ring);
    // The kernel releases the pin some time after the ring is closed.
    while space.migrate_to_devmem(&vram, memory.range(), &whole()).is_err() {
        std::thread::yield_now();
    }
    assert_eq!(device_bytes(&space, memory.range()), 16 * page_size());
    memory.check();
}

/// Pins pages as a fixed buffer of an io_uring, until the descriptor is closed.
fn pin(range: PageRange) -> Option<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    let mut params = [0u8; 120];
    // SAFETY: the kernel reads and writes the 120 bytes of `struct io_uring_params`, zeroed.
    let raw = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    if raw < 0 {
        return None;
    }
    // SAFETY: a new descriptor.
    let ring = unsafe { std::os::fd::OwnedFd::from_raw_fd(raw as i32) };
    let iovec = libc::iovec { iov_base: range.start() as *mut _, iov_len: range.len() as usize };
    // SAFETY: registers one buffer (opcode 0, IORING_REGISTER_BUFFERS) of the test's own memory.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), 0, &iovec, 1) };
    (result == 0).then_some(ring)
}

#[test]
fn pages_lent_to_a_pipe_move() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(4 * page_size());
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let iovec = libc::iovec { iov_base: memory.start() as *mut _, iov_len: page_size() as usize };
    // SAFETY: lends the test's own page to the pipe.
    let lent = unsafe { libc::vmsplice(writer.as_raw_fd(), &iovec, 1, 0) };
    assert_eq!(lent, page_size() as isize);
    assert_eq!(space.migrate_to_devmem(&vram, memory.range(), &whole()).unwrap().moved, 4 * page_size());
    let mut bytes = vec![0u8; page_size() as usize];
    rustix::io::read(&reader, &mut bytes).unwrap();
    assert_eq!(bytes[0], Memory::pattern(0));
    memory.check();
}

#[test]
fn pages_shared_with_a_fork_move_after_being_written() {
    if !alone!(pages_shared_with_a_fork_move_after_being_written) {
        return;
    }
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(16 * page_size());
    // The child lives until told to go, so that the pages stay shared.
    let child = super::fork::Child::start(|| 0);
    refused(&space, &vram, memory.range(), &whole().retry(false), ErrorKind::Busy, libc::EBUSY);
    memory.check();
    let migrated = space.migrate_to_devmem(&vram, memory.range(), &whole()).unwrap();
    assert_eq!(migrated.moved, 16 * page_size());
    assert_eq!(child.finish(), Some(0));
    memory.check();
}

#[test]
fn huge_pages_move_whole_and_stay_huge() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::huge(MB2);
    if !memory.is_huge() {
        return skipped("the system gave no huge page");
    }
    assert_eq!(space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap().moved, MB2);
    assert!(!memory.is_huge());
    assert_eq!(memory.get(100), 0);
    assert!(memory.is_huge());
    assert_eq!(device_bytes(&space, memory.range()), 0);
    memory.check();
}

#[test]
fn huge_pages_stay_huge_where_small_pages_were_before() {
    let Some((space, vram)) = simulated(MB2) else { return };
    let (small, huge) = (Memory::filled(MB2), Memory::huge(MB2));
    if !huge.is_huge() {
        return skipped("the system gave no huge page");
    }
    for _ in 0..3 {
        space.migrate_to_devmem(&vram, small.range(), &MigrateOptions::new()).unwrap();
        small.check();
        space.migrate_to_devmem(&vram, huge.range(), &MigrateOptions::new()).unwrap();
        huge.check();
        assert!(huge.is_huge());
    }
}

#[test]
fn part_of_a_huge_page_moves_alone() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::huge(MB2);
    let part = memory.part(16, 16);
    assert_eq!(space.migrate_to_devmem(&vram, part, &MigrateOptions::new()).unwrap().moved, part.len());
    assert_eq!(device_bytes(&space, memory.range()), part.len());
    memory.check();
}

#[test]
fn what_is_there_already_stays_and_counts() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(2 * MB2);
    space.migrate_to_devmem(&vram, memory.range(), &whole()).unwrap();
    let again = space.migrate_to_devmem(&vram, memory.range(), &whole()).unwrap();
    assert_eq!((again.moved, again.already), (0, 2 * MB2));
    assert_eq!(vram.usage().unwrap().counters.windows_in, 2);
    memory.check();
}

#[test]
fn a_range_that_is_partly_there_is_fragmented() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    let part = memory.part(32, 16);
    space.migrate_to_devmem(&vram, part, &MigrateOptions::new()).unwrap();
    refused(&space, &vram, memory.range(), &whole(), ErrorKind::Busy, libc::EBUSY);
    // Window by window there is no such rule: the rest goes around it.
    let rest = space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    assert_eq!((rest.moved, rest.already), (MB2 - part.len(), part.len()));
    memory.check();
}

#[test]
fn another_userfaultfd_keeps_its_range() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let Some((other, other_vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    other.migrate_to_devmem(&other_vram, memory.range(), &whole()).unwrap();
    let text = refused(&space, &vram, memory.range(), &whole(), ErrorKind::Busy, libc::EBUSY);
    assert!(text.contains("another userfaultfd"), "{text}");
    other.migrate_to_ram(memory.range()).unwrap();
    space.migrate_to_devmem(&vram, memory.range(), &whole()).unwrap();
    memory.check();
    let wrong = other.migrate_to_devmem(&vram, memory.range(), &whole()).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InvalidArgument, "{wrong}");
}

#[test]
fn best_effort_goes_around_what_belongs_to_another_userfaultfd() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let Some((other, other_vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    let block = 16 * page_size();
    let theirs = memory.part(3 * 16, 16);
    other.migrate_to_devmem(&other_vram, theirs, &whole()).unwrap();
    let best = whole().windows(Windows::Blocks(block)).atomicity(Atomicity::BestEffort);
    let migrated = space.migrate_to_devmem(&vram, memory.range(), &best).unwrap();
    assert_eq!((migrated.moved, migrated.refused), (MB2 - block, block));
    assert_eq!((device_bytes(&space, theirs), device_bytes(&other, theirs)), (0, block));
    memory.check();
}

#[test]
fn the_stack_of_the_caller_is_refused_without_kernel_touches() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let here = [0u8; 40_000];
    let error =
        space.migrate_to_devmem(&vram, PageRange::covering(&here), &MigrateOptions::new()).unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::Busy, libc::EBUSY), "{error}");
}

#[test]
fn the_engines_own_memory_is_refused() {
    let Some(space) = space() else { return };
    let before = pools();
    let vram = VramRegion::new(&space, 96 * MB2).unwrap();
    let pool = pools().into_iter().find(|range| !before.contains(range)).unwrap();
    let error = space.migrate_to_devmem(&vram, pool, &MigrateOptions::new()).unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::Busy, libc::EBUSY), "{error}");
    assert!(error.reason().contains("engine"), "{error}");
    let error = space.watch(pool).unwrap_err();
    assert_eq!(errno(&error), libc::EBUSY, "{error}");
}

/// Mappings of the size of the test's pool.
fn pools() -> Vec<PageRange> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ranges = maps.lines().filter_map(|line| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        PageRange::new(start, end - start).ok()
    });
    ranges.filter(|range| range.len() == 96 * MB2).collect()
}

#[test]
fn a_discarded_page_is_a_hole_again() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(16 * page_size());
    memory.advise(memory.part(3, 2), Advice::LinuxDontNeed).unwrap();
    let migrated = space.migrate_to_devmem(&vram, memory.range(), &whole()).unwrap();
    assert_eq!((migrated.moved, migrated.holes), (16 * page_size(), 2 * page_size()));
    assert_eq!(memory.get(3 * page_size()), 0);
    memory.check_pages(5..16);
}

#[test]
fn an_empty_range_is_nothing_to_do() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let nothing = PageRange::new(0, 0).unwrap();
    assert_eq!(space.migrate_to_devmem(&vram, nothing, &whole()).unwrap(), Default::default());
    assert_eq!(space.migrate_to_ram(nothing).unwrap(), Default::default());
    assert_eq!(space.placement(nothing).unwrap(), []);
}
