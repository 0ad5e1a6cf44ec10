//! Failures on demand.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::error::Errno;

/// What goes wrong in a simulated KFD, when told to.
#[derive(Debug, Default)]
pub struct Faults {
    again: AtomicU32,
    interrupted: AtomicU32,
    vram_full: AtomicBool,
    queue: AtomicBool,
    locked: AtomicBool,
}

impl Faults {
    /// The next `times` mappings find the process's memory changing: `EAGAIN`.
    pub fn mapping_races(&self, times: u32) {
        self.again.store(times, Ordering::Relaxed);
    }

    /// The next `times` mappings are interrupted by a signal: `EINTR`.
    pub fn mapping_interrupted(&self, times: u32) {
        self.interrupted.store(times, Ordering::Relaxed);
    }

    /// Memory objects of other processes fill VRAM: `AVAILABLE_MEMORY` answers 0, and prefetches silently leave memory where it
    /// is.
    pub fn fill_vram(&self, full: bool) {
        self.vram_full.store(full, Ordering::Relaxed);
    }

    /// Other code of the process has a user queue: the XNACK mode cannot change.
    pub fn pretend_queue(&self, queue: bool) {
        self.queue.store(queue, Ordering::Relaxed);
    }

    /// A GPU is being reset: `/dev/kfd` cannot be opened (`EINVAL`).
    pub fn lock(&self, locked: bool) {
        self.locked.store(locked, Ordering::Relaxed);
    }

    pub(super) fn before_mapping(&self) -> Result<(), Errno> {
        if count_down(&self.interrupted) {
            return Err(Errno::EINTR);
        }
        if count_down(&self.again) { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    pub(super) fn vram_is_full(&self) -> bool {
        self.vram_full.load(Ordering::Relaxed)
    }

    pub(super) fn pretends_queue(&self) -> bool {
        self.queue.load(Ordering::Relaxed)
    }

    pub(super) fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }
}

fn count_down(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}
