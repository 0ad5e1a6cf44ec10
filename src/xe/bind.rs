//! Operations of `VM_BIND`: what a GPU address means.

use std::marker::PhantomData;

use super::bo::Bo;
use super::errors::{Meaning, explain, means};
use super::pat::{Coherency, PatIndex};
use super::sync::Syncs;
use super::vm::{ResolvedMirror, Vm, VmFlags};
use crate::channel::Retry;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::uapi::xe::{
    DRM_XE_VM_BIND_FLAG_CHECK_PXP, DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR, DRM_XE_VM_BIND_FLAG_DECOMPRESS,
    DRM_XE_VM_BIND_FLAG_DUMPABLE, DRM_XE_VM_BIND_FLAG_IMMEDIATE, DRM_XE_VM_BIND_FLAG_NULL,
    DRM_XE_VM_BIND_FLAG_READONLY, DRM_XE_VM_BIND_OP_MAP, DRM_XE_VM_BIND_OP_MAP_USERPTR,
    DRM_XE_VM_BIND_OP_UNMAP, DRM_XE_VM_BIND_OP_UNMAP_ALL, VmBind, VmBindOp, VmBindOps,
};

/// One operation of [`Vm::bind`].
///
/// Prefetching is not among them: a prefetch that could not move its pages makes the driver skip the page-table work
/// of *every* operation in the same call while their other effects stay ([`Vm::prefetch`] is a call of its own).
#[doc(alias = "drm_xe_vm_bind_op")]
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Bind<'a> {
    op: VmBindOp,
    object: PhantomData<&'a Bo>,
}

impl<'a> Bind<'a> {
    const fn new(op: VmBindOp) -> Self {
        Self { op, object: PhantomData }
    }

    fn over(range: PageRange, op: u32, flags: u32) -> VmBindOp {
        VmBindOp { addr: range.start(), range: range.len(), op, flags, ..Default::default() }
    }

    /// Maps a buffer object from byte `offset` on at the addresses `range`.
    ///
    /// Over a mirror this cuts the range out of it, which the driver refuses ([`ErrorKind::AddressInUse`]) while the GPU uses
    /// pages there. Unmapping the object later leaves a hole; [`Vm::unmap_to_mirror`] closes it.
    #[doc(alias = "DRM_XE_VM_BIND_OP_MAP")]
    #[must_use]
    pub fn map(object: &'a Bo, offset: u64, range: PageRange) -> Self {
        Self::new(VmBindOp {
            obj: object.handle(),
            obj_offset: offset,
            pat_index: PatIndex::COHERENT.0,
            ..Self::over(range, DRM_XE_VM_BIND_OP_MAP, 0)
        })
    }

    /// Maps the process's memory from address `cpu_address` on at the addresses `range`.
    #[doc(alias = "DRM_XE_VM_BIND_OP_MAP_USERPTR")]
    #[must_use]
    pub fn map_userptr(cpu_address: u64, range: PageRange) -> Self {
        Self::new(VmBindOp {
            obj_offset: cpu_address,
            pat_index: PatIndex::COHERENT.0,
            ..Self::over(range, DRM_XE_VM_BIND_OP_MAP_USERPTR, 0)
        })
    }

    /// Makes reads of the range give zero and writes vanish.
    #[doc(alias = "DRM_XE_VM_BIND_FLAG_NULL")]
    #[must_use]
    pub fn map_null(range: PageRange) -> Self {
        Self::new(Self::over(range, DRM_XE_VM_BIND_OP_MAP, DRM_XE_VM_BIND_FLAG_NULL))
    }

    pub(super) fn mirror(range: PageRange, mirror: ResolvedMirror) -> Self {
        Self::new(mirror.over(range))
    }

    /// Unmaps whatever the range holds.
    #[doc(alias = "DRM_XE_VM_BIND_OP_UNMAP")]
    #[must_use]
    pub fn unmap(range: PageRange) -> Self {
        Self::new(Self::over(range, DRM_XE_VM_BIND_OP_UNMAP, 0))
    }

