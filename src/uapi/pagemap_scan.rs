//! `PAGEMAP_SCAN` (`linux/fs.h`): where the pages of a process are, in runs.
//!
//! Called on `/proc/<pid>/pagemap`; needs no privilege for one's own process. `ENOTTY` before 6.7.

abi! {
    header "linux/fs.h";

    /// Asks for the runs of pages in a range that match the category masks. The result of the call is the number of
    /// [`PageRegion`]s written. Since 6.7.
    ///
    /// A page matches if `(categories ^ category_inverted) & category_mask == category_mask`, and
    /// `(categories ^ category_inverted) & category_anyof_mask != 0` unless that mask is zero.
    struct PmScanArg("pm_scan_arg", 96) for PAGEMAP_SCAN = iowr(b'f', 16) 0xC060_6610 {
        /// Bytes of this struct.
        size: u64 => 0;
        /// `PM_SCAN_*`.
        flags: u64 => 8;
        /// First address, a multiple of the page size.
        start: u64 => 16;
        /// First address behind, a multiple of the page size.
        end: u64 => 24;
        /// Out: where the scan stopped; `end` when all was seen, less when `vec` or `max_pages` was used up.
        walk_end: u64 => 32;
        /// Address of an array of [`PageRegion`].
        vec: u64 => 40;
        /// Elements there.
        vec_len: u64 => 48;
        /// Most pages to report, 0 for no limit.
        max_pages: u64 => 56;
        /// Categories that count when absent.
        category_inverted: u64 => 64;
        /// Categories a page must all have.
        category_mask: u64 => 72;
        /// Categories of which a page must have one.
        category_anyof_mask: u64 => 80;
        /// Categories to report; neighbouring pages that are equal in these share a region.
        return_mask: u64 => 88;
    }

    /// A run of pages with equal categories.
    struct PageRegion("page_region", 24) {
        /// First address.
        start: u64 => 0;
        /// First address behind.
        end: u64 => 8;
        /// `PAGE_IS_*`, those of [`PmScanArg::return_mask`].
        categories: u64 => 16;
    }

    constants {
        /// In a range where userfaultfd tracks writes asynchronously.
        PAGE_IS_WPALLOWED: u64 = 1 << 0;
        /// Written since it was last write-protected.
        PAGE_IS_WRITTEN: u64 = 1 << 1;
        /// Belongs to a file or to shared memory.
        PAGE_IS_FILE: u64 = 1 << 2;
        /// In system memory.
        PAGE_IS_PRESENT: u64 = 1 << 3;
        /// Swapped out, or in the memory of a device.
        PAGE_IS_SWAPPED: u64 = 1 << 4;
        /// The zero page.
        PAGE_IS_PFNZERO: u64 = 1 << 5;
        /// Part of a huge page that one entry maps.
        PAGE_IS_HUGE: u64 = 1 << 6;
        /// Soft-dirty.
        PAGE_IS_SOFT_DIRTY: u64 = 1 << 7;
        /// A guard region made by `madvise`. Kernels without it answer `EINVAL`.
        PAGE_IS_GUARD: u64 = 1 << 8;
        /// Accessed since [`UffdioRwprotect`](super::userfaultfd::UffdioRwprotect) last protected it. Since 7.3; kernels
        /// without it answer `EINVAL`.
        PAGE_IS_ACCESSED: u64 = 1 << 9;

        /// Write-protect the pages that match.
        PM_SCAN_WP_MATCHING: u64 = 1 << 0;
        /// Fail with `EPERM` on a page that cannot be write-protected asynchronously.
        PM_SCAN_CHECK_WPASYNC: u64 = 1 << 1;
    }
}
