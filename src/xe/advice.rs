//! Attributes of addresses, as `MADVISE` takes them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::device::Device;
use super::pat::PatIndex;
use super::vm::Vm;
use crate::channel::Retry;
use crate::error::{Error, ErrorKind, Result};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::uapi::xe::{
    DRM_XE_ATOMIC_CPU, DRM_XE_ATOMIC_DEVICE, DRM_XE_ATOMIC_GLOBAL, DRM_XE_ATOMIC_UNDEFINED,
    DRM_XE_MEM_RANGE_ATTR_ATOMIC, DRM_XE_MEM_RANGE_ATTR_PAT, DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC,
    DRM_XE_MIGRATE_ALL_PAGES, DRM_XE_MIGRATE_ONLY_SYSTEM_PAGES, DRM_XE_PREFERRED_LOC_DEFAULT_DEVICE,
    DRM_XE_PREFERRED_LOC_DEFAULT_SYSTEM, Madvise, MadviseAtomic, MadvisePat, MadvisePreferredLoc,
    MadviseValue,
};

/// One attribute of a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice<'a> {
    /// Where faults and [`PrefetchTarget::Advised`](super::PrefetchTarget::Advised) bring pages.
    #[doc(alias = "DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC")]
    PreferredLocation(PreferredLocation<'a>),
    /// Who does atomic operations.
    #[doc(alias = "DRM_XE_MEM_RANGE_ATTR_ATOMIC")]
    Atomic(AtomicMode),
    /// How the GPU caches.
    #[doc(alias = "DRM_XE_MEM_RANGE_ATTR_PAT")]
    Pat(PatIndex),
}

/// Where pages are preferred to be. Applies to mirrors only; other mappings in the range are skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PreferredLocation<'a> {
    /// The memory of the device that faults (system memory where it has none). The default: on a device with VRAM, a mere GPU
    /// read moves up to 2 MiB there.
    #[default]
    #[doc(alias = "DRM_XE_PREFERRED_LOC_DEFAULT_DEVICE")]
    FaultingDevice,
    /// System memory. Pages that are in VRAM already stay there until the CPU touches them or they are prefetched to
    /// system memory.
    #[doc(alias = "DRM_XE_PREFERRED_LOC_DEFAULT_SYSTEM")]
    System,
    /// A memory region of this or another device, by its [instance](super::MemoryRegion::instance). Since kernel 7.0.
    Region {
        /// The device that has the memory; it may be closed afterwards.
        device: &'a Device,
        /// The region, from 1 on.
        instance: u16,
    },
}

/// Which pages a preferred location moves. Stored and reported by the driver, without effect up to 7.3; this crate always
/// leaves it at [`AllPages`](Self::AllPages).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MigrationPolicy {
    /// Wherever they are.
    #[default]
    #[doc(alias = "DRM_XE_MIGRATE_ALL_PAGES")]
    AllPages,
    /// Out of system memory only.
    #[doc(alias = "DRM_XE_MIGRATE_ONLY_SYSTEM_PAGES")]
    OnlySystemPages,
    /// A policy newer than this crate.
    Other(u32),
}

impl MigrationPolicy {
    pub(super) const fn from_raw(raw: u32) -> Self {
        match raw {
            DRM_XE_MIGRATE_ALL_PAGES => Self::AllPages,
            DRM_XE_MIGRATE_ONLY_SYSTEM_PAGES => Self::OnlySystemPages,
            other => Self::Other(other),
        }
    }
}

/// Who does atomic operations on a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AtomicMode {
    /// Nothing is said: a device with VRAM moves pages there for a GPU atomic, and refuses where they cannot move. The default.
    #[default]
    #[doc(alias = "DRM_XE_ATOMIC_UNDEFINED")]
    Undefined,
    /// The GPU alone: atomics work in place, in system memory too (not on PVC).
    #[doc(alias = "DRM_XE_ATOMIC_DEVICE")]
    Device,
    /// GPU and CPU on the same data: a device with VRAM moves pages there for each GPU atomic.
    #[doc(alias = "DRM_XE_ATOMIC_GLOBAL")]
    Global,
    /// The CPU alone: a GPU atomic fails and ends its queue.
    #[doc(alias = "DRM_XE_ATOMIC_CPU")]
    Cpu,
    /// A mode newer than this crate; refused by [`Vm::advise`].
    Other(u32),
}

