//! The doctor's words about the lab's machines, compared with what was written down.

use drm_pagemap::kfd::Xnack;
use drm_pagemap::{Device, doctor};

use crate::harness::{Context, TestResult};

/// By configuration and kernel series; made in the lab by this very test, which prints what it found. `RELEASE` and `VERSION`
/// stand for the kernel's.
const SNAPSHOTS: &[(&str, &str, &str)] = &[
    ("xe", "6.16", include_str!("snapshots/xe_6_16.txt")),
    ("xe", "6.18", include_str!("snapshots/xe_6_18.txt")),
    ("xe", "7.2", include_str!("snapshots/xe_7_2.txt")),
    ("xe", "7.3", include_str!("snapshots/xe_7_3.txt")),
    ("amdgpu", "6.18", include_str!("snapshots/amdgpu_6_18.txt")),
    ("amdgpu-xnack", "6.18", include_str!("snapshots/amdgpu_xnack_6_18.txt")),
    ("amdgpu", "7.2", include_str!("snapshots/amdgpu_7_2.txt")),
    ("amdgpu-xnack", "7.2", include_str!("snapshots/amdgpu_xnack_7_2.txt")),
    ("amdgpu", "7.3", include_str!("snapshots/amdgpu_7_3.txt")),
    ("amdgpu-xnack", "7.3", include_str!("snapshots/amdgpu_xnack_7_3.txt")),
];

pub(super) fn snapshot(context: &Context) -> TestResult {
    if !context.is_lab() {
        skip!("the machine is not one of the lab's");
    }
    let report = doctor::examine();
    let release = report.kernel.clone().unwrap_or_default();
    let series = release.split('.').take(2).collect::<Vec<_>>().join(".");
    let gpus = report.devices.len();
    if gpus != 1 {
        skip!("written down for one GPU; here are {gpus}");
    }
    if !std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default().contains(" la57") {
        skip!("written down for a CPU with five levels of page tables");
    }
    let version = release.split(['+', '-']).next().unwrap_or(&release);
    let found = report.to_string();
    // Where lines end depends on how long the versions are.
    let words = |text: &str| {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        words.replace(&release, "RELEASE").replace(&format!("Linux {version}"), "Linux VERSION")
    };
    println!("Found:\n{found}");
    let configuration = match context.gpu().device() {
        Device::Kfd(kfd) if kfd.process().xnack()? == Xnack::On => "amdgpu-xnack",
        device => device.driver().name(),
    };
    let known = SNAPSHOTS.iter().find(|(of, kernel, _)| (*of, *kernel) == (configuration, series.as_str()));
    let Some((_, _, expected)) = known else {
        skip!("nothing is written down for {configuration} of Linux {series}");
    };
    assert!(words(&found) == words(expected), "Expected:\n{expected}\nFound:\n{found}");
    Ok(())
}
