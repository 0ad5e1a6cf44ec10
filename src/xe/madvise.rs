//! Advising, and what its refusals mean (`MADVISE`).

use super::advice::{Advice, PreferredLocation};
use super::errors::{Meaning, explain, means};
use super::operation::Operation;
use super::vm::Vm;
use crate::channel::Retry;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::uapi::xe::{
    DRM_XE_VMA_ATTR_PURGEABLE_STATE, DRM_XE_VMA_PURGEABLE_STATE_DONTNEED,
    DRM_XE_VMA_PURGEABLE_STATE_WILLNEED, Madvise, MadvisePurgeable,
};

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
        let Some((attribute, value)) = advice.without_descriptor() else {
            return self.advise_region(range, advice);
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
