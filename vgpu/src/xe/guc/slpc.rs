//! Power management of the firmware: the driver wants to see it running and the frequencies it set.

use super::Firmware;
use crate::mem::{self, Address};
use crate::xe::memory::{GgttAddr, GgttSpace};

const EVENT_RESET: u32 = 0;
const EVENT_QUERY_TASK_STATE: u32 = 5;

/// Global state "running".
const RUNNING: u32 = 3;
/// Lowest and highest frequency, in units of 16.67 MHz.
const LOWEST: u32 = 24;
const HIGHEST: u32 = 144;

impl Firmware<'_> {
    /// Carries out a request: event number and argument count, then the address of the shared data.
    pub(super) fn slpc(&mut self, message: &[u32]) {
        let event = message[1] >> 8 & 0xff;
        if event != EVENT_RESET && event != EVENT_QUERY_TASK_STATE {
            return;
        }
        let Some(&data) = message.get(2) else { return };
        let data = GgttAddr(u64::from(data));
        let frequencies = LOWEST << 24 | HIGHEST << 16 | LOWEST << 8 | HIGHEST;
        for (offset, value) in [(4, RUNNING), (128, 1), (132, frequencies)] {
            if let Err(error) = mem::write32(&GgttSpace(&self.core.memory), data.plus(offset), value) {
                tracing::warn!(target: "guc", ?error, "shared data of the power management");
                return;
            }
        }
    }
}
