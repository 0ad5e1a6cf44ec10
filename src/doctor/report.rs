//! The outcome of an examination.

use std::fmt;

use super::finding::{Finding, Status};

/// Whether shared virtual memory works on a device, for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It works.
    Yes,
    /// It works, with less than there could be; the device's degraded findings say what.
    Degraded,
    /// It does not work; the device's problems say why.
    No,
    /// Nothing was found that prevents it, and the driver could not be asked.
    Unknown,
}

impl Verdict {
    /// A word for people and programs: `yes`, `degraded`, `no`, `unknown`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Degraded => "degraded",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }

    /// `confirmed` is whether the driver itself said that shared virtual memory works.
    pub(super) fn of(findings: &[Finding], confirmed: bool) -> Self {
        let any = |status| findings.iter().any(|finding| finding.status() == status);
        if any(Status::Problem) {
            Self::No
        } else if !confirmed {
            Self::Unknown
        } else if any(Status::Degraded) {
            Self::Degraded
        } else {
            Self::Yes
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What was found about one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceReport {
    /// A name for people: vendor, model as far as known, PCI numbers and address.
    pub name: String,
    /// The render node, as `/dev/dri/renderD128`, if the kernel made one.
    pub node: Option<String>,
    /// The kernel driver that is bound to it.
    pub driver: Option<String>,
    /// Whether shared virtual memory works.
    pub verdict: Verdict,
    /// Every check of the device, in the order they were made. A check that could not be reached because an earlier one failed
    /// is left out.
    pub findings: Vec<Finding>,
}

/// What [`examine`](super::examine) found.
///
/// `Display` is for people: problems first, each with its cure, and what is well in one line. The alternate form (`{:#}`) shows
/// every finding with its observation and the source of its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: Option<String>,
    /// What concerns the machine or this process, whatever the GPU.
    pub machine: Vec<Finding>,
    /// One entry for each GPU, and for each partition of one that is a device of its own.
    pub devices: Vec<DeviceReport>,
}

impl Report {
    /// Every finding with where it belongs: `None` for the machine, otherwise the device.
    pub fn findings(&self) -> impl Iterator<Item = (Option<&DeviceReport>, &Finding)> {
        let machine = self.machine.iter().map(|finding| (None, finding));
        let devices =
            self.devices.iter().flat_map(|d| d.findings.iter().map(move |finding| (Some(d), finding)));
        machine.chain(devices)
    }
}
