//! One scanner, many scans.

use std::sync::{Arc, Mutex};

use drm_pagemap::range::page_size;
use drm_pagemap::residency::{self, Calibration, Depth, Overlay, Place, Residency, Scanner};
use drm_pagemap::{ErrorKind, PageRange};
use rustix::mm::MapFlags;

use crate::allocations;
use crate::case::Case;
use crate::memory::Memory;
use crate::places::letters;

pub(crate) fn cases() -> Vec<Case> {
    let numa = std::path::Path::new("/proc/self/numa_maps").exists();
    vec![
        Case::new("repeated scans allocate nothing", no_allocation),
        Case::new("overlays report what they hold, and only that", overlay),
        Case::new("overlays that end or unregister are gone", overlay_lifetime),
        Case::new("coherent memory is not seen where there is none", coherent)
            .needs(numa, "a kernel without move_pages (CONFIG_NUMA)"),
        Case::new("calibration refuses pages that are not in VRAM", calibration),
    ]
}

fn no_allocation() {
    let pages = 8192;
    let memory = Memory::private(pages);
    let shared = Memory::anonymous(64, MapFlags::SHARED);
    for page in (0..pages).step_by(2) {
        memory.write(page..page + 1);
    }
    shared.write(0..32);
    let mut scanner = Scanner::new().unwrap();
    let mut residency = Residency::new();
    for depth in [Depth::Cheap, Depth::Exact, Depth::Settled] {
        scanner.set_depth(depth);
        let mut scan = |range| scanner.scan(range, &mut residency).unwrap();
        // Buffers grow at first, until they suffice.
        for _ in 0..8 {
            scan(memory.range());
        }
        let count = allocations::during(|| {
            for _ in 0..10 {
                scan(memory.range());
                scan(shared.range());
                scan(memory.part(0..100));
            }
        });
        assert_eq!(count, 0, "{depth:?}");
    }
    let one = allocations::during(|| drop(residency::of_range(memory.part(0..1)).unwrap()));
    assert!(one > 0, "the count counts");
}

/// A software device that holds some ranges.
#[derive(Default)]
struct Holder(Mutex<Vec<PageRange>>);

impl Overlay for Holder {
    fn held(&self, range: PageRange, report: &mut dyn FnMut(PageRange)) {
        for held in self.0.lock().unwrap().iter() {
            if held.overlaps(range) {
                // Whole ranges, also where they reach beyond what is asked for.
                report(*held);
            }
        }
    }
}

fn overlay() {
    let memory = Memory::private(10);
    memory.write(2..4);
    let look = |range| letters(&residency::of_range(range).unwrap());
    let (first, second) = (Arc::new(Holder::default()), Arc::new(Holder::default()));
    let guards = (residency::register_overlay(&first), residency::register_overlay(&second));
    assert_eq!(look(memory.range()), "..ss......");

    *first.0.lock().unwrap() = vec![memory.part(1..3), memory.part(5..7)];
    *second.0.lock().unwrap() = vec![memory.part(6..8)];
    assert_eq!(
        look(memory.range()),
        ".Dss.DDD..".replace(' ', "").as_str(),
        "what is present is in system memory"
    );
    assert_eq!(look(memory.part(6..9)), "DD.");
    assert_eq!(look(memory.part(8..10)), "..");
    let residency = residency::of_range(memory.range()).unwrap();
    assert_eq!(residency.runs_in(Place::Device).count(), 2, "neighbours of two devices are one run");
    let bytes = 4 * page_size();
    assert_eq!(residency.summary().device_bytes(), bytes..=bytes);

    assert_eq!(Scanner::new().unwrap().device_bytes(memory.range()).unwrap(), bytes..=bytes);

    memory.write(5..6);
    assert_eq!(look(memory.range()), ".Dss.sDD..", "the page came back by itself");
    drop(guards.0);
    assert_eq!(look(memory.range()), "..ss.sDD..");
    drop(guards.1);
    assert_eq!(look(memory.range()), "..ss.s....");
}

fn overlay_lifetime() {
    /// Unregisters itself while it is asked.
    struct Leaving(Mutex<Option<residency::OverlayGuard>>);
    impl Overlay for Leaving {
        fn held(&self, range: PageRange, report: &mut dyn FnMut(PageRange)) {
            self.0.lock().unwrap().take();
            report(range);
        }
    }
    let memory = Memory::private(2);
    let look = || letters(&residency::of_range(memory.range()).unwrap());
    let leaving = Arc::new(Leaving(Mutex::new(None)));
    *leaving.0.lock().unwrap() = Some(residency::register_overlay(&leaving));
    assert_eq!(look(), "DD");
    assert_eq!(look(), "..");

    let holder = Arc::new(Holder(Mutex::new(vec![memory.range()])));
    let guard = residency::register_overlay(&holder);
    assert_eq!(look(), "DD");
    drop(holder);
    assert_eq!(look(), "..", "the guard does not keep the device");
    drop(guard);
}

fn coherent() {
    let memory = Memory::private(1200);
    memory.write(0..1100);
    memory.read(1100..1150);
    let mut scanner = Scanner::new().unwrap().with_coherent(true);
    let mut residency = Residency::new();
    scanner.scan(memory.range(), &mut residency).unwrap();
    assert_eq!(letters(&residency)[..1100], "s".repeat(1100));
    assert_eq!(residency.summary().bytes(Place::Device), 0);
    let shared = Memory::anonymous(4, MapFlags::SHARED);
    shared.write(0..4);
    scanner.scan(shared.range(), &mut residency).unwrap();
    assert_eq!(letters(&residency), "ssss");
}

fn calibration() {
    let memory = Memory::private(2);
    memory.write(0..1);
    let mut calibration = Calibration::new();
    for page in 0..2 {
        let error = calibration.learn(memory.part(page..page + 1).start() + 5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MemoryKind);
        assert_eq!(error.range(), Some(memory.part(page..page + 1)));
    }
    assert!(calibration.is_empty());
}
