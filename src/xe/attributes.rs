//! What is bound in a range, and with which attributes (`VM_QUERY_MEM_RANGE_ATTRS`).

use super::advice::{AtomicMode, MigrationPolicy};
use super::errors::{Meaning, explain, means};
use super::operation::Operation;
use super::pat::PatIndex;
use super::vm::Vm;
use crate::channel::Retry;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::uapi::xe::{
    DRM_XE_PREFERRED_LOC_DEFAULT_DEVICE, DRM_XE_PREFERRED_LOC_DEFAULT_SYSTEM, MemRangeAttr,
    VmQueryMemRangeAttrs,
};

/// One mapping of a VM and its attributes.
#[doc(alias = "drm_xe_mem_range_attr")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RangeAttributes {
    /// The whole mapping, which may reach beyond the range that was asked about.
    pub range: PageRange,
    /// Preferred location.
    pub preferred_location: ReportedLocation,
    /// Which pages a preferred location moves; without effect up to 7.3.
    pub migration_policy: MigrationPolicy,
    /// Who does atomic operations.
    pub atomic: AtomicMode,
    /// How the GPU caches.
    pub pat: PatIndex,
}

/// A preferred location as the driver reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReportedLocation {
    /// The memory of the device that faults.
    FaultingDevice,
    /// System memory.
    System,
    /// A region of the device that had this file number when the advice was given. The number may mean another file by now,
    /// and the driver does not report which region.
    Device {
        /// The file number.
        fd: i32,
    },
}

impl RangeAttributes {
    fn from_raw(raw: &MemRangeAttr) -> Result<Self> {
        let len = raw.end.checked_sub(raw.start).ok_or_else(|| {
            Error::new(ErrorKind::Other, VmQueryMemRangeAttrs::NAME)
                .because(format!("the driver reports a mapping from {:#x} to {:#x}", raw.start, raw.end))
        })?;
        Ok(Self {
            range: PageRange::new(raw.start, len)?,
            preferred_location: match raw.preferred_mem_loc.devmem_fd {
                DRM_XE_PREFERRED_LOC_DEFAULT_DEVICE => ReportedLocation::FaultingDevice,
                DRM_XE_PREFERRED_LOC_DEFAULT_SYSTEM => ReportedLocation::System,
                fd => ReportedLocation::Device { fd: fd as i32 },
            },
            migration_policy: MigrationPolicy::from_raw(raw.preferred_mem_loc.migration_policy),
            atomic: AtomicMode::from_raw(raw.atomic.val),
            pat: PatIndex(raw.pat_index.val as u16),
        })
    }
}

/// Room for the driver's answer, to be used again and again: with enough of it, a query is one ioctl without allocation.
#[derive(Clone, Debug, Default)]
pub struct RangeAttributeBuffer {
    raw: Vec<MemRangeAttr>,
    parsed: Vec<RangeAttributes>,
}

impl RangeAttributeBuffer {
    /// No room yet: the first query asks for the number first.
    #[must_use]
    pub const fn new() -> Self {
        Self { raw: Vec::new(), parsed: Vec::new() }
    }

    /// Room for `mappings` answers.
    #[must_use]
    pub fn with_capacity(mappings: usize) -> Self {
        Self { raw: vec![MemRangeAttr::default(); mappings], parsed: Vec::with_capacity(mappings) }
    }
}

const QUERY: &[Meaning] = &[
    means(
        Errno::EINVAL,
        ErrorKind::InvalidArgument,
        "the VM does not exist",
        "use a VM of the same open file",
    ),
    means(
        Errno::ENOSPC,
        ErrorKind::TryAgain,
        "the number of mappings kept growing while it was asked for",
        "ask about a smaller range, or when fewer threads give advice",
    ),
    means(
        Errno::ENOBUFS,
        ErrorKind::OutOfMemory,
        "the kernel has no room for so many mappings at once",
        "ask about a smaller range",
    ),
];

