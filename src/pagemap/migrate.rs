//! Moving ranges to a region, and back.

use super::engine::request::{ANY_REGION, Collect, Failure, Populate, Reply, Request, Why};
use super::failure::closed;
use super::options::{MigrateOptions, Migrated};
use super::space::{Space, expect, failed};
use super::vma::Vma;
use super::vram::{RegionId, VramRegion};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::{PageRange, SIZE_2M};

impl Space {
    /// Moves the pages of a range to device memory.
    ///
    /// The range may be anything that lies in private anonymous memory: a `Vec`, a `Box`, an `mmap`. Nothing changes for
    /// those who use it: the bytes stay the same, and a CPU touch brings the window it hits back.
    ///
    /// Windows that are in `region` already count as [`Migrated::already`]; windows in another region change over.
    /// When the region is full, its least recently used windows go back to system memory first, whatever their timeslice.
    ///
    /// # Errors
    ///
    /// As `drm_pagemap_migrate_to_devmem`, with the cause in words:
    ///
    /// | kind | errno | when |
    /// |---|---|---|
    /// | [`NotMapped`](ErrorKind::NotMapped) | `ENOENT` | nothing is mapped at the start of the range, or of what is left of it |
    /// | [`NotMapped`](ErrorKind::NotMapped) | `EINVAL` | the range leaves the mapping ([`Atomicity::Range`](super::Atomicity::Range)) |
    /// | [`MemoryKind`](ErrorKind::MemoryKind) | `EBUSY` | file-backed or shared memory |
    /// | [`MemoryKind`](ErrorKind::MemoryKind) | `EPERM` | not writable (xe's rule) |
    /// | [`MemoryKind`](ErrorKind::MemoryKind) | `EINVAL` | hugetlb, device mappings; and, unlike the kernel, executable or locked memory |
    /// | [`Busy`](ErrorKind::Busy) | `EBUSY` | a page is pinned or shared with a forked process; part of the range is on the device (`Atomicity::Range`); another userfaultfd has the range; the range holds the engine's memory or the caller's stack |
    /// | [`OutOfVram`](ErrorKind::OutOfVram) | `ENOSPC` | the region cannot make room |
    /// | [`DeviceLost`](ErrorKind::DeviceLost) | `ENODEV` | the region was removed |
    ///
    /// Unless the atomicity is [`Range`](super::Atomicity::Range), windows before the one that failed have moved.
    #[doc(alias = "drm_pagemap_migrate_to_devmem")]
    pub fn migrate_to_devmem(
        &self,
        region: &VramRegion,
        range: PageRange,
        options: &MigrateOptions,
    ) -> Result<Migrated> {
        region.pagemap().check_space(self, "Space::migrate_to_devmem")?;
        self.migrate_to_region("Space::migrate_to_devmem", region.id(), range, options)
    }

    /// Moves the device pages of a range back to system memory. Pages that are there already are left alone; so is what
    /// is not mapped.
    ///
    /// Waits for timeslices to end, a second at most.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) with `ETIME` when a timeslice lasts longer; the errno of the driver's `copy_to_ram`
    /// when that fails, in which case the pages stay with the device.
    #[doc(alias = "drm_gpusvm_range_evict")]
    pub fn migrate_to_ram(&self, range: PageRange) -> Result<Migrated> {
        const CALL: &str = "Space::migrate_to_ram";
        let request = Request::ToRam { start: range.start(), end: range.end(), region: ANY_REGION };
        expect(CALL, self.ask(CALL, request)?, Migrated::of_reply)
    }

    pub(crate) fn migrate_to_region(
        &self,
        call: &'static str,
        region: RegionId,
        range: PageRange,
        options: &MigrateOptions,
    ) -> Result<Migrated> {
        let mut total = Migrated::default();
        let mut at = range.start();
        while at < range.end() {
            let rest = PageRange::from_aligned(at, range.end());
            let (piece, refusal) = self.next_piece(call, rest)?;
            match refusal {
                Some(_) if options.collect() == Collect::BestEffort => total.refused += piece.len(),
                Some(refusal) => return Err(refusal),
                None if options.collect() == Collect::Request && piece != range => {
                    return Err(leaves_mapping(call, range));
                }
                None => self.migrate_piece(call, region, piece, options, &mut total)?,
            }
            at = piece.end();
        }
        Ok(total)
    }

