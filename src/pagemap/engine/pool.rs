//! The memory that stands for VRAM, and other mappings of the engine's own that pages move through.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::ioctl::{Ioctl, IoctlOutput};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::mask::{MAX_PAGES, Mask};
use super::request::AtomicOp;
use super::uffd::Uffd;
use crate::error::Errno;
use crate::range::SIZE_2M;
use crate::uapi::pagemap_scan::*;
use crate::uapi::userfaultfd::UFFDIO_REGISTER_MODE_MISSING;

/// A private anonymous mapping, reserved but not filled, that starts at a multiple of 2 MiB. Children do not inherit it.
#[derive(Debug)]
pub(super) struct Pool {
    base: NonNull<u8>,
    len: u64,
    mapped: (usize, usize),
    registered: bool,
}

// SAFETY: a mapping belongs to the process; the engine's thread is the only one to use the type after making it.
unsafe impl Send for Pool {}

impl Pool {
    pub(super) fn new(len: u64) -> Result<Self, Errno> {
        let bytes = len.checked_add(SIZE_2M).and_then(|n| usize::try_from(n).ok()).ok_or(Errno::ENOMEM)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a null hint lets the kernel choose free addresses, so nothing existing is replaced.
        let mapped = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, prot, flags) }?;
        let start = (mapped as u64).next_multiple_of(SIZE_2M);
        let Some(base) = NonNull::new(mapped.wrapping_byte_add((start - mapped as u64) as usize).cast())
        else {
            return Err(Errno::ENOMEM);
        };
        let pool = Self { base, len, mapped: (mapped as usize, bytes), registered: false };
        // SAFETY: the range is the mapping just made; the advice changes what children inherit, nothing here.
        unsafe { rustix::mm::madvise(mapped, bytes, Advice::LinuxDontFork) }?;
        // After mlockall(MCL_FUTURE) the mapping is locked and full, and could not be moved into.
        // SAFETY: the mapping just made.
        let _ = unsafe { rustix::mm::munlock(mapped, bytes) };
        pool.discard(0, len);
        Ok(pool)
    }

    /// The whole mapping, alignment slack included.
    pub(super) fn mapped(&self) -> (u64, u64) {
        (self.mapped.0 as u64, (self.mapped.0 + self.mapped.1) as u64)
    }

    pub(super) fn address(&self, offset: u64) -> u64 {
        self.base.as_ptr() as u64 + offset
    }

    pub(super) fn contains(&self, at: u64) -> bool {
        let base = self.base.as_ptr() as u64;
        base <= at && at < base + self.len
    }

    /// Makes the pool a place that pages can be moved to.
    pub(super) fn register(&mut self, uffd: &Uffd) -> Result<(), Errno> {
        if self.len > 0 && !self.registered {
            uffd.register(self.address(0), self.len, UFFDIO_REGISTER_MODE_MISSING)?;
            self.registered = true;
        }
        Ok(())
    }

    /// Before the mapping goes away: an unmapped registration would be announced to the engine, which would wait for itself.
    pub(super) fn unregister(&mut self, uffd: &Uffd) {
        if self.registered {
            let _ = uffd.unregister(self.address(0), self.len);
            self.registered = false;
        }
    }

    /// Frees the pages of a piece that is registered.
    ///
    /// Discarding registered memory announces it and waits until the engine has read the announcement. The engine is the
    /// caller here, so the piece is not registered while it is discarded.
    pub(super) fn empty(&self, uffd: &Uffd, offset: u64, len: u64) -> Result<(), Errno> {
        if len == 0 {
            return Ok(());
        }
        if self.registered {
            uffd.unregister(self.address(offset), len)?;
        }
        self.discard(offset, len);
        if self.registered {
            uffd.register(self.address(offset), len, UFFDIO_REGISTER_MODE_MISSING)?;
        }
        Ok(())
    }

    /// Frees the pages of a piece that is not registered.
    pub(super) fn discard(&self, offset: u64, len: u64) {
        let Some(at) = self.place(offset, len) else { return };
        // SAFETY: the piece lies in the pool, to which no references exist; its contents are meant to go.
        let _ = unsafe { rustix::mm::madvise(at.cast(), len as usize, Advice::LinuxDontNeed) };
    }

    /// Which pages of a piece are there, and whether they are one huge page.
    ///
    /// Asks `PAGEMAP_SCAN`. A process that may not look at its own page map is served by `mincore`, which may miss pages in swap
    /// and knows nothing of huge pages; both are mere hints to the caller.
    pub(super) fn present(
        &self,
        pagemap: Option<BorrowedFd<'_>>,
        offset: u64,
        pages: u32,
        page: u64,
    ) -> (Mask, bool) {
        let len = u64::from(pages) * page;
        let Some(at) = self.place(offset, len) else { return (Mask::EMPTY, false) };
        let scanned = pagemap.and_then(|fd| scan(fd, at as u64, len, page).ok());
        scanned.unwrap_or_else(|| (in_core(at, pages, page), false))
    }

    /// Replaces an empty, registered block by a new one, which has no page tables: a huge page can only move to where there are
    /// none.
    pub(super) fn renew(&self, uffd: &Uffd, offset: u64) -> Result<(), Errno> {
        let Some(at) = self.place(offset, SIZE_2M) else { return Ok(()) };
        uffd.unregister(at as u64, SIZE_2M)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: replaces a piece of the pool's own mapping, which holds nothing and to which no references exist.
        let mapped = unsafe { rustix::mm::mmap_anonymous(at.cast(), SIZE_2M as usize, prot, flags) };
        if mapped.is_ok() {
            // SAFETY: the piece just mapped; the advice changes what children inherit, nothing here.
            let _ = unsafe { rustix::mm::madvise(at.cast(), SIZE_2M as usize, Advice::LinuxDontFork) };
            // As for a new pool.
            // SAFETY: the piece just mapped.
            let _ = unsafe { rustix::mm::munlock(at.cast(), SIZE_2M as usize) };
            self.discard(offset, SIZE_2M);
        }
        uffd.register(at as u64, SIZE_2M, UFFDIO_REGISTER_MODE_MISSING)
    }

    /// Whether pages that are present contain nothing but zeroes.
    pub(super) fn is_zero(&self, offset: u64, len: u64) -> bool {
        let Some(at) = self.place(offset, len) else { return false };
        // SAFETY: the piece lies in the pool and is present; only the engine's thread touches the pool, and does not write
        // while the slice lives.
        unsafe { std::slice::from_raw_parts(at, len as usize) }.iter().all(|&byte| byte == 0)
    }

    /// Copies out of pages that are present.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) {
        let Some(at) = self.place(offset, into.len() as u64) else { return };
        // SAFETY: the place lies in the pool, whose pages only the engine's thread touches; `into` is the engine's own.
        unsafe { std::ptr::copy_nonoverlapping(at, into.as_mut_ptr(), into.len()) };
    }

    /// Copies into pages that are present.
    pub(super) fn write(&self, offset: u64, from: &[u8]) {
        let Some(at) = self.place(offset, from.len() as u64) else { return };
        // SAFETY: as in `read`.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), at, from.len()) };
    }

    /// Applies `op` to a naturally aligned word of 4 or 8 bytes in a page that is present, and tells the old value.
    pub(super) fn atomic(
        &self,
        offset: u64,
        bytes: u32,
        op: AtomicOp,
        operand: u64,
        expected: u64,
    ) -> Option<u64> {
        let at =
            self.place(offset, u64::from(bytes)).filter(|&at| at as u64 % u64::from(bytes.max(1)) == 0)?;
        match bytes {
            // SAFETY: in the pool, aligned, and touched by the engine's thread only; every bit pattern is a number.
            4 => Some(u64::from(apply_u32(
                unsafe { AtomicU32::from_ptr(at.cast()) },
                op,
                operand as u32,
                expected as u32,
            ))),
            // SAFETY: as above.
            8 => Some(apply_u64(unsafe { AtomicU64::from_ptr(at.cast()) }, op, operand, expected)),
            _ => None,
        }
    }

    fn place(&self, offset: u64, len: u64) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        // SAFETY: `offset <= end <= len` of the mapping.
        (end <= self.len).then(|| unsafe { self.base.as_ptr().add(offset as usize) })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        debug_assert!(!self.registered, "unregister first");
        // SAFETY: the mapping is ours, nothing refers to it. Failure leaks it.
        let _ = unsafe { rustix::mm::munmap(self.mapped.0 as *mut _, self.mapped.1) };
    }
}

