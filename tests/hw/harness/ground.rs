//! Where the suite runs, and on which devices.

use std::fmt;
use std::sync::Arc;

use drm_pagemap::kfd::Xnack;
use drm_pagemap::{Device, Driver, ErrorKind, Gpu};
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
        let gpus = found.gpus().iter().enumerate().flat_map(|(index, gpu)| match gpu.svm().mirroring() {
            Ok(()) => {
                let subjects = subjects_of(index, gpu).into_iter();
                subjects.map(|it| device(&it.label, it.driver, gpu.name(), None)).collect()
            }
            Err(lacking) => {
                vec![device(&label(gpu, index), gpu.driver(), gpu.name(), Some(lacking.to_string()))]
            }
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
    // What has no shared virtual memory cannot be tested; `seen` says so.
    let usable = found.gpus().iter().enumerate().filter(|(_, gpu)| gpu.svm().mirroring().is_ok());
    usable.flat_map(|(index, gpu)| subjects_of(index, gpu)).collect()
}

/// One subject for most devices; one without and one with page faults where the driver lets a process choose.
fn subjects_of(index: usize, gpu: &Gpu) -> Vec<Subject> {
    let (label, driver) = (label(gpu, index), gpu.driver());
    let subject = |label: String, xnack: Option<Xnack>| Subject {
        label,
        driver,
        gpus: Arc::new(move || gpus(index, xnack).map_err(|error| error.to_string())),
    };
    let Device::Kfd(kfd) = gpu.device() else { return vec![subject(label, None)] };
    if let Err(error) = kfd.process().set_xnack(Xnack::On) {
        if error.kind() == ErrorKind::Unsupported {
            eprintln!("{label}: no tests with XNACK: {error}");
            return vec![subject(label, None)];
        }
    }
    // Where the mode cannot be chosen for any other reason, these fail with it.
    vec![subject(label.clone(), Some(Xnack::Off)), subject(format!("{label}-xnack"), Some(Xnack::On))]
}

/// The device under test first, then its peers.
fn gpus(index: usize, xnack: Option<Xnack>) -> drm_pagemap::Result<Vec<Gpu>> {
    let mut gpus: Vec<Gpu> = Gpu::discover()?.into_iter().collect();
    if index >= gpus.len() {
        return Ok(Vec::new());
    }
    gpus.rotate_left(index);
    if let (Some(xnack), Device::Kfd(kfd)) = (xnack, gpus[0].device()) {
        // The mode belongs to the process, which has one after another of these subjects.
        kfd.process().set_xnack(xnack)?;
    }
    Ok(gpus)
}
