//! What of shared virtual memory works on a GPU, and why not the rest.

use std::fmt;

use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::xe;

/// Something that shared virtual memory needs and that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unmet {
    /// What is missing.
    pub reason: String,
    /// What helps, if anything is known to.
    pub hint: Option<String>,
}

impl Unmet {
    pub(super) fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: Some(hint.into()) }
    }

    pub(super) fn incurable(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: None }
    }

    pub(super) fn into_error(self, call: &'static str) -> Error {
        let error = Error::new(ErrorKind::Unsupported, call).because(self.reason);
        match self.hint {
            Some(hint) => error.hint_is(hint),
            None => error,
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        match &self.hint {
            Some(hint) => write!(f, "; try: {hint}"),
            None => Ok(()),
        }
    }
}

/// What of shared virtual memory works on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svm {
    mirroring: Result<(), Unmet>,
    migration: Result<(), Unmet>,
}

impl Svm {
    /// Whether the GPU can see the process's memory at the process's addresses, or what that lacks.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn mirroring(&self) -> Result<(), &Unmet> {
        self.mirroring.as_ref().copied()
    }

    /// Whether pages can be prefetched into the GPU's own memory, or what that lacks.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn migration(&self) -> Result<(), &Unmet> {
        self.migration.as_ref().copied()
    }
}

/// A name for people.
pub(super) fn name(device: &Device) -> String {
    let simulated = if device.is_simulated() { "simulated " } else { "" };
    let model = match device {
        Device::Xe(xe_device) => format!("Intel GPU 8086:{:04x}", xe_device.config().device_id),
        Device::Kfd(gpu) => match gpu.node() {
            Ok(node) => match (node.gfx_version(), node.device_id()) {
                (Some(gfx), Some(device)) => format!("AMD GPU 1002:{device:04x} {gfx}"),
                (Some(gfx), None) => format!("AMD GPU {gfx}"),
                _ => format!("AMD {}", gpu.id()),
            },
            Err(_) => format!("AMD {}", gpu.id()),
        },
    };
    format!("{simulated}{model} ({})", device.node())
}

pub(super) fn svm(device: &Device) -> Result<Svm> {
    match device {
        Device::Xe(xe_device) => {
            let config = xe_device.config();
            let mirroring = if config.has_cpu_addr_mirror {
                Ok(())
            } else {
                Err(Unmet::new(
                    "the GPU serves no page faults, or the kernel's xe driver has no shared virtual memory",
                    "Lunar Lake, Battlemage or newer, with Linux 6.15 or newer built with CONFIG_DRM_XE_GPUSVM",
                ))
            };
            let migration = match &mirroring {
                Err(unmet) => Err(unmet.clone()),
                Ok(()) if !config.has_vram => {
                    Err(Unmet::incurable("an integrated GPU works on system memory directly"))
                }
                Ok(()) if !xe_device.probe().supports(xe::Operation::PrefetchToVram)? => Err(Unmet::new(
                    "this kernel's xe driver cannot prefetch into VRAM",
                    "Linux 6.18 or newer",
                )),
                Ok(()) => Ok(()),
            };
            Ok(Svm { mirroring, migration })
        }
        Device::Kfd(gpu) => {
            let node = gpu.node()?;
            let mirroring = if node.is_svm_capable() {
                Ok(())
            } else {
                Err(Unmet::new(
                    "KFD reports no SVM capability for this GPU",
                    "gfx9 or newer, on a kernel built with CONFIG_HSA_AMD_SVM and CONFIG_DEVICE_PRIVATE",
                ))
            };
            let migration = match &mirroring {
                Err(unmet) => Err(unmet.clone()),
                Ok(()) if node.vram_bytes() == 0 => Err(Unmet::incurable("the GPU has no memory of its own")),
                Ok(()) => Ok(()),
            };
            Ok(Svm { mirroring, migration })
        }
    }
}
