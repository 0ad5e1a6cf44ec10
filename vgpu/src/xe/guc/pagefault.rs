//! Page faults: reported with a number, answered by that number (`xe_guc_pagefault.c`, `xe_guc_fwif.h`).

use super::Firmware;
use super::context::Doing;
use crate::counters::Counter;
use crate::inject::Kind;
use crate::mem::Access;
use crate::xe::memory::PageFault;
use crate::xe::topology::ENGINES;

const EVENT_PAGE_FAULT: u32 = 0x6002;

/// Bit of the answer: the fault was not resolved.
const ANSWER_FAILED: u32 = 1 << 1;

/// A fault that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingFault {
    pub(super) serial: u16,
    pub(super) context: u32,
}

/// The four dwords of a fault: level, engine, number; address space; access and reason; address.
fn descriptor(fault: &PageFault, serial: u16, class: u32, instance: u32, asid: u32) -> [u32; 4] {
    let serial = u32::from(serial);
    let access = match fault.access {
        Access::Read => 0,
        Access::Write => 1,
        Access::Atomic => 2,
    };
    let address = fault.va.0;
    [
        (fault.level & 7) | (instance & 0x3f) << 19 | (class & 7) << 25 | (serial & 0xf) << 28,
        (serial >> 4) | (asid & 0xf_ffff) << 12,
        access | (fault.cause as u32) << 2 | (address as u32 & 0xffff_f000),
        (address >> 32) as u32,
    ]
}

impl Firmware<'_> {
    /// Reports a fault; the context waits for the answer.
    pub(super) fn raise_fault(&mut self, id: u32, fault: &PageFault) {
        let guc = self.guc();
        guc.next_fault = guc.next_fault.wrapping_add(1);
        let serial = guc.next_fault;
        let Some(context) = guc.contexts.get_mut(&id) else { return };
        context.doing = Doing::Faulted(serial);
        let asid = context.exec.as_ref().map_or(0, |exec| exec.owner().asid);
        let source = ENGINES[context.engine].source;
        guc.faults.push(PendingFault { serial, context: id });
        let data = descriptor(fault, serial, source.class, source.instance, asid);
        tracing::debug!(target: "fault", id, serial, asid, ?fault, "raised");
        self.core.board.counters.add(Counter::FaultsRaised, 1);
        if self.core.board.strike(&[Kind::FaultLose], &[]).is_none() {
            self.event(EVENT_PAGE_FAULT, &data);
        }
    }

    /// PAGE_FAULT_RES_DESC: the driver's answer. Only the context whose fault carries the number goes on.
    pub(super) fn answer_fault(&mut self, flags: u32, number: u32) {
        let serial = (number >> 16) as u16;
        let failed = flags & ANSWER_FAILED != 0;
        tracing::debug!(target: "fault", serial, failed, "answered");
        if self.core.board.strike(&[Kind::FaultAnswerLose], &[]).is_some() {
            return;
        }
        let guc = self.guc();
        let Some(index) = guc.faults.iter().position(|f| f.serial == serial) else {
            tracing::debug!(target: "fault", serial, "nobody waits for this answer");
            return;
        };
        let id = guc.faults.remove(index).context;
        let Some(context) = guc.contexts.get_mut(&id).filter(|c| c.doing == Doing::Faulted(serial)) else {
            return;
        };
        if failed {
            self.core.board.counters.add(Counter::FaultsRefused, 1);
            self.memory_error(id);
        } else {
            context.doing = Doing::Nothing;
            self.core.board.counters.add(Counter::FaultsResolved, 1);
            self.submit(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xe::memory::{Cause, PpgttVa};

    #[test]
    fn descriptor_fields() {
        let fault = PageFault {
            va: PpgttVa(0x7f12_3456_7abc),
            access: Access::Atomic,
            cause: Cause::NoAtomic,
            level: 1,
        };
        let d = descriptor(&fault, 0xabcd, 3, 8, 0x12345);
        assert_eq!(d[0], 1 | 8 << 19 | 3 << 25 | 0xd << 28);
        assert_eq!(d[1], 0xabc | 0x12345 << 12);
        assert_eq!(d[2], 2 | 2 << 2 | 0x3456_7000);
        assert_eq!(d[3], 0x7f12);
    }
}