    /// Unmaps every mapping of a buffer object.
    #[doc(alias = "DRM_XE_VM_BIND_OP_UNMAP_ALL")]
    #[must_use]
    pub fn unmap_all(object: &'a Bo) -> Self {
        Self::new(VmBindOp { obj: object.handle(), op: DRM_XE_VM_BIND_OP_UNMAP_ALL, ..Default::default() })
    }

    /// GPU writes fault. For mappings.
    #[doc(alias = "DRM_XE_VM_BIND_FLAG_READONLY")]
    #[must_use]
    pub fn read_only(self) -> Self {
        self.with(DRM_XE_VM_BIND_FLAG_READONLY)
    }

    /// Writes page tables now instead of on the first fault. For objects and user pointers in a faulting VM; no effect on
    /// mirrors.
    #[doc(alias = "DRM_XE_VM_BIND_FLAG_IMMEDIATE")]
    #[must_use]
    pub fn immediate(self) -> Self {
        self.with(DRM_XE_VM_BIND_FLAG_IMMEDIATE)
    }

    /// Includes the mapping in core dumps of the device.
    #[doc(alias = "DRM_XE_VM_BIND_FLAG_DUMPABLE")]
    #[must_use]
    pub fn dumpable(self) -> Self {
        self.with(DRM_XE_VM_BIND_FLAG_DUMPABLE)
    }

    /// Refuses an object whose protected-content key is stale.
    #[doc(alias = "DRM_XE_VM_BIND_FLAG_CHECK_PXP")]
    #[must_use]
    pub fn check_pxp(self) -> Self {
        self.with(DRM_XE_VM_BIND_FLAG_CHECK_PXP)
    }

    /// Decompresses the object in place while mapping it. Since kernel 7.1.
    #[doc(alias = "DRM_XE_VM_BIND_FLAG_DECOMPRESS")]
    #[must_use]
    pub fn decompress(self) -> Self {
        self.with(DRM_XE_VM_BIND_FLAG_DECOMPRESS)
    }

    /// Memory attributes other than the default, which is [`PatIndex::COHERENT`] for objects and user pointers.
    #[must_use]
    pub const fn pat(mut self, index: PatIndex) -> Self {
        self.op.pat_index = index.0;
        self
    }

    const fn with(mut self, flag: u32) -> Self {
        self.op.flags |= flag;
        self
    }

    pub(super) const fn op(&self) -> VmBindOp {
        self.op
    }

    /// Whether the driver does page-table work for the operation at once, so that an in-fence has something to delay.
    const fn works_now(&self, faulting: bool) -> bool {
        let maps = self.op.op == DRM_XE_VM_BIND_OP_MAP || self.op.op == DRM_XE_VM_BIND_OP_MAP_USERPTR;
        let mirror = self.op.flags & DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR != 0;
        maps && !mirror && (!faulting || self.op.flags & DRM_XE_VM_BIND_FLAG_IMMEDIATE != 0)
    }

    fn range(&self) -> Option<PageRange> {
        PageRange::new(self.op.addr, self.op.range).ok()
    }
}