/// Whether the page at `at` is part of a huge page; `false` if that cannot be found out.
pub(super) fn is_huge(pagemap: Option<BorrowedFd<'_>>, at: u64, page: u64) -> bool {
    pagemap.and_then(|fd| scan(fd, at, page, page).ok()).is_some_and(|(_, huge)| huge)
}

fn in_core(at: *mut u8, pages: u32, page: u64) -> Mask {
    let mut mask = Mask::EMPTY;
    let mut vec = [0u8; MAX_PAGES as usize];
    // SAFETY: the piece is mapped, and `vec` has a byte for each of its pages (at most MAX_PAGES).
    let result = unsafe { libc::mincore(at.cast(), (u64::from(pages) * page) as usize, vec.as_mut_ptr()) };
    if result == 0 {
        (0..pages).filter(|&n| vec[n as usize] & 1 == 1).for_each(|n| mask.set(n..n + 1));
    }
    mask
}

/// Which pages of a piece of memory exist, be it in swap, and whether they are one huge page.
pub(super) fn scan(pagemap: BorrowedFd<'_>, start: u64, len: u64, page: u64) -> Result<(Mask, bool), Errno> {
    // Runs alternate with holes, so there are at most half as many as pages, and one.
    let mut runs = [PageRegion::default(); MAX_PAGES as usize / 2 + 1];
    let mut arg = PmScanArg {
        size: size_of::<PmScanArg>() as u64,
        start,
        end: start + len,
        vec: runs.as_mut_ptr() as u64,
        vec_len: runs.len() as u64,
        category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        return_mask: PAGE_IS_HUGE,
        ..PmScanArg::default()
    };
    // SAFETY: the number and the layout belong together; the kernel writes the argument and at most `vec_len` runs to `vec`.
    let count = unsafe { rustix::ioctl::ioctl(pagemap, Scan(&mut arg)) }?;
    let mut mask = Mask::EMPTY;
    let runs = &runs[..count.min(runs.len())];
    for run in runs {
        mask.set(((run.start - start) / page) as u32..((run.end - start) / page) as u32);
    }
    Ok((mask, !runs.is_empty() && runs.iter().all(|run| run.categories & PAGE_IS_HUGE != 0)))
}

