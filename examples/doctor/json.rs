//! A report as JSON. Words are those of the report; absent values are null.

use drm_pagemap::doctor::{DeviceReport, Finding, Report};
use serde_json::{Value, json};

pub(crate) fn of(report: &Report) -> Value {
    json!({
        "kernel": report.kernel,
        "devices": report.devices.iter().map(device).collect::<Vec<_>>(),
        "machine": report.machine.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn device(device: &DeviceReport) -> Value {
    json!({
        "name": device.name,
        "node": device.node,
        "driver": device.driver,
        "verdict": device.verdict.name(),
        "findings": device.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "id": finding.check().id,
        "title": finding.check().title,
        "status": finding.status().name(),
        "observed": finding.observed(),
        "cure": finding.cure(),
        "source": finding.check().source,
    })
}