impl Vm {
    /// Makes several bind operations in one call: all or none (`VM_BIND`).
    ///
    /// Operations are checked first, then applied in order. An empty list without syncs is success.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::InvalidArgument`] (`EINVAL`): addresses beyond the GPU's, misaligned offsets, a PAT index that the device
    ///   reserves or that is not coherent where it must be, unknown VM; also in-fences where the driver would apply the
    ///   change and then fail (mirrors, unmaps in faulting VMs, objects not bound `immediate`), before the driver is asked.
    /// * [`ErrorKind::AddressInUse`] (`EBUSY`): pages of a mirror in the range are in use by the GPU, or a fence on a mapping
    ///   in the range is not signalled yet.
    /// * [`ErrorKind::NotFound`] (`ENOENT`): a buffer object, sync object or bind queue does not exist, or the VM is dead.
    /// * [`ErrorKind::OutOfMemory`] (`ENOBUFS`): more operations than fit in one call; [`bind_in_parts`](Self::bind_in_parts).
    /// * [`ErrorKind::OutOfVram`] (`ENOSPC`), [`ErrorKind::Unsupported`] (`EOPNOTSUPP`), [`ErrorKind::DeviceLost`].
    pub fn bind(&self, binds: &[Bind<'_>], mut syncs: Syncs<'_>) -> Result<()> {
        self.check_process(VmBind::NAME)?;
        check(self.flags(), binds, &syncs)?;
        if binds.is_empty() {
            return Ok(());
        }
        let exec_queue_id = syncs.bind_queue();
        let fence = syncs.arm()?;
        let inline = binds.len() == 1;
        let mut arg = VmBind {
            vm_id: self.id(),
            exec_queue_id,
            num_binds: u32::try_from(binds.len()).map_err(|_| {
                Error::new(ErrorKind::InvalidArgument, VmBind::NAME).because("more than 2^32 operations")
            })?,
            binds: if inline {
                VmBindOps::inline(binds[0].op())
            } else {
                // `Bind` is transparent around the kernel's struct.
                VmBindOps::vector(binds.as_ptr() as u64)
            },
            num_syncs: fence.count(),
            syncs: fence.address(),
            ..Default::default()
        };
        // SAFETY: the kernel reads the operations and sync entries during the call. A user fence among them is the
        // kernel's to write until it is signalled; `UserFence` keeps its page until then.
        let result = unsafe { self.device().channel().call(&mut arg, Retry::Always) };
        fence.settle(&result);
        result.map_err(|error| explain_bind(error, self, binds))
    }

    /// Makes bind operations one call after another, each with as many as the kernel takes (`ENOBUFS` halves the number):
    /// not all or none. Answers how many were applied, and how it ended.
    ///
    /// # Errors
    ///
    /// In the second part of the answer, as [`bind`](Self::bind).
    pub fn bind_in_parts(&self, binds: &[Bind<'_>]) -> (usize, Result<()>) {
        let mut done = 0;
        let mut part = binds.len();
        while done < binds.len() {
            let end = done.saturating_add(part).min(binds.len());
            match self.bind(&binds[done..end], Syncs::new()) {
                Ok(()) => done = end,
                Err(error) if error.errno() == Some(Errno::ENOBUFS) && part > 1 => part = part.div_ceil(2),
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }
}

/// Refuses what the driver would get wrong. `flags` is `None` for a VM that is the caller's own.
fn check(flags: Option<VmFlags>, binds: &[Bind<'_>], syncs: &Syncs<'_>) -> Result<()> {
    let refuse = |reason: &'static str, hint: &'static str| {
        Err(Error::new(ErrorKind::InvalidArgument, VmBind::NAME).because(reason).hint_is(hint))
    };
    if binds.is_empty() && !syncs.is_empty() {
        return refuse("no operation to wait for or to tell the end of", "leave the syncs out");
    }
    let faulting = flags.is_none_or(|flags| flags.contains(VmFlags::FAULT_MODE));
    // The driver applies such a change and then answers EOPNOTSUPP (`vm_bind_ioctl_signal_fences`).
    if syncs.waits() && !binds.iter().all(|bind| bind.works_now(faulting)) {
        return refuse(
            "an in-fence cannot delay an operation that is done within the call (mirror, unmap, mapping on fault)",
            "wait for the fence on the CPU first, or map objects with `immediate`",
        );
    }
    if syncs.signals_syncobj() && flags.is_some_and(|flags| flags.contains(VmFlags::LR_MODE)) {
        return refuse("a long-running VM signals user fences only", "pass a UserFence");
    }
    Ok(())
}

pub(super) const BIND: &[Meaning] = &[
    means(
        Errno::EINVAL,
        ErrorKind::InvalidArgument,
        "the VM does not exist, or an operation's addresses, flags, object or PAT index are not acceptable",
        "boot with drm.debug=2 for the exact check that failed",
    ),
    means(
        Errno::EBUSY,
        ErrorKind::AddressInUse,
        "the GPU uses mirrored pages in the range, or a fence of a mapping there is not signalled yet",
        "munmap the CPU memory first, wait for the fence, or keep the mirror until the VM goes",
    ),
    means(
        Errno::ENOENT,
        ErrorKind::NotFound,
        "a buffer object, sync object or bind queue does not exist, or the VM is dead",
        "use objects of the same open file; make a new VM if this one was killed",
    ),
    means(
        Errno::ENOBUFS,
        ErrorKind::OutOfMemory,
        "more operations than the kernel takes in one call",
        "Vm::bind_in_parts",
    ),
    means(
        Errno::ENOSPC,
        ErrorKind::OutOfVram,
        "no device memory for the object or the page tables",
        "free device memory and repeat the call",
    ),
    means(
        Errno::EOPNOTSUPP,
        ErrorKind::Unsupported,
        "the driver does not offer this sync or flag here; a change that was all done within the call may have been applied",
        "use a user fence instead of sync objects on a long-running VM; leave DECOMPRESS out",
    ),
    means(
        Errno::EFAULT,
        ErrorKind::NotMapped,
        "the memory of a user pointer or of a fence is not mapped, or the VM's process is gone",
        "map the memory before binding it",
    ),
    means(
        Errno::EPERM,
        ErrorKind::MemoryKind,
        "the memory is not writable and the mapping is not read-only",
        "bind it read_only",
    ),
    means(
        Errno::EIO,
        ErrorKind::MemoryKind,
        "the memory is a mapping of a device",
        "leave such mappings out of the range",
    ),
    means(
        Errno::ENOEXEC,
        ErrorKind::Busy,
        "the protected-content key of the object is stale",
        "make the object again",
    ),
];

/// Adds what the errno means, and for `EINVAL` which argument it most likely is.
#[cold]
pub(super) fn explain_bind(error: Error, vm: &Vm, binds: &[Bind<'_>]) -> Error {
    let error = explain(error, BIND);
    let error = match binds {
        [one] => one.range().into_iter().fold(error, Error::over),
        _ => error,
    };
    if error.errno() != Some(Errno::EINVAL) {
        return error;
    }
    match binds.iter().find_map(|bind| culprit(vm, bind)) {
        Some(reason) => error.because(reason),
        None => error,
    }
}

/// What about `bind` the driver refuses, judged by what is known of the device.
fn culprit(vm: &Vm, bind: &Bind<'_>) -> Option<String> {
    let config = vm.device().config();
    let op = bind.op;
    let whole = config.whole_va();
    if op.range > whole.end() || op.addr > whole.end() - op.range {
        return Some(format!("the range ends beyond the GPU's {}-bit addresses", config.va_bits));
    }
    let mirror = op.flags & DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR != 0;
    if mirror && vm.flags().is_some_and(|flags| !flags.contains(VmFlags::FAULT_MODE)) {
        return Some("a mirror needs a VM with VmFlags::SVM".into());
    }
    let pat = vm.device().pat_table().ok().flatten()?;
    let index = PatIndex(op.pat_index);
    match pat.coherency(index) {
        None => Some(format!("PAT index {} is reserved or absent on {}", op.pat_index, pat.name())),
        Some(Coherency::None) if op.op == DRM_XE_VM_BIND_OP_MAP_USERPTR || (mirror && !config.has_vram) => {
            Some(format!("PAT index {} of {} is not coherent with the CPU", op.pat_index, pat.name()))
        }
        _ => None,
    }
}