    /// One piece of a range, all of memory of one kind.
    fn migrate_piece(
        &self,
        call: &'static str,
        region: RegionId,
        piece: PageRange,
        options: &MigrateOptions,
        total: &mut Migrated,
    ) -> Result<()> {
        let mut at = piece.start();
        let mut end = piece.end();
        // One retry for each window: where the last one was made.
        let mut retried = None;
        loop {
            let populate = Populate {
                region: region.0,
                start: at,
                end,
                cut: options.cut(),
                collect: options.collect(),
                timeslice_ns: options.timeslice_ns(),
                stack: self.guarded_stack(),
            };
            match self.ask(call, Request::Populate(populate))? {
                Reply::Progress(progress) => {
                    total.add(&progress);
                    if end == piece.end() {
                        return Ok(());
                    }
                    (at, end) = (end, piece.end());
                }
                Reply::Stopped(progress, failure) => {
                    total.add(&progress);
                    at = progress.cursor.max(at);
                    if options.collect() == Collect::Window {
                        if let Some(edge) = self.edge_inside(&failure, at, end)? {
                            end = edge;
                            continue;
                        }
                    }
                    let curable = failure.errno == Errno::EBUSY && failure.why == Why::Move;
                    if !(curable && options.retry && retried != Some(at)) {
                        return Err(failed(call, failure));
                    }
                    retried = Some(at);
                    fault_in(if options.collect() == Collect::Request {
                        piece
                    } else {
                        window_around(at, end)
                    });
                }
                Reply::Failed(failure) => return Err(failed(call, failure)),
                _ => return Err(closed(call)),
            }
        }
    }

    /// The kernel moves pages within one mapping only, and keeps mappings apart that look alike. If that is why a window was
    /// refused, the address where it has to be cut.
    fn edge_inside(&self, failure: &Failure, at: u64, end: u64) -> Result<Option<u64>> {
        if failure.errno != Errno::EINVAL || failure.why != Why::Move {
            return Ok(None);
        }
        let edge = self.vma_at_or_after(at)?.map_or(end, |vma| vma.range.end());
        Ok((at < edge && edge < end).then_some(edge))
    }

    /// The longest piece at the start of `rest` that is of one kind, and why it cannot migrate, if it cannot.
    fn next_piece(&self, call: &'static str, rest: PageRange) -> Result<(PageRange, Option<Error>)> {
        let first = self.vma_at_or_after(rest.start())?;
        let Some(first) = first.filter(|vma| vma.range.start() <= rest.start()) else {
            return Err(Error::from_errno(call, Errno::ENOENT)
                .of_kind(ErrorKind::NotMapped)
                .over(rest)
                .because("nothing is mapped at the start of the range"));
        };
        let mut end = first.range.end().min(rest.end());
        // Registering a window splits the mapping it is in: what was one is taken for one.
        while end < rest.end() {
            match self.vma_at_or_after(end)? {
                Some(next) if next.range.start() == end && alike(&first, &next) => {
                    end = next.range.end().min(rest.end())
                }
                _ => break,
            }
        }
        let piece = PageRange::from_aligned(rest.start(), end);
        let refusal = first.refusal(self.capabilities().kernel_touch).map(|(errno, reason)| {
            Error::from_errno(call, errno).of_kind(ErrorKind::MemoryKind).over(piece).because(reason)
        });
        Ok((piece, refusal))
    }

    /// Whether all of `range` is one mapping of a kind that migrates.
    pub(crate) fn check_kind(&self, call: &'static str, range: PageRange, whole: PageRange) -> Result<()> {
        match self.next_piece(call, range)? {
            (_, Some(refusal)) => Err(refusal),
            (piece, None) if piece != whole => Err(leaves_mapping(call, whole)),
            _ => Ok(()),
        }
    }
}

fn alike(a: &Vma, b: &Vma) -> bool {
    (a.readable, a.writable, a.executable, a.shared, a.backing)
        == (b.readable, b.writable, b.executable, b.shared, b.backing)
}

#[cold]
fn leaves_mapping(call: &'static str, range: PageRange) -> Error {
    Error::from_errno(call, Errno::EINVAL)
        .of_kind(ErrorKind::NotMapped)
        .over(range)
        .because("the range leaves the mapping it starts in")
}

/// The window that holds `at`, whatever its size.
fn window_around(at: u64, end: u64) -> PageRange {
    PageRange::from_aligned(at, ((at & !(SIZE_2M - 1)) + SIZE_2M).min(end))
}

/// Faults all pages in for writing, which fetches them from swap and ends sharing with other processes.
fn fault_in(range: PageRange) {
    // SAFETY: prefaults pages without changing a byte; fails where that is not possible, and then the next try tells why.
    let _ = unsafe {
        rustix::mm::madvise(
            range.start() as *mut _,
            range.len() as usize,
            rustix::mm::Advice::LinuxPopulateWrite,
        )
    };
}