/// `PAGEMAP_SCAN`, whose result is a count.
struct Scan<'a>(&'a mut PmScanArg);

// SAFETY: `as_ptr` is the argument of the request, and its result is the number of runs written.
unsafe impl Ioctl for Scan<'_> {
    type Output = usize;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> rustix::ioctl::Opcode {
        PAGEMAP_SCAN as rustix::ioctl::Opcode
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut core::ffi::c_void) -> rustix::io::Result<usize> {
        Ok(usize::try_from(out).unwrap_or(0))
    }
}

macro_rules! apply {
    ($name:ident, $atomic:ty, $int:ty) => {
        fn $name(word: &$atomic, op: AtomicOp, operand: $int, expected: $int) -> $int {
            const ORDER: Ordering = Ordering::SeqCst;
            match op {
                AtomicOp::Add => word.fetch_add(operand, ORDER),
                AtomicOp::Sub => word.fetch_sub(operand, ORDER),
                AtomicOp::And => word.fetch_and(operand, ORDER),
                AtomicOp::Or => word.fetch_or(operand, ORDER),
                AtomicOp::Xor => word.fetch_xor(operand, ORDER),
                AtomicOp::Min => word.fetch_min(operand, ORDER),
                AtomicOp::Max => word.fetch_max(operand, ORDER),
                AtomicOp::Exchange => word.swap(operand, ORDER),
                AtomicOp::CompareExchange => {
                    word.compare_exchange(expected, operand, ORDER, ORDER).unwrap_or_else(|old| old)
                }
            }
        }
    };
}

apply!(apply_u32, AtomicU32, u32);
apply!(apply_u64, AtomicU64, u64);
