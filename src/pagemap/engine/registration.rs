//! How ranges of the process are registered: windows for missing pages, watched ranges for write protection of nothing.
//!
//! While a watched range has no registration, the kernel reports nothing of what the process unmaps, and if something else is
//! mapped there at once, nobody ever knows. So a window that ends, which lets a thread go on that waited for it, leaves the range
//! registered: one call replaces the one mode by the other (`userfaultfd_register`, `__VM_UFFD_FLAGS`). That works because a mapping
//! does not have the new mode yet, which is why a window is never registered for both.

use super::Engine;
use super::intervals::after;
use crate::error::Errno;
use crate::uapi::userfaultfd::{UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_WP};

impl Engine {
    /// Touches of missing pages of the range wait for the engine from now on.
    ///
    /// Linux 7.3 does not take a mapping from write protection to another mode (`EBUSY`): there the watched parts are unregistered
    /// first, at a moment when no thread waits for the range.
    pub(super) fn register_window(&self, start: u64, len: u64) -> Result<(), Errno> {
        let register = || self.uffd.register(start, len, UFFDIO_REGISTER_MODE_MISSING);
        match register() {
            Err(Errno::EBUSY) => {}
            answer => return answer,
        }
        self.each_watched_part(start, start + len, Self::unregister);
        let registered = register();
        if registered.is_err() {
            self.each_watched_part(start, start + len, Self::register_watched);
        }
        registered
    }

    /// Makes the range ordinary memory again, though watched where somebody watches it, and wakes all who wait for it.
    pub(super) fn end_window_registration(&mut self, start: u64, len: u64) {
        let (end, mut at) = (start + len, start);
        self.each_watched_part(start, end, |engine, low, high| {
            engine.unregister(at, low);
            engine.register_watched(low, high);
            at = high;
        });
        self.unregister(at, end);
        if at > start {
            self.uffd.wake(start, len);
        }
    }

    /// The parts of a range that are watched, ascending, each once.
    fn each_watched_part(&self, start: u64, end: u64, mut act: impl FnMut(&Self, u64, u64)) {
        let (mut at, mut from) = (start, (0, 0));
        while let Some(watched) = self.watches.overlapping(at, end, from).filter(|_| at < end) {
            from = after(watched);
            let (low, high) = (watched.0.max(at), watched.1.min(end));
            act(self, low, high);
            at = high;
        }
    }

    fn register_watched(&self, low: u64, high: u64) {
        if self.uffd.register(low, high - low, UFFDIO_REGISTER_MODE_WP).is_ok() {
            return;
        }
        // Something that cannot be registered lies in the range by now, of which a report will tell.
        for at in (low..high).step_by(self.page as usize) {
            if self.uffd.register(at, self.page, UFFDIO_REGISTER_MODE_WP).is_err() {
                let _ = self.uffd.unregister(at, self.page);
            }
        }
    }

    fn unregister(&self, low: u64, high: u64) {
        if low == high || self.uffd.unregister(low, high - low).is_ok() {
            return;
        }
        for at in (low..high).step_by(self.page as usize) {
            let _ = self.uffd.unregister(at, self.page);
        }
        self.uffd.wake(low, high - low);
    }
}
