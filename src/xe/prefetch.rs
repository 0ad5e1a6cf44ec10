//! Prefetch: fill in and migrate mirrored addresses now.

use super::advice::{Advice, PreferredLocation};
use super::device::Device;
use super::errors::{Meaning, explain, means};
use super::fence::UserFence;
use super::operation::Operation;
use super::vm::Vm;
use crate::channel::Retry;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::uapi::xe::{
    DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC, DRM_XE_VM_BIND_OP_PREFETCH, VmBind, VmBindOp, VmBindOps,
};

/// Where a prefetch brings pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PrefetchTarget {
    /// System memory.
    System,
    /// A memory region of this device, by its [instance](super::MemoryRegion::instance): VRAM from 1 on; 0 is system memory.
    Region(u16),
    /// Where the advice for the addresses prefers them. Since kernel 6.18.
    #[doc(alias = "DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC")]
    Advised,
}

impl PrefetchTarget {
    const fn raw(self) -> u32 {
        match self {
            Self::System => 0,
            Self::Region(instance) => instance as u32,
            Self::Advised => DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC,
        }
    }

    const fn needs(self) -> Option<Operation> {
        match self {
            // What a kernel without prefetch answers to region 0 harms nothing, so it is not asked for beforehand.
            Self::System | Self::Region(0) => None,
            Self::Region(_) => Some(Operation::PrefetchToVram),
            Self::Advised => Some(Operation::PrefetchAdvised),
        }
    }
}

const PREFETCH: &[Meaning] = &[
    means(
        Errno::EINVAL,
        ErrorKind::InvalidArgument,
        "the VM or the memory region does not exist, the range ends beyond the GPU's addresses, or a page fits no block",
        "ask Device::memory_regions for regions; prefetch mirrored addresses only",
    ),
    means(
        Errno::EPERM,
        ErrorKind::MemoryKind,
        "part of the range is mapped read-only or without access, and the mirror is writable",
        "prefetch writable memory only, or mirror read_only",
    ),
    means(
        Errno::EIO,
        ErrorKind::MemoryKind,
        "part of the range is a mapping of a device",
        "leave such mappings out of the range",
    ),
    means(
        Errno::EFAULT,
        ErrorKind::ForeignProcess,
        "the process that made the VM is gone",
        "make a VM in this process",
    ),
    means(
        Errno::EBUSY,
        ErrorKind::Busy,
        "the pages kept changing for a second, or a fence of a mapping in the range is not signalled yet",
        "repeat the prefetch when the memory is quieter; wait for the fence",
    ),
    means(
        Errno::ENOENT,
        ErrorKind::NotFound,
        "the VM was destroyed, or the driver killed it after an internal error",
        "make a new VM; the kernel log says what happened to this one",
    ),
    means(
        Errno::ENOSPC,
        ErrorKind::OutOfVram,
        "no device memory for page tables",
        "free device memory and repeat the prefetch",
    ),
    means(
        Errno::EAGAIN,
        ErrorKind::TryAgain,
        "the pages changed under the driver again and again, or do not fit in device memory all at once",
        "prefetch less at a time than the device has free; part of the range may be there already",
    ),
];

/// How often a prefetch is made that the driver wants repeated (`EAGAIN`). A CPU touch at the wrong moment is over by the next
/// attempt; a request that evicts its own pages moves them all again each time, and never succeeds.
const ATTEMPTS: u32 = 4;

