//! How ranges of the process are registered: windows for missing pages, watched ranges for write protection of nothing.
//!
//! A watched range never is without registration, not even for a moment: the kernel would report nothing of what the process
//! unmaps then, and if something else were mapped there at once, nobody would ever know. So a watched range changes between the
//! two modes in one call. That works because registering for a mode that a mapping does not have yet replaces what it has
//! (`userfaultfd_register`, `__VM_UFFD_FLAGS`), which is why a window is never registered for both.

use super::Engine;
use super::intervals::after;
use crate::error::Errno;
use crate::uapi::userfaultfd::{UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_WP};

impl Engine {
    /// Touches of missing pages of the range wait for the engine from now on.
    pub(super) fn register_window(&self, start: u64, len: u64) -> Result<(), Errno> {
        self.uffd.register(start, len, UFFDIO_REGISTER_MODE_MISSING)
    }

    /// Makes the range ordinary memory again, though watched where somebody watches it, and wakes all who wait for it.
    pub(super) fn end_window_registration(&mut self, start: u64, len: u64) {
        let end = start + len;
        let (mut at, mut from, mut is_watched) = (start, (0, 0), false);
        while let Some(watched) = self.watches.overlapping(at, end, from).filter(|_| at < end) {
            from = after(watched);
            is_watched = true;
            let (low, high) = (watched.0.max(at), watched.1.min(end));
            self.unregister(at, low);
            self.register_watched(low, high);
            at = high;
        }
        self.unregister(at, end);
        if is_watched {
            self.uffd.wake(start, len);
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
