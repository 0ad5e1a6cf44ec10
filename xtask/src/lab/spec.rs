//! What to boot, with which tools, and what came of it.

use super::cache::Cache;
use super::device::DeviceOptions;
use super::initramfs::GuestFile;
use super::kernel::Kernel;
use super::qemu::{Accel, Qemu};
use super::vendor::Gpus;
use anyhow::{Context, Result};
use guest_init::{Program, Shell};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The tools of every boot.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) cache: Cache,
    pub(crate) qemu: Qemu,
    /// The guest's first process.
    pub(crate) init: PathBuf,
    /// The device model.
    pub(crate) vgpu: Option<PathBuf>,
}

impl Tools {
    /// The device model, which boots with GPUs need.
    pub(crate) fn vgpu(&self) -> Result<&Path> {
        self.vgpu.as_deref().context("this boot has GPUs but no device model was built")
    }
}

/// What to boot and what to run in it.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) kernel: Kernel,
    pub(crate) accel: Accel,
    pub(crate) gpus: Vec<Gpus>,
    pub(crate) device: DeviceOptions,
    pub(crate) programs: Vec<Program>,
    pub(crate) files: Vec<GuestFile>,
    pub(crate) shell: Option<Shell>,
    /// Processor model; by default one that allows peer-to-peer between GPUs when there are several.
    pub(crate) cpu: Option<String>,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: Option<u32>,
    /// Words added to the kernel's command line.
    pub(crate) append: Vec<String>,
    /// Parameters added for a driver's module.
    pub(crate) parameters: Vec<String>,
    /// Modules that are loaded after the drivers.
    pub(crate) extra_modules: Vec<String>,
    /// For the kernel to reach the first process, and again for the drivers to bind.
    pub(crate) boot_wait: Duration,
    /// Kernel log lines with these texts are no complaints.
    pub(crate) expected: Vec<String>,
}

/// How one program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i32),
    Signaled(i32),
    /// With what its threads were doing.
    TimedOut(String),
    NotStarted(String),
    /// The guest did not get to its end.
    Unknown,
}

/// What happened in a boot.
#[derive(Debug)]
pub(crate) struct Report {
    /// In the order of the job.
    pub(crate) programs: Vec<End>,
    /// Why the boot as a whole is not to be trusted; empty when all is well.
    pub(crate) trouble: Vec<String>,
    /// Kernel log lines that nobody expected.
    pub(crate) complaints: Vec<String>,
    /// What the driver used and the virtual GPU does not know: registers read as 0 and kept as memory, firmware actions
    /// and instructions passed over.
    pub(crate) unknown: Vec<String>,
    pub(crate) logs: PathBuf,
    /// Milliseconds from the kernel's start to the first process, and to the first program.
    pub(crate) ready_ms: Option<u64>,
    pub(crate) prepared_ms: Option<u64>,
    /// From the start of QEMU to the first program, on the host's clock.
    pub(crate) to_first_program: Option<Duration>,
    /// Boots that were needed.
    pub(crate) attempts: u32,
}

impl Report {
    /// Whether guest, drivers and device model behaved; says nothing about the programs.
    pub(crate) fn is_sound(&self) -> bool {
        self.trouble.is_empty() && self.complaints.is_empty()
    }

    /// Takes back complaints that a test announced: lines that hold one of these texts.
    pub(crate) fn forgive(&mut self, expected: &[String]) {
        self.complaints.retain(|line| !expected.iter().any(|text| line.contains(text)));
    }
}
