//! Counts of what a device did, for the report and for the guest.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $name:literal;)+) => {
        /// What is counted; the number is what the guest writes into the mailbox.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant = $code,)+
        }

        impl Counter {
            /// Every counter, in the order of their numbers.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant),+];

            /// The name used in the report.
            pub fn name(self) -> &'static str {
                match self { $(Counter::$variant => $name),+ }
            }
        }
    };
}

counters! {
    /// Batches (command buffers) started.
    Batches = 1, "batches";
    /// Instructions executed.
    Instructions = 2, "instructions";
    /// Copies executed, of any direction.
    Copies = 3, "copies";
    /// Bytes copied from guest memory into the device's memory.
    BytesToVram = 4, "bytes to vram";
    /// Bytes copied from the device's memory into guest memory.
    BytesFromVram = 5, "bytes from vram";
    /// Bytes copied within the device's memory.
    BytesInsideVram = 6, "bytes inside vram";
    /// Bytes copied from or to another device.
    BytesPeer = 7, "bytes peer";
    /// Bytes copied within guest memory.
    BytesSystem = 8, "bytes system";
    /// Page faults reported to the driver.
    FaultsRaised = 9, "faults raised";
    /// Page faults that the driver answered with success.
    FaultsResolved = 10, "faults resolved";
    /// Page faults that the driver refused.
    FaultsRefused = 11, "faults refused";
    /// Invalidations of translations.
    Invalidations = 12, "invalidations";
    /// Interrupt messages sent.
    Interrupts = 13, "interrupts";
    /// Requests that the firmware received.
    FirmwareRequests = 14, "firmware requests";
    /// Replies and events that the firmware sent.
    FirmwareMessages = 15, "firmware messages";
    /// Messages of the firmware that had to wait for room.
    FirmwareBacklog = 16, "firmware backlog";
    /// Contexts (queues) that were reset after an error.
    ContextResets = 17, "context resets";
    /// Resets of a whole unit by the driver.
    UnitResets = 18, "unit resets";
    /// Injected troubles that happened.
    Injections = 19, "injections";
    /// Atomic operations.
    Atomics = 20, "atomics";
}

impl Counter {
    /// The counter with this number.
    pub fn from_code(code: u32) -> Option<Counter> {
        Counter::ALL.iter().copied().find(|c| *c as u32 == code)
    }
}

/// The counters of one device.
#[derive(Debug, Default)]
pub struct Counters {
    values: [AtomicU64; Counter::ALL.len()],
}

impl Counters {
    /// Adds `n`.
    pub fn add(&self, counter: Counter, n: u64) {
        self.values[counter as usize - 1].fetch_add(n, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize - 1].load(Ordering::Relaxed)
    }

    /// All back to zero.
    pub fn reset(&self) {
        self.values.iter().for_each(|v| v.store(0, Ordering::Relaxed));
    }

    /// Lines for a report, without the counters that are zero.
    pub fn lines(&self) -> Vec<String> {
        let seen = Counter::ALL.iter().filter(|c| self.get(**c) > 0);
        seen.map(|c| format!("{} {}", c.name(), self.get(*c))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense() {
        for (i, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, i + 1);
        }
    }
}
