//! Ranges whose unmapping somebody wants to hear of although no page of them is the device's.
//!
//! A range registered for write protection, with nothing protected, causes no faults and leaves huge pages and system calls
//! alone, but the kernel reports what happens to the mapping. This is the counterpart of an MMU notifier.

use super::Engine;
use super::request::{Failure, Reply, Why};
use crate::error::Errno;
use crate::uapi::userfaultfd::UFFDIO_REGISTER_MODE_WP;

#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    start: u64,
    end: u64,
}

impl Engine {
    pub(super) fn watch(&mut self, start: u64, end: u64) -> Result<Reply, Failure> {
        let fail = |errno| Failure { errno, why: Why::Register, start, end };
        if self.is_own(start, end) {
            return Err(Failure { errno: Errno::EBUSY, why: Why::OwnMemory, start, end });
        }
        self.watches.push(Watched { start, end }).map_err(fail)?;
        if let Err(errno) = self.register_watch(start, end) {
            self.watches.pop();
            self.end_watch_registration(start, end);
            return Err(fail(errno));
        }
        Ok(Reply::Unit)
    }

    pub(super) fn unwatch(&mut self, start: u64, end: u64) -> Reply {
        // The range may have been cut or moved since; what is left of it inside the bounds goes.
        if let Some(at) = self.watches.iter().position(|w| (w.start, w.end) == (start, end)) {
            self.remove_watch(at);
            self.end_watch_registration(start, end);
        }
        Reply::Unit
    }

    pub(super) fn unwatch_all(&mut self) {
        while let Some(watched) = self.watches.pop() {
            self.end_watch_registration(watched.start, watched.end);
        }
    }

    pub(super) fn is_watched(&self, start: u64, end: u64) -> bool {
        self.watches.iter().any(|w| w.start < end && start < w.end)
    }

    /// The watched parts of a range lost their registration together with a window.
    pub(super) fn renew_watches(&mut self, start: u64, end: u64) {
        for at in 0..self.watches.len() {
            let Watched { start: low, end: high } = self.watches[at];
            if low < end && start < high {
                // Fails where nothing is mapped any more, and then there is nothing to watch.
                let _ = self.uffd.register(
                    low.max(start),
                    high.min(end) - low.max(start),
                    UFFDIO_REGISTER_MODE_WP,
                );
            }
        }
    }

    pub(super) fn cut_watches(&mut self, start: u64, end: u64) {
        let mut at = 0;
        while at < self.watches.len() {
            let Watched { start: low, end: high } = self.watches[at];
            if high <= start || end <= low {
                at += 1;
                continue;
            }
            self.remove_watch(at);
            if low < start {
                let _ = self.watches.push(Watched { start: low, end: start });
            }
            if end < high {
                let _ = self.watches.push(Watched { start: end, end: high });
            }
        }
    }

    pub(super) fn move_watches(&mut self, from: u64, to: u64, len: u64) {
        let end = from.saturating_add(len);
        for at in 0..self.watches.len() {
            let Watched { start: low, end: high } = self.watches[at];
            if low < end && from < high {
                let (cut_low, cut_high) = (low.max(from), high.min(end));
                let _ = self.watches.push(Watched { start: cut_low - from + to, end: cut_high - from + to });
            }
        }
        // The old addresses are not watched any more; with MREMAP_DONTUNMAP they are still mapped. Source and destination of
        // mremap never overlap, so this leaves the moved ones alone.
        self.cut_watches(from, end);
    }

    fn remove_watch(&mut self, at: usize) {
        let last = self.watches.len() - 1;
        self.watches.swap(at, last);
        self.watches.pop();
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
