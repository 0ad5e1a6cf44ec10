//! Mirrors: GPU addresses that mean the same CPU addresses.

use super::bind::{Bind, explain_bind};
use super::operation::Operation;
use super::pat::PatIndex;
use super::sync::Syncs;
use super::vm::{ResolvedMirror, Vm, VmFlags};
use crate::channel::Retry;
use crate::error::{Error, ErrorKind, Result};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::uapi::xe::{
    DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR, DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET, DRM_XE_VM_BIND_FLAG_READONLY,
    VmBind,
};

/// How addresses are mirrored. All mirrors of a VM must be made alike: the driver merges neighbours and gives the
/// result the newest flags and PAT index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorOptions {
    read_only: bool,
    keep_advice: bool,
    pat: Option<PatIndex>,
}

impl MirrorOptions {
    /// GPU reads and writes; advice ends with the memory it was given for, where the kernel can (since 6.18); the coherent PAT
    /// index of the device.
    #[must_use]
    pub const fn new() -> Self {
        Self { read_only: false, keep_advice: false, pat: None }
    }

    /// GPU writes fail. Lets the GPU read memory that is read-only for the CPU too.
    ///
    /// What the GPU reads must stay readable for the process. In Linux 6.16 to 7.3 a GPU access to memory that is not
    /// (`PROT_NONE`) is served again and again without end, with the VM locked: its queues never finish, other calls on
    /// it hang, and closing the device does too. (`__xe_svm_handle_pagefault` retries whatever it cannot have; seen on 6.16.12,
    /// 6.18.15, 7.2.12 and 7.3.4. Under a mirror that can be written to, such memory fails the GPU's access at once.)
    #[doc(alias = "DRM_XE_VM_BIND_FLAG_READONLY")]
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Advice stays with the addresses when the memory is unmapped, and holds for what is mapped there next.
    ///
    /// Without this, advice is reset over the blocks that the GPU used or that were prefetched. What the GPU never saw keeps its
    /// advice in either case. Linux 7.3.4 may forget the mirror's PAT index on the way, and use 0: where a block that is reset was advised
    /// alone and what lies behind it is advised otherwise (`xe_vma_set_default_attributes`).
    #[doc(alias = "DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET")]
    #[must_use]
    pub const fn keep_advice(mut self) -> Self {
        self.keep_advice = true;
        self
    }

    /// Memory attributes of the mirror. Integrated devices refuse non-coherent ones since 7.3.
    #[must_use]
    pub const fn pat(mut self, index: PatIndex) -> Self {
        self.pat = Some(index);
        self
    }

    fn resolve(self, vm: &Vm) -> Result<ResolvedMirror> {
        let device = vm.device();
        let mut flags = DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR;
        if self.read_only {
            flags |= DRM_XE_VM_BIND_FLAG_READONLY;
        }
        if !self.keep_advice && device.probe().supports(Operation::Autoreset)? {
            flags |= DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET;
        }
        let pat = match self.pat {
            Some(pat) => pat,
            None => device.pat_table()?.map_or(PatIndex::COHERENT, |table| table.coherent()),
        };
        Ok(ResolvedMirror { flags, pat })
    }
}

impl Vm {
    /// Mirrors every address the GPU can form, with default [`MirrorOptions`]. Nothing is filled in until a fault or a prefetch.
    ///
    /// One `VM_BIND` with the flags that Intel's compute runtime uses (`CPU_ADDR_MIRROR | MADVISE_AUTORESET`), with two
    /// differences: no fence, because a mirror is in effect when the call returns; and a coherent PAT index instead of 0, which
    /// integrated devices refuse since 7.3.
    ///
    /// # Errors
    ///
    /// As [`mirror_with`](Self::mirror_with).
    pub fn mirror_all(&self) -> Result<()> {
        self.mirror(self.device().config().whole_va())
    }

    /// Mirrors the addresses of `range` only, with default [`MirrorOptions`]. An empty range is success.
    ///
    /// # Errors
    ///
    /// As [`mirror_with`](Self::mirror_with).
    pub fn mirror(&self, range: PageRange) -> Result<()> {
        self.mirror_with(range, MirrorOptions::new())
    }

