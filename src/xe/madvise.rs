//! Memory attributes of ranges (`MADVISE`).

use std::os::fd::{AsFd, AsRawFd};

use super::device::Device;
use super::errors::{Meaning, explain, means};
use super::pat::PatIndex;
use super::probe::Operation;
use super::vm::Vm;
use crate::channel::Retry;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::uapi::xe::{
    DRM_XE_ATOMIC_CPU, DRM_XE_ATOMIC_DEVICE, DRM_XE_ATOMIC_GLOBAL, DRM_XE_ATOMIC_UNDEFINED,
    DRM_XE_MEM_RANGE_ATTR_ATOMIC, DRM_XE_MEM_RANGE_ATTR_PAT, DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC,
    DRM_XE_MIGRATE_ALL_PAGES, DRM_XE_MIGRATE_ONLY_SYSTEM_PAGES, DRM_XE_PREFERRED_LOC_DEFAULT_DEVICE,
    DRM_XE_PREFERRED_LOC_DEFAULT_SYSTEM, DRM_XE_VMA_ATTR_PURGEABLE_STATE,
    DRM_XE_VMA_PURGEABLE_STATE_DONTNEED, DRM_XE_VMA_PURGEABLE_STATE_WILLNEED, Madvise, MadviseAtomic,
    MadvisePat, MadvisePreferredLoc, MadvisePurgeable, MadviseValue,
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

impl Advice<'_> {
    /// The driver's words for it, unless they need a descriptor of a device.
    #[inline]
    fn without_descriptor(self) -> Option<(u32, MadviseValue)> {
        match self {
            Self::PreferredLocation(PreferredLocation::FaultingDevice) => {
                Some((DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC, location(DRM_XE_PREFERRED_LOC_DEFAULT_DEVICE, 0)))
            }
            Self::PreferredLocation(PreferredLocation::System) => {
                Some((DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC, location(DRM_XE_PREFERRED_LOC_DEFAULT_SYSTEM, 0)))
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

/// Whether the content of buffer objects is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purgeable {
    /// Keep it.
    #[doc(alias = "DRM_XE_VMA_PURGEABLE_STATE_WILLNEED")]
    WillNeed,
    /// It may be thrown away when device memory runs short: the CPU's mappings then raise `SIGBUS` and the GPU's stop working.
    #[doc(alias = "DRM_XE_VMA_PURGEABLE_STATE_DONTNEED")]
    DontNeed,
}

const ADVISE: &[Meaning] = &[
    means(
        Errno::EINVAL,
        ErrorKind::InvalidArgument,
        "the VM does not exist, the range lies outside its addresses, or the value cannot be had for what is mapped there \
         (a PAT index that is reserved or must be coherent, an atomic mode that a buffer object's placement forbids)",
        "boot with drm.debug=2 for the exact check that failed",
    ),
    means(
        Errno::ENOENT,
        ErrorKind::NotFound,
        "the preferred location is not a VRAM region of an xe device, or the VM is dead",
        "ask Device::memory_regions of the device for regions of class Vram",
    ),
    means(
        Errno::ENOLINK,
        ErrorKind::NoInterconnect,
        "no fast path connects the two devices",
        "prefer the faulting device or system memory; PCIe peer-to-peer needs CONFIG_PCI_P2PDMA and a common switch or root",
    ),
    means(
        Errno::EFAULT,
        ErrorKind::NotMapped,
        "the driver could not write back whether the content was kept",
        "report this: the word belongs to the crate",
    ),
];

impl Vm {
    /// Sets one attribute over `range` (`MADVISE`, since kernel 6.18). An empty range is success without a call.
    ///
    /// The driver splits its mappings at the ends of the range; buffer objects are not split, the advice holds for all of a
    /// mapping that the range touches. Where nothing is bound, advice is lost without an error. Pages do not move: the next
    /// fault or prefetch applies a new preferred location. Advice belongs to addresses, see
    /// [`MirrorOptions::keep_advice`](super::MirrorOptions::keep_advice) for what ends it.
    ///
    /// One ioctl; two for [`PreferredLocation::Region`], because the driver takes a location with the same file number for
    /// unchanged even when the region or the device behind the number is another.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::Unsupported`]: the kernel has no `MADVISE`, or does not know regions as locations.
    /// * [`ErrorKind::InvalidArgument`] (`EINVAL`), [`ErrorKind::NotFound`] (`ENOENT`), [`ErrorKind::NoInterconnect`]
    ///   (`ENOLINK`), [`ErrorKind::OutOfMemory`] (`ENOMEM`), [`ErrorKind::DeviceLost`].
    pub fn advise(&self, range: PageRange, advice: Advice<'_>) -> Result<()> {
        self.check_process(Madvise::NAME)?;
        if range.is_empty() {
            return Ok(());
        }
        let (attribute, value) = match advice.without_descriptor() {
            Some(found) => found,
            None => return self.advise_region(range, advice),
        };
        let mut arg = self.madvise(range, attribute, value);
        // SAFETY: these attributes hold no address.
        match unsafe { self.device().channel().call(&mut arg, Retry::Always) } {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain_advise(error, range, &advice)),
        }
    }

    #[inline(never)]
    fn advise_region(&self, range: PageRange, advice: Advice<'_>) -> Result<()> {
        self.advise(range, Advice::PreferredLocation(PreferredLocation::System))?;
        self.advise_raw(range, &advice).map_err(|error| self.explain_advise(error, range, &advice))
    }

    /// Says whether the content of the buffer objects bound in `range` is needed (`MADVISE`, since kernel 7.1). Answers whether
    /// it is still there: false once memory of an object was thrown away, and where nothing at all is bound. Mirrors and user
    /// pointers are skipped, and count as kept.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] before 7.1; otherwise as [`advise`](Self::advise).
    pub fn set_purgeable(&self, range: PageRange, state: Purgeable) -> Result<bool> {
        self.check_process(Madvise::NAME)?;
        self.device().probe().require(Operation::Purgeable)?;
        if range.is_empty() {
            return Ok(true);
        }
        let mut retained = 0u32;
        let val = match state {
            Purgeable::WillNeed => DRM_XE_VMA_PURGEABLE_STATE_WILLNEED,
            Purgeable::DontNeed => DRM_XE_VMA_PURGEABLE_STATE_DONTNEED,
        };
        let value = MadvisePurgeable { val, pad: 0, retained_ptr: &raw mut retained as u64 };
        let mut arg = self.madvise(range, DRM_XE_VMA_ATTR_PURGEABLE_STATE, value.into());
        // The driver writes the word last, after everything that can be interrupted, so a repetition finds it 0 still.
        // SAFETY: the kernel reads and writes the four bytes of `retained` during the call.
        let result = unsafe { self.device().channel().call(&mut arg, Retry::Interrupted) };
        result.map_err(|error| explain(error, ADVISE).over(range))?;
        Ok(retained != 0)
    }

    /// One `MADVISE`, with the channel's error.
    pub(super) fn advise_raw(&self, range: PageRange, advice: &Advice<'_>) -> Result<()> {
        let Some((attribute, value)) = advice.without_descriptor() else {
            return self.prefer_region(range, advice);
        };
        let mut arg = self.madvise(range, attribute, value);
        // SAFETY: these attributes hold no address.
        unsafe { self.device().channel().call(&mut arg, Retry::Always) }
    }

    /// One `MADVISE` that prefers a region of a device, with the channel's error.
    fn prefer_region(&self, range: PageRange, advice: &Advice<'_>) -> Result<()> {
        let Advice::PreferredLocation(PreferredLocation::Region { device, instance }) = *advice else {
            unreachable!("every other advice needs no descriptor")
        };
        let fd = device.channel().descriptor().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, Madvise::NAME)
                .because("the preferred device has no file descriptor to name it by")
        })?;
        // 0 means "the faulting device" to the driver. A duplicate is open until the driver has looked at its number.
        let duplicate = match fd.as_raw_fd() {
            0 => Some(
                rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 1)
                    .map_err(|errno| Error::from_errno("F_DUPFD_CLOEXEC", errno.into()))?,
            ),
            _ => None,
        };
        let number = duplicate.as_ref().map_or(fd.as_raw_fd(), AsRawFd::as_raw_fd);
        let value = location(number as u32, instance);
        let mut arg = self.madvise(range, DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC, value);
        // SAFETY: the attribute holds no address.
        unsafe { self.device().channel().call(&mut arg, Retry::Always) }
    }

    #[inline]
    fn madvise(&self, range: PageRange, attribute: u32, value: MadviseValue) -> Madvise {
        Madvise {
            vm_id: self.id(),
            start: range.start(),
            range: range.len(),
            attribute,
            value,
            ..Default::default()
        }
    }

    /// `EINVAL` may mean that the kernel lacks the call or the location, which only a question of its own tells.
    #[cold]
    fn explain_advise(&self, error: Error, range: PageRange, advice: &Advice<'_>) -> Error {
        let error = explain(error, ADVISE).over(range);
        if error.errno() != Some(Errno::EINVAL) {
            return error;
        }
        let probe = self.device().probe();
        let missing = |operation| probe.supports(operation).is_ok_and(|supported| !supported);
        if missing(Operation::Advise) {
            let reason = "this kernel has no DRM_IOCTL_XE_MADVISE";
            return error.of_kind(ErrorKind::Unsupported).because(reason).hint_is("Linux 6.18 or newer");
        }
        match *advice {
            Advice::PreferredLocation(PreferredLocation::Region { .. })
                if missing(Operation::PreferredRegion) =>
            {
                error
                    .of_kind(ErrorKind::Unsupported)
                    .because("this kernel does not take a region of a device as preferred location")
                    .hint_is("Linux 7.0 or newer; or prefer the faulting device")
            }
            Advice::Pat(index) => match self.device().pat_table() {
                Ok(Some(table)) if table.coherency(index).is_none() => {
                    error.because(format!("PAT index {} is reserved or absent on {}", index.0, table.name()))
                }
                _ => error,
            },
            _ => error,
        }
    }
}

fn location(devmem_fd: u32, region_instance: u16) -> MadviseValue {
    MadvisePreferredLoc {
        devmem_fd,
        migration_policy: DRM_XE_MIGRATE_ALL_PAGES as u16,
        region_instance,
        reserved: 0,
    }
    .into()
}
