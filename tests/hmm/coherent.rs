//! Device-coherent memory: present, and yet not in system memory.

use drm_pagemap::residency::{Place, Residency, Scanner};

use crate::case::Case;
use crate::check::letters;
use crate::device::{COHERENT, Device, Truth, path};
use crate::memory::Memory;

pub(crate) fn cases() -> Vec<Case> {
    let present = std::path::Path::new(&path(COHERENT)).exists();
    vec![
        Case::new("coherent device pages are found on request", on_request)
            .needs(present, "the test device was loaded without coherent memory"),
    ]
}

fn on_request() {
    let device = Device::open(COHERENT).unwrap();
    let memory = Memory::private(1200);
    memory.write(0..1100);
    memory.read(1100..1110);
    for page in (0..1000).step_by(7) {
        device.take(memory.part(page..page + 1));
    }
    let truth = device.snapshot(memory.range());
    let count = truth.iter().filter(|seen| seen.truth == Truth::Coherent).count();
    assert_eq!(count, 143, "the pages went to the device");

    let mut residency = Residency::new();
    Scanner::new().unwrap().scan(memory.range(), &mut residency).unwrap();
    assert_eq!(residency.summary().bytes(Place::Device), 0, "they look like system memory");
    Scanner::new().unwrap().with_coherent(true).scan(memory.range(), &mut residency).unwrap();
    let expected: String = truth
        .iter()
        .map(|seen| match seen.truth {
            Truth::Coherent => 'D',
            Truth::System => 's',
            Truth::Zero => 'z',
            Truth::Private | Truth::Nothing => '.',
        })
        .collect();
    assert_eq!(letters(&residency), expected);
    memory.write(0..1);
    let after = device.snapshot(memory.part(0..1));
    assert_eq!(after[0].truth, Truth::Coherent, "the CPU reaches it where it is");
}
