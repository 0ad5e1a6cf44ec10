//! Ranges whose unmapping somebody wants to hear of although no page of them is the device's.
//!
//! A range registered for write protection, with nothing protected, causes no faults and leaves huge pages and system calls
//! alone, but the kernel reports what happens to the mapping. This is the counterpart of an MMU notifier.

use super::Engine;
use super::intervals::Intervals;
use super::request::{Failure, Reply, Why};
use crate::error::Errno;
use crate::uapi::userfaultfd::UFFDIO_REGISTER_MODE_WP;

/// The watched ranges, as they are by now: each may have been cut or moved since it was asked for.
pub(super) type Watches = Intervals;

impl Engine {
    pub(super) fn watch(&mut self, start: u64, end: u64) -> Result<Reply, Failure> {
        let fail = |errno| Failure { errno, why: Why::Register, start, end };
        if self.is_own(start, end) {
            return Err(Failure { errno: Errno::EBUSY, why: Why::OwnMemory, start, end });
        }
        self.watches.insert((start, end)).map_err(fail)?;
        if let Err(errno) = self.register_watch(start, end) {
            self.watches.remove((start, end));
            self.end_watch_registration(start, end);
            return Err(fail(errno));
        }
        Ok(Reply::Unit)
    }

    pub(super) fn unwatch(&mut self, start: u64, end: u64) -> Reply {
        // What is left of a range that was cut or moved since stays watched until it is unmapped: whose it was cannot be told.
        if self.watches.remove((start, end)) {
            let other = self.watches.overlapping(start, end, (0, 0));
            if other.is_none_or(|(low, high)| start < low || high < end) {
                self.end_watch_registration(start, end);
            }
        }
        Reply::Unit
    }

    pub(super) fn unwatch_all(&mut self) {
        while let Some((start, end)) = self.watches.first() {
            self.watches.remove((start, end));
            self.end_watch_registration(start, end);
        }
    }

    pub(super) fn cut_watches(&mut self, start: u64, end: u64) {
        while let Some((low, high)) = self.watches.overlapping(start, end, (0, 0)) {
            self.watches.remove((low, high));
            if low < start {
                let _ = self.watches.insert((low, start));
            }
            if end < high {
                let _ = self.watches.insert((end, high));
            }
        }
    }

    pub(super) fn move_watches(&mut self, from: u64, to: u64, len: u64) {
        let end = from.saturating_add(len);
        // Source and destination of mremap never overlap, so what has moved is not met again. The old addresses are not watched
        // any more; with MREMAP_DONTUNMAP they are still mapped.
        while let Some((low, high)) = self.watches.overlapping(from, end, (0, 0)) {
            self.watches.remove((low, high));
            let (cut_low, cut_high) = (low.max(from), high.min(end));
            let _ = self.watches.insert((cut_low - from + to, cut_high - from + to));
            if low < from {
                let _ = self.watches.insert((low, from));
            }
            if end < high {
                let _ = self.watches.insert((end, high));
            }
        }
    }

    /// Registers the parts of a range that no window registers already.
    fn register_watch(&mut self, start: u64, end: u64) -> Result<(), Errno> {
        self.each_gap(start, end, |engine, low, high| {
            engine.uffd.register(low, high - low, UFFDIO_REGISTER_MODE_WP)
        })
    }

    fn end_watch_registration(&mut self, start: u64, end: u64) {
        let _ = self.each_gap(start, end, |engine, low, high| {
            engine.end_window_registration(low, high - low);
            Ok(())
        });
    }

    fn each_gap(
        &mut self,
        start: u64,
        end: u64,
        mut act: impl FnMut(&mut Self, u64, u64) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut at = start;
        while at < end {
            let (gap_end, next) = match self.table.overlapping(at, end) {
                Some(index) => (self.table[index].start.max(at), self.end_of(index).min(end)),
                None => (end, end),
            };
            if at < gap_end {
                act(self, at, gap_end)?;
            }
            at = next;
        }
        Ok(())
    }
}
