//! Huge pages: kernels since 7.0 move them whole, earlier ones split them.

use drm_pagemap::range::page_size;
use rustix::mm::MprotectFlags;

use crate::case::Case;
use crate::check::{check, look};
use crate::device::Device;
use crate::memory::Memory;

const HUGE: usize = 2 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let enabled = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let possible = !enabled.is_empty() && !enabled.contains("[never]");
    let case = |name, run| Case::new(name, run).needs(possible, "transparent huge pages are off");
    vec![
        case("a huge page goes to the device and one access brings it back", whole),
        case("an absent huge page goes to the device", absent),
        case("a huge page on the device is split by mprotect and madvise", split),
        case("one small page out of a huge one", one_of_many),
        case("huge pages in both places", both),
        case("populating brings a huge page back whole", populated),
        case("a huge page that moves to other addresses", remapped),
        case("a huge page of which half is unmapped or discarded", halved),
        case("a reference to one small page brings the huge one back", referenced),
        case("collapsing brings small pages back", collapsed),
    ]
}

/// Aligned pages of `count` huge pages, and the memory they lie in.
fn aligned(count: usize) -> (Memory, std::ops::Range<usize>) {
    let pages = HUGE / page_size() as usize;
    let memory = Memory::private((count + 1) * pages);
    let start = memory.range().start() as usize;
    let first = (start.next_multiple_of(HUGE) - start) / page_size() as usize;
    let range = first..first + count * pages;
    memory.advise(range.clone(), libc::MADV_HUGEPAGE).unwrap();
    (memory, range)
}

fn repeated(parts: &[(&str, usize)]) -> String {
    parts.iter().map(|(letter, count)| letter.repeat(*count)).collect()
}

fn whole() {
    let device = Device::first();
    let (memory, pages) = aligned(1);
    let (range, count) = (memory.part(pages.clone()), pages.len());
    memory.write(pages.start..pages.start + 1);
    check(&device, range, &"s".repeat(count));
    assert!(look(range).runs()[0].is_huge(), "the kernel gave a huge page");
    device.take_all(range);
    check(&device, range, &"D".repeat(count));
    memory.read(pages.start + 128..pages.start + 129);
    let residency = look(range);
    let back = crate::check::letters(&residency).matches('s').count();
    assert!(back == 1 || back == count, "one small page comes back, or all of the huge one: {back}");
    check(&device, range, &crate::check::letters(&residency));
}

fn absent() {
    let device = Device::first();
    let (memory, pages) = aligned(1);
    let range = memory.part(pages.clone());
    device.take_all(range);
    check(&device, range, &"D".repeat(pages.len()));
}

fn split() {
    let device = Device::first();
    let (memory, pages) = aligned(1);
    let (range, count, first) = (memory.part(pages.clone()), pages.len(), pages.start);
    memory.write(first..first + 1);
    device.take_all(range);
    memory.protect(first + 256..first + 257, MprotectFlags::READ);
    check(&device, range, &"D".repeat(count));
    assert!(!look(range).runs()[0].is_huge(), "the entry is split");
    memory.advise(first + 10..first + 11, libc::MADV_DONTNEED).unwrap();
    check(&device, range, &repeated(&[("D", 10), (".", 1), ("D", count - 11)]));
    memory.read(first + 300..first + 301);
    check(&device, range, &repeated(&[("D", 10), (".", 1), ("D", 289), ("s", 1), ("D", count - 301)]));
}

fn one_of_many() {
    let device = Device::first();
    let (memory, pages) = aligned(1);
    let (range, count, first) = (memory.part(pages.clone()), pages.len(), pages.start);
    // Pages without contents would become zero pages when the huge page is split.
    memory.write(pages);
    device.take_all(memory.part(first + 7..first + 8));
    check(&device, range, &repeated(&[("s", 7), ("D", 1), ("s", count - 8)]));
}

fn both() {
    let device = Device::first();
    let (memory, pages) = aligned(3);
    let size = pages.len() / 3;
    let range = memory.part(pages.clone());
    memory.write(pages.start..pages.start + 1);
    memory.write(pages.start + 2 * size..pages.start + 2 * size + 1);
    device.take_all(memory.part(pages.start..pages.start + size));
    check(&device, range, &repeated(&[("D", size), (".", size), ("s", size)]));
    // Cut through the huge entries.
    let middle = memory.part(pages.start + 5..pages.end - 5);
    check(&device, middle, &repeated(&[("D", size - 5), (".", size), ("s", size - 5)]));
}

