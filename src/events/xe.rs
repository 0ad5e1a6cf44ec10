//! Events of xe: the list of failed faults.

use super::event::*;
use super::kfd::read_now;
use crate::error::{ErrorKind, Result};
use crate::xe::{FaultAccess, FaultKind, Vm, VmFault};

/// Failed faults that the driver keeps for a VM; later ones are not told.
const KEPT: usize = 50;

/// Reads what is new in a VM's list.
#[derive(Debug, Default)]
pub(super) struct XeSource {
    seen: usize,
}

impl XeSource {
    /// From now on.
    ///
    /// `None` where this kernel does not tell.
    pub(super) fn new(vm: &Vm) -> Result<Option<Self>> {
        match vm.faults() {
            Ok(faults) => Ok(Some(Self { seen: faults.len() })),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn gather(&mut self, vm: &Vm, into: &mut Vec<Event>) -> Result<()> {
        let faults = vm.faults()?;
        for fault in faults.iter().skip(self.seen) {
            into.push(read_now(What::FaultFailed(failed(fault))));
        }
        if self.seen < KEPT && faults.len() >= KEPT {
            into.push(read_now(What::Lost { from: Source::FailedFaults }));
        }
        self.seen = faults.len().max(self.seen);
        Ok(())
    }
}

fn failed(fault: &VmFault) -> FailedFault {
    FailedFault {
        address: Some(fault.address),
        precision: Some(fault.precision),
        access: Some(match fault.access {
            FaultAccess::Read => Access::Read,
            FaultAccess::Write => Access::Write,
            FaultAccess::Atomic => Access::Atomic,
            FaultAccess::Other(raw) => Access::Other(raw),
        }),
        reason: Some(match fault.kind {
            FaultKind::NotPresent => FaultReason::NotMapped,
            FaultKind::WriteAccess => FaultReason::NotWritable,
            FaultKind::AtomicAccess => FaultReason::NotAtomic,
            FaultKind::Refused => FaultReason::Refused,
            FaultKind::Other(raw) => FaultReason::Other(raw),
        }),
    }
}
