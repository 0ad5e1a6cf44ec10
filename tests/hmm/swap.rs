//! Device pages beside swapped-out ones.

use std::time::Duration;

use drm_pagemap::PageRange;
use drm_pagemap::range::page_size;
use drm_pagemap::residency::{Depth, Place, Residency, Scanner};

use crate::case::Case;
use crate::check::{check, check_counts, look};
use crate::device::Device;
use crate::memory::Memory;
use crate::prepare::has_swap;

pub(crate) fn cases() -> Vec<Case> {
    let root = rustix::process::getuid().is_root();
    let at_once = has_swap() && {
        let memory = Memory::private(4);
        memory.write(0..4);
        swaps_out(&memory, 0..4)
    };
    let case = |name, run| Case::new(name, run).needs(has_swap(), "no swap area");
    vec![
        case("device pages and swapped-out pages", beside).needs(at_once, "pages stay in the swap cache"),
        case("a range without swap in a mapping with it", part_of_a_mapping)
            .needs(at_once, "pages stay in the swap cache"),
        case("the number of device pages is exact whatever is in the swap cache", cached),
        case("ordinary users meet doubt, and are told how much", doubt)
            .needs(!root, "root sees entry types and has no doubt")
            .needs(!at_once, "nothing stays in the swap cache"),
    ]
}

/// Swaps pages out. `false` when copies of them stay in the swap cache.
pub(crate) fn swaps_out(memory: &Memory, pages: std::ops::Range<usize>) -> bool {
    let range = memory.part(pages.clone());
    for _ in 0..20 {
        memory.advise(pages.clone(), libc::MADV_PAGEOUT).unwrap();
        if swapped_and_uncached(range) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn swap_out(memory: &Memory, pages: std::ops::Range<usize>) {
    assert!(swaps_out(memory, pages.clone()), "the kernel keeps pages {pages:?} in memory");
}

/// Neither present nor in the swap cache, by `mincore`.
fn swapped_and_uncached(range: PageRange) -> bool {
    let mut bytes = vec![0u8; range.pages() as usize];
    // SAFETY: the kernel writes one byte for each page.
    let result = unsafe { libc::mincore(range.start() as *mut _, range.len() as usize, bytes.as_mut_ptr()) };
    assert_eq!(result, 0);
    bytes.iter().all(|byte| byte & 1 == 0)
}

fn beside() {
    let device = Device::first();
    let memory = Memory::private(24);
    memory.write(0..20);
    swap_out(&memory, 4..8);
    device.take(memory.part(10..14));
    check(&device, memory.range(), "sssswwwwssDDDDssssss....");
    // A swapped page comes in and goes to the device.
    memory.write(4..5);
    device.take(memory.part(4..5));
    check(&device, memory.range(), "ssssDwwwssDDDDssssss....");
}

fn part_of_a_mapping() {
    let device = Device::first();
    let memory = Memory::private(64);
    memory.write(0..64);
    swap_out(&memory, 0..8);
    swap_out(&memory, 56..64);
    device.take(memory.part(20..24));
    check(&device, memory.part(16..32), "ssssDDDDssssssss");
    let expected = ["DDDD", &"s".repeat(32), "wwww"].concat();
    check(&device, memory.part(20..60), &expected);
}

fn cached() {
    let device = Device::first();
    let memory = Memory::private(512);
    memory.write(0..512);
    for page in (0..512).step_by(5) {
        device.take(memory.part(page..page + 1));
    }
    let mut scanner = Scanner::new().unwrap().with_depth(Depth::Settled);
    let mut residency = Residency::new();
    // From all in memory through all in the swap cache to all swapped out and in again.
    for round in 0..12 {
        memory.advise(0..512, libc::MADV_PAGEOUT).unwrap();
        for page in (1..512).step_by(5).take(round * 10) {
            memory.read(page..page + 1);
        }
        scanner.scan(memory.range(), &mut residency).unwrap();
        check_counts(&device, memory.range(), &residency);
    }
    // Reading brings neighbours into the cache as well.
    memory.read(2..3);
    scanner.scan(memory.range(), &mut residency).unwrap();
    check_counts(&device, memory.range(), &residency);
}

fn doubt() {
    let device = Device::first();
    let memory = Memory::private(64);
    memory.write(0..64);
    device.take(memory.part(0..16));
    memory.advise(16..64, libc::MADV_PAGEOUT).unwrap();
    let mut residency = Residency::new();
    for _ in 0..200 {
        residency = look(memory.range());
        if residency.summary().bytes(Place::Ambiguous) > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(residency.summary().bytes(Place::Ambiguous) > 0, "nothing is in the swap cache: {residency:?}");
    check_counts(&device, memory.range(), &residency);
    assert_eq!(residency.ambiguities().len(), 1);
    let exact = 16 * page_size();
    assert_eq!(residency.ambiguities()[0].device_bytes_in_vma(), exact..=exact);

    // Only a part of the mapping: bounds, and the truth within.
    let part = memory.part(8..24);
    let residency = look(part);
    let device_pages = residency.summary().device_bytes();
    assert!(device_pages.contains(&(8 * page_size())), "{device_pages:?}");
}