/// How many of the pages are back; what is not back is on the device.
fn back(device: &Device, range: drm_pagemap::PageRange) -> usize {
    let letters = crate::check::letters(&look(range));
    check(device, range, &letters);
    assert!(letters.chars().all(|letter| matches!(letter, 's' | 'D')), "{letters}");
    letters.matches('s').count()
}

fn populated() {
    const MADV_POPULATE_READ: i32 = 22;
    let device = Device::first();
    let (memory, pages) = aligned(1);
    let range = memory.part(pages.clone());
    memory.write(pages.clone());
    device.take_all(range);
    check(&device, range, &"D".repeat(pages.len()));
    memory.advise(pages.clone(), MADV_POPULATE_READ).unwrap();
    assert_eq!(back(&device, range), pages.len());
}

fn remapped() {
    let device = Device::first();
    let (memory, pages) = aligned(1);
    let (to, there) = aligned(1);
    memory.write(pages.clone());
    device.take_all(memory.part(pages.clone()));
    let was_huge = look(memory.part(pages.clone())).runs()[0].is_huge();
    let (from, new) = (memory.part(pages.clone()), to.part(there.clone()));
    // SAFETY: both ranges are mappings of this test; the old one is not used again, and the new one stays within its own.
    let moved = unsafe {
        rustix::mm::mremap_fixed(
            from.start() as *mut _,
            HUGE,
            HUGE,
            rustix::mm::MremapFlags::MAYMOVE,
            new.start() as *mut _,
        )
    };
    assert_eq!(moved.unwrap() as u64, new.start());
    check(&device, new, &"D".repeat(pages.len()));
    assert_eq!(look(new).runs()[0].is_huge(), was_huge, "the entry moves as it is");
}

fn halved() {
    let device = Device::first();
    let (memory, pages) = aligned(1);
    let (range, count, first) = (memory.part(pages.clone()), pages.len(), pages.start);
    memory.write(pages.clone());
    device.take_all(range);
    memory.advise(first + 3..first + 4, libc::MADV_DONTNEED).unwrap();
    check(&device, range, &repeated(&[("D", 3), (".", 1), ("D", count - 4)]));
    let (memory, _rest) = memory.split(first + count / 2..pages.end);
    let lower = memory.part(first..first + count / 2);
    check(&device, lower, &repeated(&[("D", 3), (".", 1), ("D", count / 2 - 4)]));
    // The device's snapshot refuses what is not mapped.
    let expected = repeated(&[("D", 3), (".", 1), ("D", count / 2 - 4), (".", count / 2)]);
    assert_eq!(crate::check::letters(&look(range)), expected);
}

fn referenced() {
    let device = Device::first();
    let (memory, pages) = aligned(1);
    let (range, first) = (memory.part(pages.clone()), pages.start);
    memory.write(pages.clone());
    device.take_all(range);
    let was_huge = look(range).runs()[0].is_huge();
    let _pipe = crate::policy::lend(memory.part(first + 9..first + 10));
    assert_eq!(back(&device, range), if was_huge { pages.len() } else { 1 });
}

fn collapsed() {
    const MADV_COLLAPSE: i32 = 25;
    let device = Device::first();
    let (memory, pages) = aligned(1);
    let range = memory.part(pages.clone());
    memory.advise(pages.clone(), libc::MADV_NOHUGEPAGE).unwrap();
    memory.write(pages.clone());
    device.take_all(range);
    check(&device, range, &"D".repeat(pages.len()));
    memory.advise(pages.clone(), libc::MADV_HUGEPAGE).unwrap();
    match memory.advise(pages.clone(), MADV_COLLAPSE) {
        Ok(()) => assert_eq!(back(&device, range), pages.len(), "one huge page of system memory"),
        Err(error) => {
            check(&device, range, &"D".repeat(pages.len()));
            println!("collapsing is refused: {error}");
        }
    }
}
