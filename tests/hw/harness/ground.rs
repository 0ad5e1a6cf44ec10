//! Where the suite runs, and on which devices.

use std::fmt;
use std::sync::Arc;

use drm_pagemap::kfd::Xnack;
use drm_pagemap::{Device, Driver, ErrorKind, Gpu};

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
    /// The devices of the ground.
    pub(crate) fn subjects(self) -> Vec<Subject> {
        match self {
            Self::Simulated => simulated(),
            Self::Lab | Self::Hardware => discovered(),
        }
    }
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
    let found = match Gpu::discover() {
        Ok(found) => found,
        Err(error) => {
            println!("no device: {error}");
            return Vec::new();
        }
    };
    for passed_over in found.passed_over() {
        println!("passed over: {passed_over}");
    }
    found.gpus().iter().enumerate().flat_map(|(index, gpu)| subjects_of(index, gpu)).collect()
}

/// One subject for most devices; one without and one with page faults where the driver lets a process choose.
fn subjects_of(index: usize, gpu: &Gpu) -> Vec<Subject> {
    let label = format!("{}{index}", gpu.driver().name());
    let driver = gpu.driver();
    let subject = |label: String, xnack: Option<Xnack>| Subject {
        label,
        driver,
        gpus: Arc::new(move || gpus(index, xnack).map_err(|error| error.to_string())),
    };
    let Device::Kfd(kfd) = gpu.device() else { return vec![subject(label, None)] };
    if let Err(error) = kfd.process().set_xnack(Xnack::On) {
        if error.kind() == ErrorKind::Unsupported {
            println!("{label}: no tests with XNACK: {error}");
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

/// Takes `--ground G` (or `HW_GROUND`) out of the arguments and leaves the rest for the test runner.
pub(crate) fn from_arguments(
    arguments: impl Iterator<Item = String>,
) -> Result<(Ground, Vec<String>), String> {
    let mut chosen = std::env::var("HW_GROUND").ok();
    let mut rest = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if argument == "--ground" {
            chosen = Some(arguments.next().ok_or("--ground needs a value")?);
        } else if let Some(value) = argument.strip_prefix("--ground=") {
            chosen = Some(value.to_owned());
        } else {
            rest.push(argument);
        }
    }
    let ground = match chosen.as_deref() {
        None | Some("simulated") => Ground::Simulated,
        Some("lab") => Ground::Lab,
        Some("hardware") => Ground::Hardware,
        Some(other) => return Err(format!("unknown ground {other:?}: simulated, lab or hardware")),
    };
    Ok((ground, rest))
}