impl Vm {
    /// Brings the pages of `range` to `target` and maps them for the GPU (`VM_BIND`, `PREFETCH`). One ioctl, no allocation;
    /// an empty range is success without a call.
    ///
    /// The migration is done when the call returns; the GPU's page tables may be written shortly after, which a GPU access
    /// in between does not notice. The driver works in naturally aligned blocks of 2 MiB, 64 KiB or 4 KiB and rounds the
    /// request outward to them. Addresses with nothing mapped are skipped. GPU faults and other binds of the VM wait for as
    /// long as a prefetch takes.
    ///
    /// **Success is not residency.** The driver answers 0 when device memory is full, when pages are pinned, and for memory that
    /// never migrates (files, shared memory, huge pages of hugetlbfs): such pages are mapped where they are, and with some
    /// causes the rest of the range is not looked at. A range that crosses a mapped buffer object ends there.
    ///
    /// Since kernel 6.16 to system memory, since 6.18 to VRAM: 6.17 crashes at such a request, so kernels without `MADVISE` are
    /// not asked.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::Unsupported`]: this kernel cannot prefetch to such a target.
    /// * [`ErrorKind::InvalidArgument`] (`EINVAL`): no such region or VM, or the range ends beyond the GPU's addresses.
    /// * [`ErrorKind::MemoryKind`] (`EPERM`: not writable, under a writable mirror; `EIO`: a device mapping). Pages before
    ///   the offending one may have been prepared.
    /// * [`ErrorKind::TryAgain`] (`EAGAIN`, after a few repetitions): the pages kept changing, or the range does not fit in device
    ///   memory and its end evicted its beginning. As much as fits is there.
    /// * [`ErrorKind::Busy`] (`EBUSY`), [`ErrorKind::OutOfMemory`] (`ENOMEM`), [`ErrorKind::OutOfVram`] (`ENOSPC`, page tables), [`ErrorKind::NotFound`] (`ENOENT`, dead VM),
    ///   [`ErrorKind::ForeignProcess`], [`ErrorKind::DeviceLost`].
    #[doc(alias = "DRM_XE_VM_BIND_OP_PREFETCH")]
    pub fn prefetch(&self, range: PageRange, target: PrefetchTarget) -> Result<()> {
        self.prefetch_inlined(range, target)
    }

    /// [`prefetch`](Self::prefetch), compiled into its caller, which knows what kind of target it has.
    #[inline(always)]
    pub(crate) fn prefetch_inlined(&self, range: PageRange, target: PrefetchTarget) -> Result<()> {
        self.check_process(VmBind::NAME)?;
        if range.is_empty() {
            return Ok(());
        }
        match target.needs() {
            Some(needed) if !self.device().probe().is_known_to_support(needed) => {
                self.prefetch_first(range, target, needed)
            }
            _ => self.prefetch_run(&mut self.prefetch_argument(target), range),
        }
    }

    /// The first prefetch to such a target, before which the kernel is asked whether it can.
    #[cold]
    fn prefetch_first(&self, range: PageRange, target: PrefetchTarget, needed: Operation) -> Result<()> {
        self.device().probe().require(needed)?;
        self.prefetch_run(&mut self.prefetch_argument(target), range)
    }

    /// As [`prefetch`](Self::prefetch), and tells through `fence` when the GPU's page tables are written. An empty range
    /// signals nothing and leaves the fence signalled.
    ///
    /// Until the fence is signalled, unmapping or mirroring the range again answers [`ErrorKind::AddressInUse`].
    ///
    /// # Errors
    ///
    /// As [`prefetch`](Self::prefetch); [`ErrorKind::Busy`] when `fence` is still waiting for an earlier operation.
    pub fn prefetch_with_fence(
        &self,
        range: PageRange,
        target: PrefetchTarget,
        fence: &mut UserFence,
    ) -> Result<()> {
        self.check_process(VmBind::NAME)?;
        if range.is_empty() {
            return Ok(());
        }
        self.require_target(target)?;
        let sync = fence.arm(VmBind::NAME)?;
        let mut arg =
            VmBind { num_syncs: 1, syncs: &raw const sync as u64, ..self.prefetch_argument(target) };
        let result = self.prefetch_run(&mut arg, range);
        fence.settle(&result);
        result
    }

