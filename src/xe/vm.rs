//! A GPU address space.

use std::sync::{Mutex, PoisonError};

use bitflags::bitflags;

use super::device::Device;
use super::errors::{Meaning, explain, means};
use super::pat::PatIndex;
use crate::channel::{ProcessGuard, Retry};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::uapi::xe::{
    DRM_XE_VM_BIND_OP_MAP, DRM_XE_VM_CREATE_FLAG_FAULT_MODE, DRM_XE_VM_CREATE_FLAG_LR_MODE,
    DRM_XE_VM_CREATE_FLAG_NO_VM_OVERCOMMIT, DRM_XE_VM_CREATE_FLAG_SCRATCH_PAGE, VmBind, VmBindOp, VmBindOps,
    VmCreate, VmDestroy,
};

bitflags! {
    /// How a [`Vm`] behaves, for all its life.
    ///
    /// Legal are: nothing, or `SCRATCH_PAGE`; the same with `LR_MODE`; `LR_MODE | FAULT_MODE`, alone or with
    /// `NO_VM_OVERCOMMIT`; and, on devices that need it (LNL, BMG, PTL), `FAULT_MODE` with `SCRATCH_PAGE`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct VmFlags: u32 {
        /// Addresses that nothing is bound to read and write a scratch page instead of faulting.
        #[doc(alias = "DRM_XE_VM_CREATE_FLAG_SCRATCH_PAGE")]
        const SCRATCH_PAGE = DRM_XE_VM_CREATE_FLAG_SCRATCH_PAGE;
        /// Long-running: completion is told by user fences only.
        #[doc(alias = "DRM_XE_VM_CREATE_FLAG_LR_MODE")]
        const LR_MODE = DRM_XE_VM_CREATE_FLAG_LR_MODE;
        /// GPU page faults are served. Needs `LR_MODE`.
        #[doc(alias = "DRM_XE_VM_CREATE_FLAG_FAULT_MODE")]
        const FAULT_MODE = DRM_XE_VM_CREATE_FLAG_FAULT_MODE;
        /// Bound buffer objects are never evicted for lack of space. Needs `FAULT_MODE`. Since kernel 7.1.
        #[doc(alias = "DRM_XE_VM_CREATE_FLAG_NO_VM_OVERCOMMIT")]
        const NO_VM_OVERCOMMIT = DRM_XE_VM_CREATE_FLAG_NO_VM_OVERCOMMIT;
        /// What SVM needs: `LR_MODE | FAULT_MODE`.
        const SVM = DRM_XE_VM_CREATE_FLAG_LR_MODE | DRM_XE_VM_CREATE_FLAG_FAULT_MODE;
    }
}

impl VmFlags {
    /// Why no device accepts these flags, or `None`.
    fn contradiction(self) -> Option<&'static str> {
        if !Self::all().contains(self) {
            Some("a flag is unknown")
        } else if self.contains(Self::FAULT_MODE) && !self.contains(Self::LR_MODE) {
            Some("FAULT_MODE needs LR_MODE")
        } else if self.contains(Self::NO_VM_OVERCOMMIT) && !self.contains(Self::FAULT_MODE) {
            Some("NO_VM_OVERCOMMIT needs FAULT_MODE")
        } else {
            None
        }
    }
}

const CREATE: &[Meaning] = &[
    means(
        Errno::EINVAL,
        ErrorKind::Unsupported,
        "this device or kernel does not offer a VM with these flags",
        "fault mode needs a device that serves page faults (PVC, or Lunar Lake and newer); NO_VM_OVERCOMMIT needs Linux \
         7.1; SCRATCH_PAGE together with FAULT_MODE exists on LNL, BMG and PTL only",
    ),
    means(
        Errno::ENOSPC,
        ErrorKind::OutOfVram,
        "no device memory for the page tables",
        "free device memory and repeat the call",
    ),
    means(
        Errno::EBUSY,
        ErrorKind::Busy,
        "the kernel found no addresses for the pages of the device's memory",
        "look into the kernel log for request_region errors",
    ),
];

/// A GPU address space (`VM_CREATE`), destroyed on drop.
///
/// It belongs to the address space of the process that made it: every mirrored address means that process's memory. In a
/// forked child all calls answer [`ErrorKind::ForeignProcess`], and dropping the child's copy leaves the parent's VM alone.
///
/// All methods take `&self`; the driver serialises them with a lock of its own, which a prefetch holds for as long as it
/// migrates.
///
/// ```no_run
/// use drm_pagemap::PageRange;
/// use drm_pagemap::xe::{Device, PrefetchTarget, Vm, VmFlags};
///
/// let device = Device::open("/dev/dri/renderD128".as_ref())?;
/// let vm = Vm::create(&device, VmFlags::SVM)?;
/// vm.mirror_all()?;
/// let data = vec![1.0f32; 1 << 20];
/// vm.prefetch(PageRange::covering(&data), PrefetchTarget::Region(1))?;
/// # Ok::<(), drm_pagemap::Error>(())
/// ```
#[doc(alias = "drm_xe_vm_create")]
#[derive(Debug)]
pub struct Vm {
    device: Device,
    id: u32,
    /// `None`: the VM is the caller's and we were not told.
    flags: Option<VmFlags>,
    owned: bool,
    guard: ProcessGuard,
    /// How the VM was mirrored so far; locked across each mirror call, because the driver merges mirrors.
    mirrored: Mutex<Option<ResolvedMirror>>,
}

