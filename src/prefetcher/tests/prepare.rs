//! What preparing does to memory, without any device.

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use super::gate::{Stage, assert_intact, filled, part};
use crate::buffer::Buffer;
use crate::prefetcher::options::Prepare;
use crate::prefetcher::prepare::Preparer;
use crate::range::{PageRange, page_size};
use crate::residency::{self, Place};

const SIZE: usize = 4 << 20;

fn bytes(range: PageRange, place: Place) -> u64 {
    residency::of_range(range).unwrap().summary().bytes(place)
}

#[test]
fn untouched_pages_are_made_where_asked() {
    let mut preparer = Preparer::new().unwrap();
    let data = Buffer::<u8>::zeroed(SIZE).unwrap();
    assert_eq!(preparer.prepare(data.range(), Prepare::Nothing), 0);
    assert_eq!(bytes(data.range(), Place::Absent), SIZE as u64);
    // Huge pages are made as a whole, so the part ends on a multiple of their size.
    let half = part(&data, 0, SIZE as u64 / 2);
    assert_eq!(preparer.prepare(half, Prepare::Populate), 0);
    assert_eq!(bytes(half, Place::Absent), 0);
    assert_eq!(bytes(data.range(), Place::Absent), SIZE as u64 / 2);
    assert!(data.iter().all(|&byte| byte == 0));
}

#[test]
fn pages_in_vram_stay_there() {
    let stage = Stage::new();
    let mut preparer = Preparer::new().unwrap();
    let data = filled(SIZE);
    let there = part(&data, 0, SIZE as u64 / 2);
    assert!(stage.mirror.prefetch_range(there).to(stage.gpu.vram()).run().unwrap().is_complete());
    assert_eq!(preparer.prepare(data.range(), Prepare::Populate), 0, "there is nothing to do");
    for how in [Prepare::Populate, Prepare::HugePages] {
        preparer.prepare(data.range(), how);
        assert_eq!(bytes(there, Place::Device), SIZE as u64 / 2, "{how:?}");
    }
    assert_intact(&data);
}

#[test]
fn only_private_writable_memory_is_prepared() {
    let mut preparer = Preparer::new().unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(SIZE as u64).unwrap();
    // SAFETY: a new mapping at addresses that the kernel chooses.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(start, libc::MAP_FAILED);
    let range = PageRange::new(start as u64, SIZE as u64).unwrap();
    for how in [Prepare::Populate, Prepare::HugePages] {
        assert_eq!(preparer.prepare(range, how), 0, "it is not to be prepared, so nothing failed");
        assert_eq!(bytes(range, Place::Absent), SIZE as u64, "{how:?}");
        assert_eq!(file.metadata().unwrap().blocks(), 0, "{how:?}");
    }
    // SAFETY: the mapping made above, to which nothing refers.
    unsafe { libc::munmap(start, SIZE) };
    // Nothing is mapped there any more (or something of another thread's that is not disturbed).
    preparer.prepare(PageRange::new(page_size(), page_size()).unwrap(), Prepare::Populate);
}
