//! Ranges whose unmapping somebody wants to hear of although no page of them is the device's.
//!
//! A range registered for write protection, with nothing protected, causes no faults and leaves huge pages and system calls
//! alone, but the kernel reports what happens to the mapping. This is the counterpart of an MMU notifier.

use super::Engine;
use super::intervals::{Intervals, after};
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
        // The range may have been cut or moved since; what is left of it inside the bounds goes.
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

    pub(super) fn is_watched(&self, start: u64, end: u64) -> bool {
        self.watches.overlapping(start, end, (0, 0)).is_some()
    }

    /// The watched parts of a range lost their registration together with a window.
    ///
    /// Unregistering let threads go on, and one of them may have unmapped something before it is registered again. Then nothing
    /// reports that, so it is told here.
    pub(super) fn renew_watches(&mut self, start: u64, end: u64) {
        let mut from = (0, 0);
        while let Some(watched) = self.watches.overlapping(start, end, from) {
            from = after(watched);
            let (low, high) = (watched.0.max(start), watched.1.min(end));
            if self.uffd.register(low, high - low, UFFDIO_REGISTER_MODE_WP).is_ok() {
                continue;
            }
            for at in (low..high).step_by(self.page as usize) {
                if self.uffd.register(at, self.page, UFFDIO_REGISTER_MODE_WP).is_err() {
                    self.tell_unmapped(at, at + self.page);
                }
            }
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
            let _ = engine.uffd.unregister(low, high - low);
            engine.renew_watches(low, high);
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
