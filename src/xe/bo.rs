//! Buffer objects.

use super::device::Device;
use super::errors::{Meaning, explain, means};
use super::query::RegionMask;
use super::vm::Vm;
use crate::channel::{DeviceMapping, ProcessGuard, Retry};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::uapi::IoctlArg;
use crate::uapi::drm::GemClose;
use crate::uapi::xe::{
    DRM_XE_GEM_CPU_CACHING_WB, DRM_XE_GEM_CPU_CACHING_WC, DRM_XE_GEM_CREATE_FLAG_DEFER_BACKING,
    DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM, DRM_XE_GEM_CREATE_FLAG_NO_COMPRESSION, GemCreate,
    GemMmapOffset,
};

/// How the CPU's mappings of a buffer object are cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CpuCaching {
    /// Cached. For objects in system memory alone.
    #[default]
    #[doc(alias = "DRM_XE_GEM_CPU_CACHING_WB")]
    WriteBack,
    /// Write-combining. What objects that may be in VRAM need.
    #[doc(alias = "DRM_XE_GEM_CPU_CACHING_WC")]
    WriteCombining,
}

/// Where and how a buffer object is made.
#[derive(Clone, Copy, Debug)]
pub struct BoOptions<'a> {
    placement: RegionMask,
    flags: u32,
    caching: CpuCaching,
    vm: Option<&'a Vm>,
}

impl<'a> BoOptions<'a> {
    /// In system memory, cached, bindable in every VM.
    #[must_use]
    pub const fn new() -> Self {
        Self { placement: RegionMask::SYSTEM, flags: 0, caching: CpuCaching::WriteBack, vm: None }
    }

    /// In any of these regions. With VRAM among them, the object is mapped write-combining, as the driver demands.
    #[must_use]
    pub const fn placed_in(mut self, regions: RegionMask) -> Self {
        self.placement = regions;
        if regions.bits() & !RegionMask::SYSTEM.bits() != 0 {
            self.caching = CpuCaching::WriteCombining;
        }
        self
    }

    /// CPU caching other than what follows from the placement.
    #[must_use]
    pub const fn cached(mut self, caching: CpuCaching) -> Self {
        self.caching = caching;
        self
    }

    /// For this VM alone, which makes binding and eviction cheaper.
    #[must_use]
    pub const fn private_to(mut self, vm: &'a Vm) -> Self {
        self.vm = Some(vm);
        self
    }

    /// Memory on first use, not now.
    #[doc(alias = "DRM_XE_GEM_CREATE_FLAG_DEFER_BACKING")]
    #[must_use]
    pub const fn deferred(mut self) -> Self {
        self.flags |= DRM_XE_GEM_CREATE_FLAG_DEFER_BACKING;
        self
    }

    /// VRAM from the part the CPU can reach.
    #[doc(alias = "DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM")]
    #[must_use]
    pub const fn cpu_visible(mut self) -> Self {
        self.flags |= DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM;
        self
    }

    /// Never compressed. Since kernel 7.0.
    #[doc(alias = "DRM_XE_GEM_CREATE_FLAG_NO_COMPRESSION")]
    #[must_use]
    pub const fn uncompressed(mut self) -> Self {
        self.flags |= DRM_XE_GEM_CREATE_FLAG_NO_COMPRESSION;
        self
    }
}

impl Default for BoOptions<'_> {
    fn default() -> Self {
        Self::new()
    }
}

const CREATE: &[Meaning] = &[
    means(
        Errno::EINVAL,
        ErrorKind::InvalidArgument,
        "the size is not a multiple of the regions' page size, a region does not exist, or the caching does not fit the placement",
        "sizes are multiples of 4 KiB (64 KiB on DG2 and PVC); VRAM needs write-combining",
    ),
    means(
        Errno::EOPNOTSUPP,
        ErrorKind::Unsupported,
        "the device has no such compression control",
        "leave `uncompressed` out before Xe2",
    ),
    means(Errno::ENOENT, ErrorKind::NotFound, "the VM does not exist", "use a VM of the same open file"),
    means(
        Errno::ENOSPC,
        ErrorKind::OutOfVram,
        "no device memory for the object",
        "free device memory, or allow system memory in the placement",
    ),
];

