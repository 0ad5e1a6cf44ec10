//! Examines a machine and compares the report with the committed text.

use std::path::PathBuf;

use drm_pagemap::doctor::{CHECKS, Report, Status, Verdict, examine_system};

use crate::machine::Machine;
use crate::page::assert_cures_are_there;

/// Examines, holds what is true of every report against it, and compares it with `snapshots/<name>.txt`.
pub(crate) fn expect(name: &str, machine: &Machine, verdicts: &[Verdict]) -> Report {
    let report = examine_system(machine);
    assert_well_formed(&report);
    assert_harmless(machine);
    assert_cures_are_there(&report);
    let found: Vec<Verdict> = report.devices.iter().map(|device| device.verdict).collect();
    compare(name, &report.to_string());
    assert_eq!(found, verdicts, "{name}:\n{report}");
    report
}

pub(crate) fn compare(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/doctor/snapshots/{name}.txt"));
    if std::env::var_os("DOCTOR_UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{} differs. Expected:\n{expected}\nFound:\n{text}", path.display());
}

fn assert_well_formed(report: &Report) {
    for (_, finding) in report.findings() {
        let check = finding.check();
        assert!(CHECKS.iter().any(|known| std::ptr::eq(*known, check)), "{} is not in CHECKS", check.id);
        let needs_cure = matches!(finding.status(), Status::Problem | Status::Degraded | Status::Unknown);
        assert_eq!(finding.cure().is_some(), needs_cure, "{finding:?}");
        for text in [Some(finding.observed()), finding.cure()].into_iter().flatten() {
            assert!(!text.trim().is_empty() && !text.contains('\n'), "{finding:?}");
            assert!(!text.contains("  ") && !text.ends_with('.') || text.ends_with("..."), "{finding:?}");
        }
    }
    for device in &report.devices {
        let mut ids: Vec<&str> = device.findings.iter().map(|finding| finding.check().id).collect();
        ids.retain(|id| *id != "device.kernel_bugs" && *id != "device.kfd");
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{}: {ids:?}", device.name);
    }
}

/// Nothing was asked that may crash a kernel, change the process's state, or mean something else on another kernel.
fn assert_harmless(machine: &Machine) {
    for asked in machine.recorded.lock().unwrap().iter() {
        let harmless = matches!(
            asked.as_str(),
            // To system memory; GET; the mode it has already.
            "xe prefetch to region 0"
                | "kfd svm op 1"
                | "kfd xnack 0"
                | "amdgpu 0xc0406400"
                | "vgem 0xc0406400"
                | "xe 0xc0406400"
        );
        assert!(harmless, "{asked}");
    }
}
