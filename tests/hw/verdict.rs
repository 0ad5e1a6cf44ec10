//! What the doctor says of a device is what happens on it.

use drm_pagemap::doctor::{self, Verdict};

use crate::harness::{Context, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled};

pub(crate) const TESTS: &[Test] =
    &[Test { name: "verdict/of_the_doctor_equals_reality", needs: &[], run: of_the_doctor_equals_reality }];

fn of_the_doctor_equals_reality(context: &Context) -> TestResult {
    let gpu = context.gpu();
    if gpu.is_simulated() {
        skip!("the doctor looks at real devices only");
    }
    let report = doctor::examine();
    let node = gpu.device().node();
    let said = report.devices.iter().find(|device| device.node.as_deref() == Some(&*node));
    let said = said.unwrap_or_else(|| panic!("the doctor does not know {node}: {report}"));
    // The suite runs on devices that can mirror: the doctor must not say that they cannot.
    let mirror = gpu.mirror()?;
    assert!(
        matches!(said.verdict, Verdict::Yes | Verdict::Degraded),
        "it works, and the doctor says: {report:#}"
    );
    let data = filled(4 << 20)?;
    if let Err(reason) = gpu.svm().migration() {
        assert_ne!(
            said.verdict,
            Verdict::Yes,
            "pages cannot migrate ({reason}), and the doctor says: {report:#}"
        );
        return Ok(());
    }
    let outcome = mirror.prefetch(&data).to(gpu.vram()).run()?;
    if said.verdict == Verdict::Yes {
        assert!(outcome.is_complete(), "the doctor found nothing wrong: {outcome}");
    }
    assert_eq!(device_bytes(data.range())?, outcome.moved());
    assert_intact(&data);
    Ok(())
}