const MMAP: &[Meaning] = &[
    means(
        Errno::EINVAL,
        ErrorKind::InvalidArgument,
        "the object cannot be mapped, or was purged",
        "make the object again",
    ),
    means(Errno::EBUSY, ErrorKind::Busy, "the object is marked purgeable", "mark it needed first"),
    means(Errno::ENOENT, ErrorKind::NotFound, "the object does not exist", "use one of the same open file"),
];

/// A buffer object (`GEM_CREATE`), closed on drop. Mappings, on the CPU and in VMs, keep its memory alive.
#[doc(alias = "drm_xe_gem_create")]
#[derive(Debug)]
pub struct Bo {
    device: Device,
    handle: u32,
    size: u64,
    guard: ProcessGuard,
}

impl Bo {
    /// Creates an object of `size` bytes, zeroed (`GEM_CREATE`, since kernel 6.8).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] (`EINVAL`), [`ErrorKind::Unsupported`] (`EOPNOTSUPP`), [`ErrorKind::NotFound`]
    /// (`ENOENT`, no such VM), [`ErrorKind::OutOfMemory`] (`ENOMEM`), [`ErrorKind::OutOfVram`] (`ENOSPC`),
    /// [`ErrorKind::DeviceLost`].
    pub fn create(device: &Device, size: u64, options: BoOptions<'_>) -> Result<Self> {
        let guard = ProcessGuard::current()?;
        let placement = u32::try_from(options.placement.bits()).map_err(|_| {
            Error::new(ErrorKind::InvalidArgument, GemCreate::NAME)
                .because("regions above 31 cannot be named")
        })?;
        let mut arg = GemCreate {
            size,
            placement,
            flags: options.flags,
            vm_id: options.vm.map_or(0, Vm::id),
            cpu_caching: match options.caching {
                CpuCaching::WriteBack => DRM_XE_GEM_CPU_CACHING_WB,
                CpuCaching::WriteCombining => DRM_XE_GEM_CPU_CACHING_WC,
            },
            ..Default::default()
        };
        // `handle` is an output that must be 0 on input. The driver copies the argument back even with an error, but sets the
        // handle only on success, so a repetition finds 0.
        // SAFETY: the argument holds no address.
        unsafe { device.channel().call(&mut arg, Retry::Always) }.map_err(|error| explain(error, CREATE))?;
        Ok(Self { device: device.clone(), handle: arg.handle, size, guard })
    }

    /// The driver's number for it, unique on the open file.
    #[must_use]
    pub const fn handle(&self) -> u32 {
        self.handle
    }

    /// Size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Maps the whole object into the process (`GEM_MMAP_OFFSET`, `mmap`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] (`EINVAL`), [`ErrorKind::Busy`] (`EBUSY`, purgeable), [`ErrorKind::DeviceLost`], the errno
    /// of `mmap`.
    #[doc(alias = "drm_xe_gem_mmap_offset")]
    pub fn map(&self) -> Result<DeviceMapping> {
        self.guard.check(GemMmapOffset::NAME)?;
        let mut arg = GemMmapOffset { handle: self.handle, ..Default::default() };
        // SAFETY: the argument holds no address.
        unsafe { self.device.channel().call(&mut arg, Retry::Always) }
            .map_err(|error| explain(error, MMAP))?;
        self.device
            .channel()
            .map("buffer object", arg.offset, self.size as usize)
            .map_err(|error| explain(error, MMAP))
    }
}

impl Drop for Bo {
    fn drop(&mut self) {
        if !self.guard.is_owner() {
            return;
        }
        let mut arg = GemClose { handle: self.handle, pad: 0 };
        // SAFETY: the argument holds no address. A failure leaves nothing to do: the handle goes with the open file.
        let _ = unsafe { self.device.channel().call(&mut arg, Retry::Always) };
    }
}