/// Most attempts at an answer that outgrows its room.
const ATTEMPTS: u32 = 100;
/// What is kept free for mappings that come into being between counting them and reading them.
const SPARE: usize = 4;

impl Vm {
    /// The mappings that overlap `range`, in order of address, each whole and with its attributes (`VM_QUERY_MEM_RANGE_ATTRS`,
    /// since kernel 6.18). Neighbours with equal attributes are separate entries where the driver keeps them apart.
    ///
    /// These are attributes, not where pages are.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] before 6.18; [`ErrorKind::InvalidArgument`] (`EINVAL`, unknown VM);
    /// [`ErrorKind::TryAgain`] (`ENOSPC`) when the answer outgrew its room a hundred times; [`ErrorKind::OutOfMemory`]
    /// (`ENOMEM`, `ENOBUFS`); [`ErrorKind::DeviceLost`].
    #[doc(alias = "drm_xe_vm_query_mem_range_attr")]
    pub fn range_attributes(&self, range: PageRange) -> Result<Vec<RangeAttributes>> {
        let mut buffer = RangeAttributeBuffer::new();
        self.range_attributes_into(range, &mut buffer)?;
        Ok(buffer.parsed)
    }

    /// As [`range_attributes`](Self::range_attributes), into memory that is used again.
    ///
    /// # Errors
    ///
    /// As [`range_attributes`](Self::range_attributes).
    pub fn range_attributes_into<'b>(
        &self,
        range: PageRange,
        buffer: &'b mut RangeAttributeBuffer,
    ) -> Result<&'b [RangeAttributes]> {
        self.check_process(VmQueryMemRangeAttrs::NAME)?;
        buffer.parsed.clear();
        if range.is_empty() {
            return Ok(&[]);
        }
        let count = self.fill(range, &mut buffer.raw).map_err(|error| self.explain_query(error, range))?;
        for raw in &buffer.raw[..count] {
            buffer.parsed.push(RangeAttributes::from_raw(raw)?);
        }
        Ok(&buffer.parsed)
    }

    fn fill(&self, range: PageRange, raw: &mut Vec<MemRangeAttr>) -> Result<usize> {
        for _ in 0..ATTEMPTS {
            if raw.is_empty() {
                let count = self.count_ranges(range)?;
                if count == 0 {
                    return Ok(0);
                }
                raw.resize(count as usize + SPARE, MemRangeAttr::default());
            }
            let mut arg = VmQueryMemRangeAttrs {
                num_mem_ranges: u32::try_from(raw.len()).unwrap_or(u32::MAX),
                sizeof_mem_range_attr: size_of::<MemRangeAttr>() as u64,
                vector_of_mem_attr: raw.as_mut_ptr() as u64,
                ..self.query(range)
            };
            // SAFETY: the kernel writes at most `num_mem_ranges` elements of the stated size to `raw`, which has as many and
            // lives until after the call.
            match unsafe { self.device().channel().call(&mut arg, Retry::Always) } {
                Ok(()) => return Ok((arg.num_mem_ranges as usize).min(raw.len())),
                Err(error) if error.errno() == Some(Errno::ENOSPC) => raw.clear(),
                Err(error) => return Err(error),
            }
        }
        Err(Error::from_errno(VmQueryMemRangeAttrs::NAME, Errno::ENOSPC))
    }

    #[cold]
    fn explain_query(&self, error: Error, range: PageRange) -> Error {
        let error = explain(error, QUERY).over(range);
        let missing = error.errno() == Some(Errno::EINVAL)
            && self.device().probe().supports(Operation::RangeAttributes).is_ok_and(|supported| !supported);
        if missing {
            let reason = "this kernel has no DRM_IOCTL_XE_VM_QUERY_MEM_RANGE_ATTRS";
            return error.of_kind(ErrorKind::Unsupported).because(reason).hint_is("Linux 6.18 or newer");
        }
        error
    }
}