impl AtomicMode {
    pub(super) const fn from_raw(raw: u32) -> Self {
        match raw {
            DRM_XE_ATOMIC_UNDEFINED => Self::Undefined,
            DRM_XE_ATOMIC_DEVICE => Self::Device,
            DRM_XE_ATOMIC_GLOBAL => Self::Global,
            DRM_XE_ATOMIC_CPU => Self::Cpu,
            other => Self::Other(other),
        }
    }

    const fn raw(self) -> u32 {
        match self {
            Self::Undefined => DRM_XE_ATOMIC_UNDEFINED,
            Self::Device => DRM_XE_ATOMIC_DEVICE,
            Self::Global => DRM_XE_ATOMIC_GLOBAL,
            Self::Cpu => DRM_XE_ATOMIC_CPU,
            Self::Other(raw) => raw,
        }
    }
}

impl Vm {
    /// One `MADVISE`, with the channel's error.
    pub(super) fn advise_raw(&self, range: PageRange, advice: &Advice<'_>) -> Result<()> {
        // A duplicated descriptor is open until the driver has looked at its number.
        let (attribute, value, _held) = match advice.without_descriptor() {
            Some((attribute, value)) => (attribute, value, None),
            None => advice.with_descriptor()?,
        };
        let mut arg = self.madvise(range, attribute, value);
        // SAFETY: these attributes hold no address.
        unsafe { self.device().channel().call(&mut arg, Retry::Always) }
    }

    /// The argument of a `MADVISE`.
    #[inline]
    pub(super) fn madvise(&self, range: PageRange, attribute: u32, value: MadviseValue) -> Madvise {
        Madvise {
            vm_id: self.id(),
            start: range.start(),
            range: range.len(),
            attribute,
            value,
            ..Default::default()
        }
    }
}

impl Advice<'_> {
    /// The attribute and its value, unless a descriptor belongs to it.
    #[inline]
    pub(super) fn without_descriptor(self) -> Option<(u32, MadviseValue)> {
        let location =
            |devmem_fd| Some((DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC, preferred_location(devmem_fd, 0)));
        match self {
            Self::PreferredLocation(PreferredLocation::FaultingDevice) => {
                location(DRM_XE_PREFERRED_LOC_DEFAULT_DEVICE)
            }
            Self::PreferredLocation(PreferredLocation::System) => {
                location(DRM_XE_PREFERRED_LOC_DEFAULT_SYSTEM)
            }
            Self::PreferredLocation(PreferredLocation::Region { .. }) => None,
            Self::Atomic(mode) => Some((
                DRM_XE_MEM_RANGE_ATTR_ATOMIC,
                MadviseAtomic { val: mode.raw(), ..Default::default() }.into(),
            )),
            Self::Pat(index) => Some((
                DRM_XE_MEM_RANGE_ATTR_PAT,
                MadvisePat { val: index.0.into(), ..Default::default() }.into(),
            )),
        }
    }

    /// The attribute, its value, and a duplicate of the descriptor in it where that was needed.
    fn with_descriptor(&self) -> Result<(u32, MadviseValue, Option<OwnedFd>)> {
        let Self::PreferredLocation(PreferredLocation::Region { device, instance }) = *self else {
            unreachable!("no other advice has a descriptor")
        };
        let fd = device.channel().descriptor().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, Madvise::NAME)
                .because("the preferred device has no file descriptor to name it by")
        })?;
        // 0 means "the faulting device" to the driver.
        let duplicate = match fd.as_raw_fd() {
            0 => Some(
                rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 1)
                    .map_err(|errno| Error::from_errno("F_DUPFD_CLOEXEC", errno.into()))?,
            ),
            _ => None,
        };
        let number = duplicate.as_ref().map_or(fd.as_raw_fd(), AsRawFd::as_raw_fd);
        Ok((DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC, preferred_location(number as u32, instance), duplicate))
    }
}

fn preferred_location(devmem_fd: u32, region_instance: u16) -> MadviseValue {
    MadvisePreferredLoc {
        devmem_fd,
        migration_policy: DRM_XE_MIGRATE_ALL_PAGES as u16,
        region_instance,
        reserved: 0,
    }
    .into()
}
