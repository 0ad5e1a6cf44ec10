//! Can this machine share memory with its GPUs, and if not, why not and what helps.
//!
//! [`examine`] looks at every precondition of GPU shared virtual memory: kernel and configuration, drivers, device files and
//! permissions, containers, address widths, XNACK, memory settings, and what residency and the simulated device need. Each
//! becomes a [`Finding`]: what was *observed*, a [`Status`], and a cure of one line. Nothing is guessed: what cannot be
//! observed is [`Status::Unknown`] and says why.
//!
//! ```
//! let report = drm_pagemap::doctor::examine();
//! println!("{report}");
//! for device in &report.devices {
//!     println!("{}: {}", device.name, device.verdict);
//! }
//! ```
//!
//! # What it does to the machine
//!
//! It reads files of `/proc`, `/sys`, `/dev`, `/etc` and `/boot`, opens each GPU's render node and `/dev/kfd`, and asks:
//!
//! * xe: device queries; VMs are made and destroyed to ask what the kernel can do, as [`Gpu::discover`](crate::Gpu::discover)
//!   does. The first VM of a discrete GPU makes the kernel's page descriptors for its memory. Nothing is ever prefetched into
//!   VRAM, at which Linux 6.17 crashes.
//! * KFD: version, GPUs, XNACK mode, and `GET_ATTR` of nothing. No address space is acquired (HIP could not start after that)
//!   and no attribute is set (kernels before 2026 crash when that comes first).
//! * amdgpu's render nodes: the driver's name, nothing else. The proposed SVM ioctl is never tried, since its number already
//!   means something else on some kernels.
//!
//! # Another machine
//!
//! Everything is asked of a [`System`]. [`ThisMachine`] is the real one; an implementation of one's own can stand for a
//! recorded machine, or one made up for a test, with [`examine_system`].

mod checks;
mod device;
mod facts;
mod finding;
mod machine;
mod render;
mod report;
mod system;
mod this_machine;

pub use checks::CHECKS;
pub use finding::{Check, Finding, Status};
pub use report::{DeviceReport, Report, Verdict};
pub use system::{FileStatus, PagemapAccess, System, UserfaultfdAccess};
pub use this_machine::ThisMachine;

/// Examines the machine this process runs on, as far as this process may look.
///
/// Never fails: a check that cannot be made is [`Status::Unknown`] with the reason.
#[must_use]
pub fn examine() -> Report {
    examine_system(&ThisMachine::new())
}

/// Examines any machine that answers like one.
#[must_use]
pub fn examine_system(system: &dyn System) -> Report {
    let facts = facts::Facts::gather(system);
    let devices = device::examine_all(&facts);
    let machine = machine::examine(&facts, &devices);
    Report {
        kernel: facts.kernel.release.clone().ok(),
        machine,
        devices: devices.into_iter().map(|examined| examined.report).collect(),
    }
}
