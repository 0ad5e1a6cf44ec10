//! Which pages exist at the two ends of a move.
//!
//! A window may have pages nobody ever touched: they are holes in the process's memory, stay holes in the pool, and read as
//! zero. The kernel could move them along (`UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES`); why the engine skips them itself is said at
//! [`Uffd::move_pages`](super::uffd::Uffd::move_pages).

use std::ops::Range;
use std::os::fd::AsFd;

use super::mask::Mask;
use super::node::{Node, State};
use super::pool::{self, Pool};
use super::treap::NIL;
use super::{Engine, Stop};
use crate::error::Errno;

/// What a piece of memory begins with.
struct Run {
    exists: bool,
    /// Pages, one at least.
    count: u32,
    /// The page was put there to find out.
    filled: bool,
}

impl Engine {
    /// The memory that holds the pages of a window, and where its page 0 is in there.
    pub(super) fn pool_of(&self, node: &Node) -> Option<(&Pool, u64)> {
        if node.staging != NIL {
            return self.staging_of(node);
        }
        let pool = self.region(node.region)?.pool.as_ref()?;
        Some((pool, self.bytes(node.base)))
    }

    /// Where a page of a window lies outside the process's own memory.
    pub(super) fn pool_address(&self, index: u32, page: u32) -> Option<u64> {
        let (pool, base) = self.pool_of(&self.table[index])?;
        Some(pool.address(base + self.bytes(page)))
    }

    /// Which of `pages` of the process's own memory in a window exist. `None` if only trying tells.
    pub(super) fn app_pages(&self, index: u32, pages: Range<u32>) -> Option<Mask> {
        let at = self.table[index].start + self.bytes(pages.start);
        let len = self.bytes(pages.end - pages.start);
        let scanned = pool::scan(self.pagemap.as_ref()?.as_fd(), at, len, self.page).ok()?.0;
        Some(scanned.moved_up(pages.start))
    }

    /// Makes [`Node::present`] exact, for the time until something moves; without a page map, leaves it as it is.
    pub(super) fn look_into_pool(&mut self, index: u32) {
        let Some(fd) = &self.pagemap else { return };
        let node = &self.table[index];
        let Some((pool, base)) = self.pool_of(node) else { return };
        let (at, len) = (pool.address(base), self.bytes(node.pages));
        let present = pool::scan(fd.as_fd(), at, len, self.page).map_or(Mask::EMPTY, |(mask, _)| mask);
        let node = &mut self.table[index];
        node.present = present.and(&node.device);
    }

    /// Whether the first of `pages` exists in the window's pool, and for how many pages from there the answer is the same.
    ///
    /// Exact, unlike [`Node::present`], which is a hint.
    pub(super) fn pool_run(&mut self, index: u32, pages: Range<u32>) -> Result<(bool, u32), Stop> {
        let Some(at) = self.pool_address(index, pages.start) else { return Err(Stop::Failed(Errno::ENODEV)) };
        let count = pages.end - pages.start;
        if self.table[index].state == State::CopyOut && self.pagemap.is_none() {
            // Ordinary memory, which cannot be asked; a move from there has just been refused, or is to be tried.
            return Ok((self.table[index].device.get(pages.start), 1));
        }
        let run = self.own_run(at, count)?;
        self.table[index].dirty |= run.filled;
        Ok((run.exists, run.count))
    }

    /// The same for registered memory of the engine's own.
    fn own_run(&self, at: u64, count: u32) -> Result<Run, Stop> {
        let len = self.bytes(count);
        let scanned = self.pagemap.as_ref().and_then(|fd| pool::scan(fd.as_fd(), at, len, self.page).ok());
        if let Some((mask, _)) = scanned {
            let (exists, count) = match mask.next_run(0, count) {
                Some(run) if run.start == 0 => (true, run.end),
                Some(run) => (false, run.start),
                None => (false, count),
            };
            return Ok(Run { exists, count, filled: false });
        }
        match self.uffd.zero(at, self.page) {
            Ok(()) => Ok(Run { exists: false, count: 1, filled: true }),
            Err((_, Errno::EEXIST)) => Ok(Run { exists: true, count: 1, filled: false }),
            Err((_, Errno::EAGAIN)) => Err(Stop::Events),
            Err((_, errno)) => Err(Stop::Failed(errno)),
        }
    }

    /// Moves pages within memory of the engine's own, without acting on reports. If that fails, tells how many are dealt with.
    pub(super) fn move_own(&mut self, to: u64, from: u64, pages: u32) -> Result<(), u32> {
        let (mut at, mut round) = (0, 0);
        while at < pages {
            let (dst, src) = (to + self.bytes(at), from + self.bytes(at));
            let Err((bytes, errno)) = self.uffd.move_pages(dst, src, self.bytes(pages - at)) else { break };
            at += (bytes >> self.shift) as u32;
            let run = match errno {
                Errno::EAGAIN => Err(Stop::Events),
                // A hole, or moved without a word, or something is in the way.
                Errno::ENOENT | Errno::EEXIST => self.own_run(from + self.bytes(at), pages - at),
                _ => return Err(at),
            };
            match run {
                Ok(run) if !run.exists => at += run.count,
                Err(Stop::Events) => {
                    self.let_mappings_settle(round);
                    round += 1;
                }
                _ => return Err(at),
            }
        }
        Ok(())
    }

    /// Undoes the first `pages` pages of [`move_own`](Self::move_own), which must not fail: what does not move is copied.
    pub(super) fn move_own_back(&mut self, to: u64, from: u64, pages: u32) {
        let (mut at, mut round) = (0, 0);
        while at < pages {
            let (dst, src) = (to + self.bytes(at), from + self.bytes(at));
            match self.move_own(dst, src, pages - at) {
                Ok(()) => return,
                Err(moved) => at += moved,
            }
            if self.uffd.copy(to + self.bytes(at), from + self.bytes(at), self.page).is_ok() {
                at += 1;
            } else {
                self.let_mappings_settle(round);
                round += 1;
            }
        }
    }

    /// Takes note of pages that the kernel moved into the pool without saying so, from page `from` on.
    ///
    /// Such pages lie behind what the kernel said it moved, without a gap. A page of the pool that is not the device's is
    /// empty, or all zeroes: `mlockall()` fills even the pool. So what has any other contents was moved there; and an
    /// empty page serves as well as one of zeroes. All this without acting on reports: until the pages are known to be the
    /// device's, nothing may happen to the window.
    pub(super) fn claim_moved(&mut self, index: u32, from: u32) {
        let outer = std::mem::replace(&mut self.deferring, true);
        let (mut at, mut round) = (from, 0);
        while at < self.table[index].pages && !self.table[index].device.get(at) {
            match self.pool_run(index, at..self.table[index].pages) {
                Ok((true, count)) => {
                    for page in at..at + count {
                        self.claim_page(index, page);
                    }
                    at += count;
                }
                Err(Stop::Events) => {
                    self.let_mappings_settle(round);
                    round += 1;
                }
                Ok((false, _)) | Err(Stop::Failed(_)) => break,
            }
        }
        if !outer {
            self.note_deferred();
        }
    }

    fn claim_page(&mut self, index: u32, page: u32) {
        let Some((pool, base)) = self.pool_of(&self.table[index]) else { return };
        let offset = base + self.bytes(page);
        if pool.is_zero(offset, self.page) {
            // If this fails the page is still there, and the next attempt to move something there tells.
            let _ = pool.empty(&self.uffd, offset, self.page);
        } else {
            self.table[index].device.set(page..page + 1);
        }
    }
}
