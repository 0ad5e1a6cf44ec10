//! What the checks reason about, read once.

mod access;
mod config;
mod container;
mod files;
mod kernel;
mod models;
mod modules;
mod pci;
mod process;
mod render_nodes;
mod version;

pub(super) use access::{AccessDecision, decide_access};
pub(super) use config::KernelConfig;
pub(super) use container::{Confinement, Container};
pub(super) use files::{hex, number, text};
pub(super) use kernel::Kernel;
pub(super) use models::intel_family;
pub(super) use modules::module;
pub(super) use pci::PciFunction;
pub(super) use process::{Capability, Process};
pub(super) use render_nodes::RenderNode;
pub(super) use version::KernelVersion;

use super::system::System;
use crate::error::Errno;

/// Everything that concerns more than one check.
pub(super) struct Facts<'a> {
    pub(super) system: &'a dyn System,
    pub(super) kernel: Kernel,
    pub(super) process: Process,
    pub(super) container: Container,
    /// Every function on the PCI bus, or why the bus cannot be read.
    pub(super) pci: Result<Vec<PciFunction>, Errno>,
    pub(super) render_nodes: Vec<RenderNode>,
}

impl<'a> Facts<'a> {
    pub(super) fn gather(system: &'a dyn System) -> Self {
        let process = Process::read(system);
        Self {
            kernel: Kernel::read(system),
            container: Container::detect(system, &process),
            pci: pci::functions(system),
            render_nodes: render_nodes::read(system),
            process,
            system,
        }
    }
}