    /// Mirrors the addresses of `range` (`VM_BIND`, `MAP` with `CPU_ADDR_MIRROR`; since kernel 6.15). An empty range is success.
    ///
    /// What was bound there before is replaced, and touching mirrors whose attributes are the default ones are merged in.
    /// Mirroring mirrored addresses again is fine since kernel 7.0.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::Unsupported`]: the device or kernel does not mirror addresses.
    /// * [`ErrorKind::InvalidArgument`]: the VM lacks [`VmFlags::SVM`] or has a scratch page (GPU accesses would reach
    ///   the scratch page instead of faulting); the range ends beyond the GPU's addresses; an unusable PAT index; the VM was
    ///   mirrored differently before.
    /// * [`ErrorKind::AddressInUse`] (`EBUSY`): the GPU uses pages in a part that would be cut; before 7.0, any in the range.
    /// * Otherwise as [`Vm::bind`].
    pub fn mirror_with(&self, range: PageRange, options: MirrorOptions) -> Result<()> {
        self.check_process(VmBind::NAME)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut mirrored = self.mirrored();
        let resolved = self.resolve_mirror(&mirrored, options)?;
        let bind = Bind::mirror(range, resolved);
        self.bind_one(bind.op(), Retry::Always).map_err(|error| explain_bind(error, self, &[bind]))?;
        *mirrored = Some(resolved);
        Ok(())
    }

    /// Unmaps whatever is bound in `range` and mirrors the addresses, in one call that does both or neither: what to do with the
    /// hole that a buffer object leaves in a mirror.
    ///
    /// The flags are those of the VM's earlier mirrors, so that merging keeps them. (Intel's compute runtime sends
    /// `CPU_ADDR_MIRROR` alone here, which takes the automatic reset of advice from the whole merged mirror.)
    ///
    /// # Errors
    ///
    /// As [`mirror_with`](Self::mirror_with).
    pub fn unmap_to_mirror(&self, range: PageRange) -> Result<()> {
        self.check_process(VmBind::NAME)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut mirrored = self.mirrored();
        let resolved = match *mirrored {
            Some(resolved) => resolved,
            None => self.resolve_mirror(&None, MirrorOptions::new())?,
        };
        self.bind(&[Bind::unmap(range), Bind::mirror(range, resolved)], Syncs::new())
            .map_err(|error| error.over(range))?;
        *mirrored = Some(resolved);
        Ok(())
    }

    /// Unmaps whatever is bound in `range` (`VM_BIND`, `UNMAP`). Nothing bound, or an empty range, is success.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AddressInUse`] (`EBUSY`) while the GPU uses mirrored pages there, which lasts from the first fault or
    /// prefetch (even one that failed) until the *CPU* memory is unmapped: `munmap` first, or leave the mirror to the VM's end.
    /// Otherwise as [`Vm::bind`].
    pub fn unmap(&self, range: PageRange) -> Result<()> {
        self.check_process(VmBind::NAME)?;
        if range.is_empty() {
            return Ok(());
        }
        let bind = Bind::unmap(range);
        self.bind_one(bind.op(), Retry::Always).map_err(|error| explain_bind(error, self, &[bind]))
    }

    fn resolve_mirror(
        &self,
        before: &Option<ResolvedMirror>,
        options: MirrorOptions,
    ) -> Result<ResolvedMirror> {
        let refuse = |kind, reason: &'static str, hint: &'static str| {
            Err(Error::new(kind, VmBind::NAME).because(reason).hint_is(hint))
        };
        if !self.device().config().has_cpu_addr_mirror {
            return refuse(
                ErrorKind::Unsupported,
                "the device does not serve page faults, or the kernel was built without DRM_XE_GPUSVM",
                "Lunar Lake, Battlemage or newer with Linux 6.15 or newer",
            );
        }
        if let Some(flags) = self.flags() {
            if !flags.contains(VmFlags::FAULT_MODE) {
                return refuse(
                    ErrorKind::InvalidArgument,
                    "the VM is not in fault mode",
                    "create it with VmFlags::SVM",
                );
            }
            if flags.contains(VmFlags::SCRATCH_PAGE) {
                return refuse(
                    ErrorKind::InvalidArgument,
                    "with a scratch page, GPU accesses to mirrored addresses reach the scratch page instead of faulting",
                    "create the VM with VmFlags::SVM alone",
                );
            }
        }
        let resolved = options.resolve(self)?;
        match before {
            Some(before) if *before != resolved => refuse(
                ErrorKind::InvalidArgument,
                "the VM was mirrored with other options before, and the driver merges neighbouring mirrors",
                "use the same MirrorOptions for all mirrors of a VM",
            ),
            _ => Ok(resolved),
        }
    }
}
