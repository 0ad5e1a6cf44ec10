//! Machines without a GPU, and what surrounds one.

use drm_pagemap::Errno;
use drm_pagemap::doctor::{Report, Status, UserfaultfdAccess, Verdict, examine_system};

use crate::examined::expect;
use crate::intel::battlemage;
use crate::machine::{Machine, Pagemap};

fn status(report: &Report, id: &str) -> Status {
    report.findings().find(|(_, finding)| finding.check().id == id).expect(id).1.status()
}

#[test]
fn no_gpu() {
    expect("no_gpu", &Machine::linux("7.3.4"), &[]);
    expect("no_gpu_in_a_vm", &Machine::linux("7.3.4").file("/proc/cpuinfo", "flags : lm hypervisor\n"), &[]);
    let nvidia = Machine::linux("7.3.4").pci("0000:01:00.0", 0x10de, 0x2684, 0x03_0000, Some("nvidia"));
    expect("no_gpu_but_another", &nvidia, &[]);
    expect(
        "no_gpu_old_kernel",
        &Machine::linux("5.10.0-35-amd64").config_without(&["DRM_XE", "DEVICE_PRIVATE"]),
        &[],
    );
}

#[test]
fn an_empty_machine_leaves_nothing_but_unknowns() {
    let machine = Machine::linux("7.3.4").without("/proc").without("/sys").without("/boot").without("/etc");
    let report = expect("nothing_readable", &machine, &[]);
    let ids = [
        "kernel.version",
        "kernel.command_line",
        "kernel.config",
        "config.DEVICE_PRIVATE",
        "memory.huge_pages",
        "memory.khugepaged",
        "memory.swap",
        "memory.overcommit",
        "memory.address_limit",
        "memory.lock_limit",
        "residency.mincore",
        "process.capabilities",
    ];
    for id in ids {
        assert_eq!(status(&report, id), Status::Unknown, "{id}");
    }
}

#[test]
fn a_gpu_without_sysfs() {
    let machine = battlemage("7.3.4", (7, 3)).without("/sys");
    expect("no_sysfs", &machine, &[Verdict::Yes]);
}

#[test]
fn no_configuration_to_read() {
    expect("no_config", &battlemage("7.3.4", (7, 3)).without("/boot"), &[Verdict::Yes]);
    expect("no_config_no_gpu", &Machine::linux("7.3.4").without("/boot"), &[]);
}

#[test]
fn memory_settings_that_undo_placement() {
    const THP: &str = "/sys/kernel/mm/transparent_hugepage";
    let machine = battlemage("7.3.4", (7, 3))
        .file(&format!("{THP}/enabled"), "[always] madvise never\n")
        .file("/proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n")
        .file("/proc/sys/vm/overcommit_memory", "2\n")
        .limits("1073741824");
    expect("memory_settings", &machine, &[Verdict::Yes]);

    let report = examine_system(&machine.clone().file(&format!("{THP}/khugepaged/max_ptes_swap"), "0\n"));
    assert_eq!(status(&report, "memory.khugepaged"), Status::Ok);
    let report = examine_system(&machine.clone().file(&format!("{THP}/enabled"), "always madvise [never]\n"));
    assert_eq!(status(&report, "memory.huge_pages"), Status::Degraded);
    assert_eq!(status(&report, "memory.khugepaged"), Status::Ok);
    // With the capability entry types are visible, and swap is no riddle.
    let report = examine_system(&machine.process(0, &[0], 1 << 21));
    assert_eq!(status(&report, "memory.swap"), Status::Ok);
}

#[test]
fn no_huge_pages_at_all() {
    let machine = battlemage("7.3.4", (7, 3)).without("/sys/kernel/mm").file("/sys/kernel/mm/ksm/run", "0\n");
    expect("no_huge_pages", &machine, &[Verdict::Yes]);
}

#[test]
fn residency_cannot_be_seen() {
    let mut machine = battlemage("7.3.4", (7, 3));
    machine.pagemap = Pagemap::Refused;
    expect("not_dumpable", &machine, &[Verdict::Yes]);
    machine.pagemap = Pagemap::WithoutScan;
    assert_eq!(status(&examine_system(&machine), "residency.scan"), Status::Degraded);
}

#[test]
fn what_the_simulated_device_needs() {
    let mut machine = Machine::linux("7.3.4").file("/.dockerenv", "");
    machine.userfaultfd = Err(Errno::EPERM);
    expect("userfaultfd_refused", &machine, &[]);
    machine.userfaultfd = Err(Errno::ENOSYS);
    expect("userfaultfd_missing", &machine, &[]);
    machine.userfaultfd = Ok(UserfaultfdAccess { kernel_faults: false, features: 0 });
    expect("userfaultfd_limited", &machine, &[]);
}

#[test]
fn pages_that_are_not_4_kib() {
    let mut machine = Machine::linux("7.3.4").pci("0000:03:00.0", 0x8086, 0xe20b, 0x03_0000, None);
    machine.page_size = 65536;
    expect("pages_of_64k", &machine, &[Verdict::No]);
}

#[test]
fn the_full_form_has_every_check_and_its_rule() {
    let report = examine_system(&battlemage("7.3.4", (7, 3)));
    let text = format!("{report:#}");
    crate::examined::compare("full_form", &text);
    for (_, finding) in report.findings() {
        assert!(text.contains(finding.check().title), "{}", finding.check().title);
    }
}
