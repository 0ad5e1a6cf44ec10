//! Requests of the driver through the channel, as a table (`abi/guc_actions_abi.h`).

use super::Firmware;
use super::outbox::Hex;
use crate::counters::Counter;
use crate::inject::Kind;
use crate::xe::memory::{GgttSpace, PpgttVa};
use crate::xe::registers::HUC_KERNEL_LOAD_INFO;
use crate::xe::topology::MEDIA_OFFSET;

/// Type of a message that wants an answer; the other types (fast request, event) want none.
const TYPE_REQUEST: u32 = 0;
/// Error code of an answer: the request is too short.
const INVALID_LENGTH: u32 = 0x25;

/// One action.
struct Action {
    code: u32,
    name: &'static str,
    /// Dwords of the shortest valid message, header included.
    min: usize,
    /// Carries it out; the value goes into the answer.
    run: fn(&mut Firmware<'_>, &[u32]) -> u32,
}

fn accept(_: &mut Firmware<'_>, _: &[u32]) -> u32 {
    0
}

macro_rules! actions {
    ($($code:literal $name:literal $min:literal $run:expr;)+) => {
        &[$(Action { code: $code, name: $name, min: $min, run: $run }),+]
    };
}

/// Every action the model knows, in the order of the codes.
const ACTIONS: &[Action] = actions! {
    0x0040 "HOST2GUC_SELF_LOG" 1 accept;
    0x0506 "SETUP_ENGINE_ACTIVITY" 1 accept;
    0x0509 "UPDATE_VGT_POLICY_KLV" 1 |_, _| 1;
    0x1000 "SCHED_CONTEXT" 2 |f, m| { f.submit(m[1]); 0 };
    0x1001 "SCHED_CONTEXT_MODE_SET" 3 |f, m| { f.set_enabled(m[1], m[2] == 1); 0 };
    0x1006 "SET_CONTEXT_PRIORITY" 1 accept;
    0x1007 "SET_CONTEXT_EXECUTION_QUANTUM" 1 accept;
    0x1008 "SET_CONTEXT_PREEMPTION_TIMEOUT" 1 accept;
    0x100b "UPDATE_CONTEXT_POLICIES" 1 accept;
    0x3003 "SLPC_REQUEST" 2 |f, m| { f.slpc(m); 0 };
    0x3004 "SETUP_PC_GUCRC" 1 accept;
    0x4000 "AUTHENTICATE_HUC" 1 authenticate_huc;
    0x4502 "REGISTER_CONTEXT" 12 |f, m| { f.register(m); 0 };
    0x4503 "DEREGISTER_CONTEXT" 2 |f, m| { f.deregister(m[1]); 0 };
    0x550a "SET_DEVICE_ENGINE_ACTIVITY_BUFFER" 1 accept;
    0x550c "SET_FUNCTION_ENGINE_ACTIVITY_BUFFER" 1 accept;
    0x550d "OPT_IN_FEATURE_KLV" 1 accept;
    0x550e "OPT_IN_FEATURE_KLV_V2" 1 accept;
    0x6003 "PAGE_FAULT_RES_DESC" 3 |f, m| { f.answer_fault(m[1], m[2]); 0 };
    0x7000 "TLB_INVALIDATION" 3 invalidate;
    0x7002 "TLB_INVALIDATION_ALL" 2 |f, m| { f.invalidate_everything(m[1]); 0 };
};

/// The HuC is a stub as well: say that it was found genuine.
fn authenticate_huc(firmware: &mut Firmware<'_>, _: &[u32]) -> u32 {
    let at = firmware.unit as u32 * MEDIA_OFFSET + HUC_KERNEL_LOAD_INFO;
    let old = firmware.state.registers.get(at);
    firmware.state.registers.set(at, old | 1);
    0
}

/// Types of an invalidation: everything, a range of an address space, the global table.
const INVALIDATE_RANGE: u32 = 1;
const INVALIDATE_GLOBAL: u32 = 3;

fn invalidate(firmware: &mut Firmware<'_>, m: &[u32]) -> u32 {
    let memory = &firmware.core.memory;
    match m[2] & 0x7 {
        INVALIDATE_RANGE if m.len() >= 7 => {
            let start = PpgttVa(u64::from(m[4]) | u64::from(m[5]) << 32);
            let len = 0x1000u64.checked_shl(m[6]).unwrap_or(u64::MAX);
            let asid = m[3] & 0xf_ffff;
            if firmware.carries_out_invalidation() {
                memory.gate.exclusive(|| memory.tlb.invalidate_range(asid, start, len));
            }
            firmware.invalidated(m[1]);
        }
        // The model keeps no translations of the global table.
        INVALIDATE_GLOBAL => {
            memory.gate.drain();
            firmware.invalidated(m[1]);
        }
        _ => firmware.invalidate_everything(m[1]),
    }
    0
}

impl Firmware<'_> {
    fn invalidate_everything(&mut self, number: u32) {
        let memory = &self.core.memory;
        if self.carries_out_invalidation() {
            memory.gate.exclusive(|| memory.tlb.invalidate_all());
        }
        self.invalidated(number);
    }

    fn carries_out_invalidation(&self) -> bool {
        self.core.board.strike(&[Kind::InvalidationSkip], &[]).is_none()
    }

    /// Tells the driver that an invalidation is complete; some carry a number that wants no answer.
    fn invalidated(&mut self, number: u32) {
        self.core.board.counters.add(Counter::Invalidations, 1);
        if number != 0 && number != u32::MAX {
            self.event(0x7001, &[number]);
        }
    }

    /// Serves everything in the channel from the driver.
    pub(super) fn serve_channel(&mut self) {
        loop {
            let Some(channel) = self.host_to_guc() else { return };
            match channel.receive(&GgttSpace(&self.core.memory)) {
                Ok(Some(message)) => self.serve(message.fence, &message.hxg),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(target: "guc", unit = self.unit, ?error, "channel from the driver is broken");
                    self.guc().channels = false;
                    return;
                }
            }
        }
    }

    fn serve(&mut self, fence: u32, message: &[u32]) {
        self.core.board.counters.add(Counter::FirmwareRequests, 1);
        let code = message[0] & 0xffff;
        let wants_answer = message[0] >> 28 & 7 == TYPE_REQUEST;
        let action = ACTIONS.iter().find(|a| a.code == code);
        tracing::debug!(
            target: "guc",
            unit = self.unit,
            fence,
            action = action.map_or("?", |a| a.name),
            hxg = ?Hex(message),
            "from driver"
        );
        let value = match action {
            Some(action) if message.len() >= action.min => (action.run)(self, message),
            Some(action) => {
                tracing::warn!(target: "guc", action = action.name, len = message.len(), "message too short");
                if wants_answer {
                    self.refuse(fence, code, INVALID_LENGTH);
                }
                return;
            }
            // A newer driver knows more actions; they are accepted and reported as unknown.
            None => {
                *self.guc().unknown.entry(code).or_default() += 1;
                0
            }
        };
        if wants_answer {
            self.reply(fence, code, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_unique() {
        assert!(ACTIONS.windows(2).all(|w| w[0].code < w[1].code));
    }
}
