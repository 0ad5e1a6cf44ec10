//! Each errno that opening a device file can give has a cure of its own.

use std::collections::BTreeSet;
use std::fmt::Write;

use drm_pagemap::Errno;
use drm_pagemap::doctor::{Report, Status, examine_system};

use crate::examined::compare;
use crate::intel::battlemage;
use crate::machine::Opens;

const ERRNOS: [Errno; 11] = [
    Errno::ENOENT,
    Errno::EACCES,
    Errno::EPERM,
    Errno::ENXIO,
    Errno::ENODEV,
    Errno::EINVAL,
    Errno::ENOMEM,
    Errno::EMFILE,
    Errno::ENFILE,
    Errno::EBUSY,
    Errno::from_raw(999),
];

fn line(report: &Report, id: &str) -> String {
    let (_, finding) = report.findings().find(|(_, finding)| finding.check().id == id).expect(id);
    assert_eq!(finding.status(), Status::Problem);
    format!("{}\n    {}\n", finding.observed(), finding.cure().unwrap())
}

#[test]
fn of_a_render_node_and_of_kfd() {
    let mut text = String::new();
    let mut cures = BTreeSet::new();
    for errno in ERRNOS {
        let machine = battlemage("7.3.4", (7, 3)).refuse("/dev/dri/renderD128", errno);
        let found = line(&examine_system(&machine), "device.open");
        write!(text, "{errno}\n  {found}").unwrap();
        cures.insert(found.lines().nth(1).unwrap().to_owned());
        let kfd = crate::machine::Machine::linux("7.3.4")
            .pci("0000:04:00.0", 0x1002, 0x7408, 0x03_8000, Some("amdgpu"))
            .device("/dev/kfd", 0o660, (0, 993), (234, 0), Opens::Refused(errno))
            .render(128, "0000:04:00.0", "amdgpu", Opens::Refused(Errno::EMFILE));
        write!(text, "  {}", line(&examine_system(&kfd), "device.kfd")).unwrap();
    }
    // ENXIO and ENODEV mean the same; EINVAL (of a render node), EBUSY and 999 nothing in particular; all others differ.
    assert_eq!(cures.len(), 8, "{cures:#?}");
    compare("open_errnos", &text);
}
