//! Pages of 4 KiB.

use drm_pagemap::range::page_size;
use drm_pagemap::residency::{Composition, Depth, Place, Residency, Scanner};
use rustix::mm::{MapFlags, MprotectFlags};

use crate::allocations;
use crate::case::Case;
use crate::check::{check, letters, look};
use crate::device::{Device, PRIVATE, Truth};
use crate::memory::Memory;

const MADV_GUARD_INSTALL: i32 = 102;
const MADV_POPULATE_WRITE: i32 = 23;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("written, absent and zero pages go to the device and come back", there_and_back),
        Case::new("every kind of page side by side", side_by_side),
        Case::new("reading by other means brings pages back, looking does not", other_means),
        Case::new("two devices", two_devices),
        Case::new("read-only and locked memory", read_only_and_locked),
        Case::new("memory that changes its protection on the device", protection_changes),
        Case::new("advice on device pages", advice),
        Case::new("one word for a range", compositions),
        Case::new("repeated scans of device pages allocate nothing", no_allocation),
        Case::new("scans while pages move both ways", concurrent),
    ]
}

fn there_and_back() {
    let device = Device::first();
    let memory = Memory::private(8);
    memory.write(0..3);
    memory.read(3..5);
    check(&device, memory.range(), "ssszz...");
    device.take(memory.part(0..6));
    check(&device, memory.range(), "DDDDDD..");
    memory.read(1..2);
    memory.write(4..5);
    check(&device, memory.range(), "DsDDsD..");
    device.give_back(memory.range());
    check(&device, memory.range(), "ssssss..");
}

fn side_by_side() {
    let device = Device::first();
    let memory = Memory::private(16);
    memory.write(0..5);
    memory.read(6..7);
    memory.write(8..12);
    memory.advise(9..10, MADV_GUARD_INSTALL).unwrap();
    device.take(memory.part(0..4));
    device.take(memory.part(10..12));
    memory.write(13..14);
    check(&device, memory.range(), "DDDDs.z.sgDD.s..");
    check(&device, memory.part(3..11), "Ds.z.sgD");
    let residency = look(memory.range());
    assert_eq!(residency.runs_in(Place::Device).map(|run| run.range().pages()).collect::<Vec<_>>(), [4, 2]);
    assert!(residency.ambiguities().is_empty());
}

fn other_means() {
    let device = Device::first();
    let memory = Memory::private(4);
    memory.write(0..4);
    device.take(memory.range());
    let mut scanner = Scanner::new().unwrap().with_coherent(true);
    let mut residency = Residency::new();
    for _ in 0..3 {
        scanner.scan(memory.range(), &mut residency).unwrap();
    }
    check(&device, memory.range(), "DDDD");
    // SAFETY: the page is mapped and nobody writes to it.
    let page = unsafe { std::slice::from_raw_parts(memory.part(1..2).start() as *const u8, 8) };
    let sink = tempfile::tempfile().unwrap();
    rustix::io::write(&sink, page).unwrap();
    check(&device, memory.range(), "DsDD");
}

fn two_devices() {
    let [first, second] = PRIVATE.map(|number| Device::open(number).unwrap());
    let memory = Memory::private(6);
    memory.write(0..6);
    first.take(memory.part(0..2));
    second.take(memory.part(2..4));
    // Each device knows its own pages only.
    let own = |device: &Device| {
        device.snapshot(memory.range()).iter().map(|seen| seen.truth == Truth::Private).collect::<Vec<_>>()
    };
    assert_eq!(own(&first), [true, true, false, false, false, false]);
    assert_eq!(own(&second), [false, false, true, true, false, false]);
    assert_eq!(letters(&look(memory.range())), "DDDDss");
}

fn read_only_and_locked() {
    let device = Device::first();
    let memory = Memory::private(8);
    memory.write(0..8);
    memory.protect(0..4, MprotectFlags::READ);
    // SAFETY: locking changes no contents.
    unsafe { rustix::mm::mlock(memory.part(4..6).start() as *mut _, 2 * page_size() as usize) }.unwrap();
    device.take(memory.range());
    check(&device, memory.range(), "DDDDDDDD");
}

