//! Where the suite runs, and on which devices.

use std::fmt;
use std::sync::Arc;

use drm_pagemap::{Driver, Gpu};
use serde_json::{Value, json};

/// A place to run the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// The software devices of this process.
    Simulated,
    /// Real drivers on virtual GPUs, inside a lab guest.
    Lab,
    /// Real GPUs of this machine.
    Hardware,
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simulated => "simulated",
            Self::Lab => "lab",
            Self::Hardware => "hardware",
        })
    }
}

/// One device configuration that every test is tried on.
#[derive(Clone)]
pub(crate) struct Subject {
    /// First part of the name of its cases.
    pub(crate) label: String,
    /// The driver, for reports.
    pub(crate) driver: Driver,
    /// Makes the devices afresh: one test's leftovers never meet the next.
    pub(crate) gpus: Arc<dyn Fn() -> Result<Vec<Gpu>, String> + Send + Sync>,
}

impl Ground {
    /// Everything that is there, whether it can be tested or not: for each its label, driver, name, and why it cannot.
    pub(crate) fn seen(self) -> Vec<Value> {
        if self == Self::Simulated {
            let machines = super::super::simulated::machines();
            return machines
                .iter()
                .map(|(label, driver, _)| device(label, *driver, "simulated", None))
                .collect();
        }
        let found = match Gpu::discover() {
            Ok(found) => found,
            Err(error) => return vec![json!({ "label": "", "name": "", "lacking": error.to_string() })],
        };
        let gpus = found.gpus().iter().enumerate().map(|(index, gpu)| {
            let lacking = gpu.svm().mirroring().err().map(ToString::to_string);
            device(&label(gpu, index), gpu.driver(), gpu.name(), lacking)
        });
        let passed_over = found.passed_over().iter();
        gpus.chain(
            passed_over.map(|it| json!({ "label": "", "name": it.node, "lacking": it.why.to_string() })),
        )
        .collect()
    }

    /// The devices of the ground that can be tested.
    pub(crate) fn subjects(self) -> Vec<Subject> {
        match self {
            Self::Simulated => simulated(),
            Self::Lab | Self::Hardware => discovered(),
        }
    }
}

fn device(label: &str, driver: Driver, name: &str, lacking: Option<String>) -> Value {
    json!({ "label": label, "driver": driver.name(), "name": name, "lacking": lacking })
}

/// A device is called by its driver and its place among all that were found.
fn label(gpu: &Gpu, index: usize) -> String {
    format!("{}{index}", gpu.driver().name())
}

fn simulated() -> Vec<Subject> {
    super::super::simulated::machines()
        .into_iter()
        .map(|(label, driver, build)| Subject {
            label: label.to_owned(),
            driver,
            gpus: Arc::new(move || build().map_err(|error| error.to_string())),
        })
        .collect()
}

fn discovered() -> Vec<Subject> {
    let Ok(found) = Gpu::discover() else { return Vec::new() };
    found
        .gpus()
        .iter()
        .enumerate()
        // What has no shared virtual memory cannot be tested; `seen` says so.
        .filter(|(_, gpu)| gpu.svm().mirroring().is_ok())
        .map(|(index, gpu)| Subject {
            label: label(gpu, index),
            driver: gpu.driver(),
            // The device under test first, then its peers.
            gpus: Arc::new(move || {
                let mut gpus: Vec<Gpu> =
                    Gpu::discover().map_err(|error| error.to_string())?.into_iter().collect();
                if index >= gpus.len() {
                    return Err(format!("device {index} has gone"));
                }
                gpus.rotate_left(index);
                Ok(gpus)
            }),
        })
        .collect()
}
