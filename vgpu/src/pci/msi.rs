//! The interrupt line: an eventfd per MSI vector, given by QEMU.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// The one MSI vector of a device.
#[derive(Debug, Default)]
pub struct MsiLine {
    eventfd: Mutex<Option<File>>,
}

impl MsiLine {
    /// Sets or clears the eventfd that a message is delivered to.
    pub fn connect(&self, eventfd: Option<File>) {
        *self.eventfd.lock().unwrap_or_else(PoisonError::into_inner) = eventfd;
    }

    /// Sends a message; tells whether anybody listens.
    pub fn fire(&self) -> bool {
        let guard = self.eventfd.lock().unwrap_or_else(PoisonError::into_inner);
        match &*guard {
            // An eventfd counts up; the write can only fail when the counter is full, and then it is signalled.
            Some(file) => (&*file).write_all(&1u64.to_ne_bytes()).is_ok(),
            None => false,
        }
    }
}