    /// Prefetches several ranges to one target, in their order, and stops at the first that fails; its range is in the error.
    ///
    /// One ioctl for each run of ranges that follow each other without a gap, so 1024 neighbours are one and 1024 ranges apart
    /// are 1024. Sorted ranges need the fewest. Nothing is allocated.
    ///
    /// Not one ioctl for all: when the driver cannot move the pages of one operation, it skips the page-table work of the
    /// others in the same call and still answers 0.
    ///
    /// # Errors
    ///
    /// As [`prefetch`](Self::prefetch).
    pub fn prefetch_each(&self, ranges: &[PageRange], target: PrefetchTarget) -> Result<()> {
        self.check_process(VmBind::NAME)?;
        let mut ranges = ranges.iter().copied().filter(|range| !range.is_empty());
        let Some(mut run) = ranges.next() else { return Ok(()) };
        self.require_target(target)?;
        let mut arg = self.prefetch_argument(target);
        for range in ranges {
            if range.start() == run.end() {
                run = run.hull(range);
            } else {
                self.prefetch_run(&mut arg, run)?;
                run = range;
            }
        }
        self.prefetch_run(&mut arg, run)
    }

    /// Prefetches to a memory region of another device: advises the range to prefer it, then prefetches where advised.
    /// Since kernel 7.0.
    ///
    /// The advice stays.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoInterconnect`] (`ENOLINK`) when no fast path connects the devices; otherwise as
    /// [`advise`](Self::advise) and [`prefetch`](Self::prefetch).
    pub fn prefetch_to_peer(&self, range: PageRange, peer: &Device, instance: u16) -> Result<()> {
        self.advise(range, Advice::PreferredLocation(PreferredLocation::Region { device: peer, instance }))?;
        self.prefetch(range, PrefetchTarget::Advised)
    }

    #[inline]
    fn require_target(&self, target: PrefetchTarget) -> Result<()> {
        match target.needs() {
            Some(needed) => self.device().probe().require(needed),
            None => Ok(()),
        }
    }

    /// The argument of a prefetch, without its range.
    #[inline]
    fn prefetch_argument(&self, target: PrefetchTarget) -> VmBind {
        let op = VmBindOp {
            op: DRM_XE_VM_BIND_OP_PREFETCH,
            prefetch_mem_region_instance: target.raw(),
            ..Default::default()
        };
        VmBind { vm_id: self.id(), num_binds: 1, binds: VmBindOps::inline(op), ..Default::default() }
    }

    /// Makes the ioctl for one range.
    #[inline]
    fn prefetch_run(&self, arg: &mut VmBind, range: PageRange) -> Result<()> {
        arg.binds.set_inline_range(range.start(), range.len());
        // SAFETY: the kernel reads sync entries, of which there are none or one that the caller of this holds on to; a user
        // fence in it is the kernel's to write until it is signalled, and `UserFence` keeps its page until then.
        match unsafe { self.device().channel().call(arg, Retry::Interrupted) } {
            Ok(()) => Ok(()),
            Err(error) => self.prefetch_again(arg, error),
        }
    }

    /// Repeats what the driver wants repeated.
    #[cold]
    fn prefetch_again(&self, arg: &mut VmBind, mut error: Error) -> Result<()> {
        for _ in 1..ATTEMPTS {
            if error.errno() != Some(Errno::EAGAIN) {
                break;
            }
            std::thread::yield_now();
            // SAFETY: as for the first attempt.
            match unsafe { self.device().channel().call(arg, Retry::Interrupted) } {
                Ok(()) => return Ok(()),
                Err(next) => error = next,
            }
        }
        let op = arg.binds.as_inline();
        Err(self.explain_prefetch(error, PageRange::from_aligned(op.addr, op.addr + op.range)))
    }

    #[cold]
    fn explain_prefetch(&self, error: Error, range: PageRange) -> Error {
        let error = explain(error, PREFETCH).over(range);
        let config = self.device().config();
        if error.errno() == Some(Errno::EINVAL) && range.end() > config.whole_va().end() {
            return error
                .because(format!("the range ends beyond the GPU's {}-bit addresses", config.va_bits));
        }
        error
    }
}
