//! Requests through registers, used before the channels exist (`xe_guc_mmio_send_recv` in `xe_guc.c`).

use super::Firmware;
use crate::mem;
use crate::xe::memory::{GgttAddr, GgttSpace};
use crate::xe::registers::{GUC_FLAGS, GUC_FLAGS_MEDIA};

const SUCCESS: u32 = 1 << 31 | 7 << 28;
const FAILURE: u32 = 1 << 31 | 6 << 28;
const UNKNOWN_ACTION: u32 = 0x30;

/// The hardware description that the driver asks for: key, length, values.
const HWCONFIG: &[(u32, &[u32])] = &[
    (1, &[1]),  // slices
    (2, &[8]),  // dual subslices
    (70, &[4]), // subslices
];

fn hwconfig() -> Vec<u8> {
    let dwords = HWCONFIG
        .iter()
        .flat_map(|(key, values)| [*key, values.len() as u32].into_iter().chain(values.iter().copied()));
    dwords.flat_map(u32::to_le_bytes).collect()
}

impl Firmware<'_> {
    /// Serves the request in the registers and puts the answer into them.
    pub(super) fn serve_registers(&mut self) {
        let base = [GUC_FLAGS, GUC_FLAGS_MEDIA][self.unit];
        let request: Vec<u32> = (0..4).map(|i| self.state.registers.get(base + i * 4)).collect();
        let answer = self.register_request(&request);
        tracing::debug!(target: "guc", unit = self.unit, request = ?super::outbox::Hex(&request), answer, "request in registers");
        self.state.registers.set(base, answer);
        for i in 1..4 {
            self.state.registers.set(base + i * 4, 0);
        }
    }

    fn register_request(&mut self, request: &[u32]) -> u32 {
        let action = request[0] & 0xffff;
        match action {
            // SELF_CFG: key and length, value; answers how many values it took.
            0x0508 => {
                let value = u64::from(request[2]) | u64::from(request[3]) << 32;
                self.guc().config.insert((request[1] >> 16) as u16, value);
                SUCCESS | 1
            }
            // CONTROL_CTB: channels on or off.
            0x4509 => {
                self.guc().channels = request[1] == 1;
                SUCCESS
            }
            // GET_HWCONFIG: the size, or a copy to a global address.
            0x4100 => {
                let table = hwconfig();
                if request[3] != 0 {
                    let at = GgttAddr(u64::from(request[1]));
                    if let Err(error) = mem::write(&GgttSpace(&self.core.memory), at, &table) {
                        tracing::warn!(target: "guc", ?error, "hardware description has no place to go");
                        return FAILURE | UNKNOWN_ACTION;
                    }
                }
                SUCCESS | table.len() as u32
            }
            // CLIENT_SOFT_RESET.
            0x5507 => SUCCESS,
            _ => {
                *self.guc().unknown.entry(action).or_default() += 1;
                FAILURE | UNKNOWN_ACTION
            }
        }
    }
}
