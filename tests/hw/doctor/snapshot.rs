//! The doctor's words about the lab's machines, compared with what was written down.

use drm_pagemap::{Driver, doctor};

use crate::harness::{Context, TestResult};

/// By driver and kernel series; made in the lab by this very test, which shows what it found where it differs.
const SNAPSHOTS: &[(Driver, &str, &str)] = &[];

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
    let text = report.to_string().replace(&release, "RELEASE");
    let driver = context.gpu().driver();
    let known = SNAPSHOTS.iter().find(|(of, kernel, _)| (*of, *kernel) == (driver, series.as_str()));
    let Some((_, _, expected)) = known else {
        skip!("nothing is written down for {} of Linux {series}", driver.name());
    };
    assert!(text == *expected, "Expected:\n{expected}\nFound:\n{text}");
    Ok(())
}
