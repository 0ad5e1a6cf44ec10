//! What a test needs of the device and the machine.

use drm_pagemap::xe::Operation;
use drm_pagemap::{Device, Driver, Gpu};

/// VRAM up to this size is filled by tests that need it full.
const SMALL: u64 = 256 << 20;

/// A need; a case whose device lacks one is ignored with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The driver is xe.
    Xe,
    /// The driver is amdgpu with KFD.
    Kfd,
    /// The device is one of this process, whose faults a test can arrange.
    Simulated,
    /// A prefetch can move pages into memory of the device.
    Vram,
    /// VRAM small enough to be filled.
    SmallVram,
    /// The driver takes advice about preferred locations.
    Advice,
    /// System calls can read and write memory that is in VRAM.
    KernelTouch,
    /// A second device.
    TwoGpus,
}

impl Need {
    /// Why the device does not have it, or `None` when it does.
    pub fn lacking(self, gpus: &[Gpu]) -> Option<String> {
        let gpu = gpus.first()?;
        match self {
            Self::Xe => (gpu.driver() != Driver::Xe).then(|| "for xe only".to_owned()),
            Self::Kfd => (gpu.driver() != Driver::Kfd).then(|| "for amdgpu only".to_owned()),
            Self::Simulated => (!gpu.is_simulated()).then(|| "needs a simulated device".to_owned()),
            Self::Vram => gpu.svm().migration().err().map(ToString::to_string),
            Self::SmallVram => {
                let size = gpu.vram_regions()[0].size();
                (size > SMALL).then(|| format!("VRAM of {size} bytes is too large to fill in a test"))
            }
            Self::Advice => match gpu.device() {
                Device::Xe(xe) => match xe.probe().supports(Operation::Advise) {
                    Ok(true) => None,
                    Ok(false) => Some("this kernel's xe takes no advice (Linux 6.18)".to_owned()),
                    Err(error) => Some(error.to_string()),
                },
                _ => None,
            },
            Self::KernelTouch => (!gpu.kernel_can_touch_vram())
                .then(|| "system calls cannot reach simulated VRAM without CAP_SYS_PTRACE".to_owned()),
            Self::TwoGpus => (gpus.len() < 2).then(|| "needs a second device".to_owned()),
        }
    }
}
