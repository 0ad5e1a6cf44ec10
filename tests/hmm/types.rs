//! Entry types, which root sees.

use drm_pagemap::ErrorKind;
use drm_pagemap::residency::{Calibration, Residency, Scanner};
use rustix::mm::MprotectFlags;

use crate::case::Case;
use crate::check::{check, letters};
use crate::device::Device;
use crate::memory::Memory;

pub(crate) fn cases() -> Vec<Case> {
    let root = rustix::process::getuid().is_root();
    vec![
        Case::new("a calibration learns writable and read-only device pages", calibrated)
            .needs(root, "entry types are hidden from ordinary users"),
        Case::new("ordinary users cannot calibrate", hidden).needs(!root, "running as root"),
    ]
}

fn calibrated() {
    let device = Device::first();
    let memory = Memory::private(8);
    memory.write(0..8);
    device.take(memory.part(0..4));
    memory.protect(2..4, MprotectFlags::READ);
    check(&device, memory.range(), "DDDDssss");

    let mut calibration = Calibration::new();
    calibration.learn(memory.part(0..1).start()).unwrap();
    let look = |calibration| {
        let mut residency = Residency::new();
        let mut scanner = Scanner::new().unwrap().with_calibration(calibration);
        scanner.scan(memory.range(), &mut residency).unwrap();
        letters(&residency)
    };
    assert_eq!(look(calibration), "DD??ssss", "read-only device pages have a type of their own");
    calibration.learn(memory.part(2..3).start()).unwrap();
    assert_eq!(look(calibration), "DDDDssss");

    // With both types known, a page held exclusively is no device page.
    device.make_exclusive(memory.part(6..7));
    assert_eq!(look(Calibration::new()), "DDDDssDs");
    assert_eq!(look(calibration), "DDDDss?s");

    for page in [5, 4] {
        let error = calibration.learn(memory.part(page..page + 1).start()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MemoryKind);
    }
}

fn hidden() {
    let device = Device::first();
    let memory = Memory::private(1);
    memory.write(0..1);
    device.take(memory.range());
    let error = Calibration::new().learn(memory.range().start()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.hint().unwrap().contains("CAP_SYS_ADMIN"));
    check(&device, memory.range(), "D");
}
