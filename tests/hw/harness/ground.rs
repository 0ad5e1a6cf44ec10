//! Where the suite runs, and on which devices.

use std::fmt;
use std::sync::Arc;

use drm_pagemap::{Driver, Gpu};

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
    found
        .gpus()
        .iter()
        .enumerate()
        .map(|(index, gpu)| Subject {
            label: format!("{}{index}", gpu.driver().name()),
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