impl Vm {
    /// Creates a VM (`VM_CREATE`, since kernel 6.8; fault mode with mirrors since 6.15).
    ///
    /// The first VM in fault mode on a device with VRAM makes the kernel describe all of that VRAM in pages of RAM (about
    /// 1.6 % of its size), which takes a moment.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for flags that contradict each other; [`ErrorKind::Unsupported`] (`EINVAL`) when the
    /// device or kernel lacks them; [`ErrorKind::OutOfMemory`], [`ErrorKind::OutOfVram`], [`ErrorKind::DeviceLost`].
    pub fn create(device: &Device, flags: VmFlags) -> Result<Self> {
        if let Some(reason) = flags.contradiction() {
            return Err(Error::new(ErrorKind::InvalidArgument, VmCreate::NAME).because(reason));
        }
        let guard = ProcessGuard::current()?;
        let mut arg = VmCreate { flags: flags.bits(), ..Default::default() };
        // SAFETY: the argument holds no address.
        unsafe { device.channel().call(&mut arg, Retry::Always) }.map_err(|error| explain(error, CREATE))?;
        Ok(Self {
            device: device.clone(),
            id: arg.vm_id,
            flags: Some(flags),
            owned: true,
            guard,
            mirrored: Mutex::new(None),
        })
    }

    /// Uses a VM that somebody else created on the same open file and in this process. It is never destroyed by this value.
    ///
    /// The id is taken at its word: a wrong one makes calls fail with `EINVAL` or `ENOENT`, or act on another VM of the
    /// same open file.
    ///
    /// # Safety
    ///
    /// The safe methods of a VM change what its addresses lead to: memory of the process after [`mirror`](Self::mirror),
    /// nothing after [`unmap`](Self::unmap). Whoever submitted GPU programs to the VM promised something about the memory that
    /// they write; the caller answers for it that this promise stays true, in the simplest case by being that code.
    ///
    /// # Errors
    ///
    /// The errno of `mmap` where the page that tells a fork cannot be had.
    pub unsafe fn adopt(device: &Device, vm_id: u32) -> Result<Self> {
        Ok(Self {
            device: device.clone(),
            id: vm_id,
            flags: None,
            owned: false,
            guard: ProcessGuard::current()?,
            mirrored: Mutex::new(None),
        })
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The driver's number for the VM, unique on the open file while the VM exists.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The flags it was created with; `None` for an adopted VM.
    #[must_use]
    pub const fn flags(&self) -> Option<VmFlags> {
        self.flags
    }

    pub(super) fn check_process(&self, call: &'static str) -> Result<()> {
        self.guard.check(call)
    }

    /// Makes one `VM_BIND` of one operation, stored in the argument: no allocation, one system call. The error is as the
    /// channel gives it.
    pub(super) fn bind_one(&self, op: VmBindOp, retry: Retry) -> Result<()> {
        self.guard.check(VmBind::NAME)?;
        let mut arg =
            VmBind { vm_id: self.id, num_binds: 1, binds: VmBindOps::inline(op), ..Default::default() };
        // SAFETY: the argument holds no address that the kernel writes to.
        unsafe { self.device.channel().call(&mut arg, retry) }
    }

    pub(super) fn mirrored(&self) -> std::sync::MutexGuard<'_, Option<ResolvedMirror>> {
        // The lock guards a plain value that is written whole, so a panic elsewhere leaves nothing half-done in it.
        self.mirrored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How addresses are mirrored, as this kernel and device take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResolvedMirror {
    pub(super) flags: u32,
    pub(super) pat: PatIndex,
}

impl ResolvedMirror {
    /// The operation that mirrors `range` so.
    pub(super) fn over(self, range: PageRange) -> VmBindOp {
        VmBindOp {
            addr: range.start(),
            range: range.len(),
            op: DRM_XE_VM_BIND_OP_MAP,
            flags: self.flags,
            pat_index: self.pat.0,
            ..Default::default()
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if !self.owned || !self.guard.is_owner() {
            return;
        }
        let mut arg = VmDestroy { vm_id: self.id, ..Default::default() };
        // SAFETY: the argument holds no address. A failure (device gone, wedged) leaves nothing to do: the kernel destroys the
        // VM with the open file.
        let _ = unsafe { self.device.channel().call(&mut arg, Retry::Always) };
    }
}
