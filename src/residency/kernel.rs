//! What a scan asks of the kernel: the seam at which tests put a kernel of their own.

use crate::error::Errno;
use crate::range::PageRange;
use crate::uapi::pagemap_scan::{PageRegion, PmScanArg};

/// Whether pages can be in swap at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SwapSpace {
    /// The kernel is built without swap, or nothing shows that it is not.
    NotBuilt,
    /// There is no swap area.
    Empty,
    /// There is at least one, perhaps one that is being removed.
    Present,
}

/// A text file about the mappings of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// `/proc/self/maps`: one line per mapping.
    Maps,
    /// `/proc/self/smaps`: the same with counts. The kernel walks the page tables of every mapping it lists.
    Smaps,
}

impl Listing {
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Maps => "/proc/self/maps",
            Self::Smaps => "/proc/self/smaps",
        }
    }
}

/// The calls. None of them touches a page of the memory that is asked about.
pub(super) trait Kernel {
    /// The process whose memory the answers are about has been replaced by a copy (`fork`); answers would be about the
    /// parent's memory.
    fn is_foreign(&self) -> bool;

    /// `PAGEMAP_SCAN`; fills in `vec` and `vec_len` and gives the number of regions.
    fn scan(&mut self, arg: &mut PmScanArg, regions: &mut [PageRegion]) -> Result<usize, Errno>;

    /// `PROCMAP_QUERY`: the mapping that covers `at`, or else the next one above it. `ENOTTY` where the kernel lacks it.
    fn mapped(&mut self, at: u64) -> Result<Option<PageRange>, Errno>;

    /// Words of `/proc/self/pagemap` from the page at `start` on; gives the number read, less than asked for
    /// beyond the end of the address space.
    fn entries(&mut self, start: u64, words: &mut [u64]) -> Result<usize, Errno>;

    /// `mincore`; `resident` has one byte for each page of `range`.
    fn mincore(&mut self, range: PageRange, resident: &mut [u8]) -> Result<(), Errno>;

    /// Whether there is swap.
    fn swap_space(&mut self) -> SwapSpace;

    /// Bytes of a listing at a byte offset; 0 at the end.
    fn read(&mut self, listing: Listing, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno>;

    /// `move_pages` without a destination: the NUMA node of each page, or a negative errno.
    fn nodes(&mut self, pages: &[u64], nodes: &mut [i32]) -> Result<(), Errno>;

    /// Whether `MADV_GUARD_INSTALL` exists.
    fn has_guard_regions(&mut self) -> bool;
}
