//! The GPUs of this machine, whatever their driver.

use std::fmt;

use crate::device::{Device, Driver};
use crate::error::Result;
use crate::location::{Location, VramRegion};
use crate::mirror::Mirror;
use crate::pagemap::Space;

mod discover;
#[cfg(feature = "sim")]
mod simulated;
mod support;
mod vram;

pub use discover::{Discovery, PassedOver};
pub use support::{Svm, Unmet};

/// A GPU that can, or might, share the process's address space.
///
/// Found by [`discover`](Self::discover); cheap to clone. Everything it offers works alike on xe, on amdgpu, and on the simulated
/// device.
///
/// ```
/// use drm_pagemap::Gpu;
///
/// let gpu = Gpu::discover()?.into_iter().next().unwrap_or_else(Gpu::simulated);
/// println!("{}: {:?}", gpu.name(), gpu.svm());
/// # Ok::<(), drm_pagemap::Error>(())
/// ```
#[derive(Clone)]
pub struct Gpu {
    device: Device,
    name: String,
    regions: Vec<VramRegion>,
    svm: Svm,
}

impl Gpu {
    /// Looks for GPUs: every render node below `/dev/dri` that the xe driver serves, and every GPU of KFD's topology.
    ///
    /// Opens device files and asks the drivers; creates nothing. On KFD no address space is acquired before
    /// [`mirror`](Self::mirror).
    ///
    /// # Errors
    ///
    /// A machine without GPUs is no error, and a GPU that cannot be used is listed in
    /// [`Discovery::passed_over`] with the reason. Errors are those of reading the directories.
    pub fn discover() -> Result<Discovery> {
        discover::system()
    }

    /// The GPU behind a runtime's own driver objects: an open render node of xe, or a GPU of a KFD process it has
    /// [adopted](crate::kfd::Process::adopt). Asks the driver; creates nothing.
    ///
    /// # Errors
    ///
    /// Those of the driver's queries; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when KFD's topology does not list the GPU.
    pub fn of_device(device: Device) -> Result<Self> {
        Ok(Self {
            name: support::name(&device),
            regions: vram::regions(&device)?,
            svm: support::svm(&device)?,
            device,
        })
    }

    /// Which kernel driver serves it.
    #[must_use]
    pub fn driver(&self) -> Driver {
        self.device.driver()
    }

    /// A name for people: vendor, model as far as the driver tells, and the render node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a device of this process.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.device.is_simulated()
    }

    /// Whether system calls, debuggers and other kernel code reach memory of this process that is in VRAM.
    ///
    /// True on real devices, whose kernel brings the pages back for itself as for the CPU. A simulated device can do so only with
    /// `CAP_SYS_PTRACE`, access to `/dev/userfaultfd` or `vm.unprivileged_userfaultfd=1`, and only when its
    /// [`Space`] asks for it; otherwise such system calls answer `EFAULT`.
    #[must_use]
    pub fn kernel_can_touch_vram(&self) -> bool {
        !self.is_simulated() || Space::of_process().is_ok_and(|space| space.capabilities().kernel_touch)
    }

    /// What of shared virtual memory works here, and why not the rest.
    #[must_use]
    pub fn svm(&self) -> &Svm {
        &self.svm
    }

    /// The GPU's own memory, as a target: its first region.
    ///
    /// A GPU without memory of its own has one too, of size 0; a prefetch there is refused with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) and never quietly turned into something else.
    #[must_use]
    pub fn vram(&self) -> Location {
        Location::Vram(self.regions[0].clone())
    }

    /// All regions of the GPU's own memory; at least one.
    #[must_use]
    pub fn vram_regions(&self) -> &[VramRegion] {
        &self.regions
    }

    /// Lets the GPU see this process's memory at the process's own addresses.
    ///
    /// On xe: `DRM_IOCTL_XE_VM_CREATE` with long-running and fault mode, then one bind of the whole address space (since kernel
    /// 6.15). The first VM of a discrete GPU makes the kernel's page descriptors for all of its memory, about 1.6 % of its size
    /// in RAM. On KFD: `AMDKFD_IOC_ACQUIRE_VM` for every GPU of the process (since kernel 5.14); see there for the order with HIP.
    /// The first mirror of a GPU there, and the first after a reset, sends one page to VRAM and back, because a driver that has
    /// stopped copying says so in no other way (see [`mirror`](crate::mirror#when-a-gpu-is-reset)).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) with the reason where [`svm`](Self::svm) says so;
    /// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) where that page comes back without its contents; otherwise what
    /// the driver answers.
    pub fn mirror(&self) -> Result<Mirror> {
        self.svm.mirroring().map_err(|unmet| unmet.clone().into_error("Gpu::mirror"))?;
        Mirror::new(&self.device)
    }

    /// The driver's own objects, for what only one driver has.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gpu").field(&self.name).finish()
    }
}