fn protection_changes() {
    let device = Device::first();
    let memory = Memory::private(6);
    memory.write(0..6);
    device.take(memory.range());
    memory.protect(1..2, MprotectFlags::READ);
    memory.protect(3..5, MprotectFlags::empty());
    let letters = crate::check::letters(&look(memory.range()));
    assert_eq!(letters, "DDDDDD", "the device's snapshot refuses memory without access");
    memory.protect(0..6, MprotectFlags::READ | MprotectFlags::WRITE);
    check(&device, memory.range(), "DDDDDD");
    // SAFETY: locking changes no contents.
    unsafe { rustix::mm::mlock(memory.part(0..2).start() as *mut _, 2 * page_size() as usize) }.unwrap();
    check(&device, memory.range(), "ssDDDD");
}

fn advice() {
    let device = Device::first();
    let memory = Memory::private(8);
    memory.write(0..8);
    device.take(memory.range());
    memory.advise(0..8, libc::MADV_COLD).unwrap();
    memory.advise(0..8, libc::MADV_PAGEOUT).unwrap();
    memory.advise(0..8, libc::MADV_WILLNEED).unwrap();
    check(&device, memory.range(), "DDDDDDDD");
    memory.advise(0..2, libc::MADV_DONTNEED).unwrap();
    memory.advise(2..4, MADV_POPULATE_WRITE).unwrap();
    memory.advise(4..5, MADV_GUARD_INSTALL).unwrap();
    check(&device, memory.range(), "..ssgDDD");
}

fn compositions() {
    let device = Device::first();
    let memory = Memory::private(4);
    let composition = || look(memory.range()).composition();
    assert_eq!(composition(), Composition::Unpopulated);
    memory.write(0..4);
    assert_eq!(composition(), Composition::System);
    device.take(memory.part(0..2));
    assert_eq!(composition(), Composition::Mixed);
    device.take(memory.range());
    assert_eq!(composition(), Composition::Device);
}

fn no_allocation() {
    let device = Device::first();
    let memory = Memory::private(2048);
    memory.write(0..2048);
    for page in (0..2048).step_by(3) {
        device.take(memory.part(page..page + 1));
    }
    let shared = Memory::anonymous(4, MapFlags::SHARED);
    shared.write(0..4);
    let mut scanner = Scanner::new().unwrap();
    let mut residency = Residency::new();
    for depth in [Depth::Cheap, Depth::Exact, Depth::Settled] {
        scanner.set_depth(depth);
        for _ in 0..8 {
            scanner.scan(memory.range(), &mut residency).unwrap();
            scanner.device_bytes(memory.range()).unwrap();
        }
        let count = allocations::during(|| {
            for _ in 0..5 {
                scanner.scan(memory.range(), &mut residency).unwrap();
                scanner.scan(shared.range(), &mut residency).unwrap();
                scanner.device_bytes(memory.range()).unwrap();
            }
        });
        assert_eq!(count, 0, "{depth:?}");
    }
}

fn concurrent() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let memory = Memory::private(256);
    memory.write(0..256);
    let range = memory.range();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let device = Device::first();
            while !stop.load(Ordering::Relaxed) {
                device.take(range);
                device.give_back(range);
            }
        });
        let mut scanner = Scanner::new().unwrap();
        let mut residency = Residency::new();
        for _ in 0..300 {
            scanner.scan(range, &mut residency).unwrap();
            assert_eq!(residency.summary().total(), range.len());
            for place in residency.pages() {
                let possible = matches!(place, Place::System | Place::Device | Place::Ambiguous);
                assert!(possible, "a page that is never absent nor swapped is called {place}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    Device::first().give_back(range);
    check(&Device::first(), range, &"s".repeat(256));
}
