//! The process's memory as the driver sees it: its mappings and where their pages are.

use rustix::mm::Advice;

use crate::error::Errno;
use crate::range::{PageRange, page_size};
use crate::vma::{Vma, VmaKind, VmaMap};

/// The CPU's mappings over a range, read once.
#[derive(Debug)]
pub(super) struct CpuVmas(VmaMap);

/// What the driver asks of a CPU mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuVma {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) writable: bool,
    /// `VM_IO` or `VM_PFNMAP`: no pages of memory behind it.
    pub(super) special: bool,
    /// Private anonymous, not of hugetlbfs: what migrates.
    pub(super) anonymous: bool,
}

impl From<&Vma> for CpuVma {
    fn from(vma: &Vma) -> Self {
        Self {
            start: vma.range().start(),
            end: vma.range().end(),
            writable: vma.is_writable(),
            special: vma.kind() == VmaKind::Special,
            anonymous: vma.kind() == VmaKind::Anonymous,
        }
    }
}

impl CpuVmas {
    /// Reads what overlaps `[start, end)`.
    pub(super) fn read(start: u64, end: u64) -> Result<Self, Errno> {
        let mut map = VmaMap::new();
        map.read(PageRange::from_aligned(start, end))
            .map_err(|error| error.errno().unwrap_or(Errno::EFAULT))?;
        Ok(Self(map))
    }

    /// The mapping at `address`.
    pub(super) fn at(&self, address: u64) -> Option<CpuVma> {
        self.from(address).filter(|vma| vma.start <= address)
    }

    /// The mapping at `address`, or the next one above it.
    pub(super) fn from(&self, address: u64) -> Option<CpuVma> {
        let rest = PageRange::from_aligned(address & !(page_size() - 1), !(page_size() - 1));
        self.0.within(rest).next().map(CpuVma::from)
    }
}

/// Faults the pages of a range in, for writing or reading (`hmm_range_fault`).
pub(super) fn fault_in(start: u64, end: u64, write: bool) -> Result<(), Errno> {
    let advice = if write { Advice::LinuxPopulateWrite } else { Advice::LinuxPopulateRead };
    // SAFETY: the advice changes no byte and no mapping; the kernel checks the range and answers ENOMEM or EFAULT where nothing
    // can be faulted in.
    unsafe { rustix::mm::madvise(start as *mut _, (end - start) as usize, advice) }.map_err(|errno| {
        match Errno::from(errno) {
            // madvise says ENOMEM for a hole, where HMM says EFAULT.
            Errno::ENOMEM | Errno::EHWPOISON => Errno::EFAULT,
            other => other,
        }
    })
}

/// Whether every page of a range is there already (`drm_gpusvm_check_pages`).
pub(super) fn all_present(start: u64, end: u64) -> bool {
    let page = page_size();
    let mut entries = vec![0u64; ((end - start) / page) as usize];
    let Ok(file) =
        rustix::fs::open("/proc/self/pagemap", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
    else {
        return false;
    };
    let bytes = bytemuck::cast_slice_mut::<u64, u8>(&mut entries);
    let wanted = bytes.len();
    let read = rustix::io::pread(&file, bytes, start / page * 8);
    // Bit 63: the page is present.
    read.is_ok_and(|read| read == wanted) && entries.iter().all(|entry| entry >> 63 != 0)
}
