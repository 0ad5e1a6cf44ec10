//! Places where trouble on purpose comes in; see [`crate::inject`].

use super::address::Va;
use super::core::Core;
use super::queue::{End, Hung, Job};
use super::vm::{Cause, PageFault};
use crate::counters::Counter;
use crate::inject::{self, Kind, Strike};
use crate::mem::Access;

/// Whose queue it is, as a filter value.
pub fn whose(kernel: bool) -> u32 {
    if kernel { inject::KERNEL } else { inject::PROCESS }
}

/// A batch starts.
pub fn batch(core: &Core, job: &Job, kernel: bool) -> Result<(), End> {
    core.board.counters.add(Counter::Batches, 1);
    match core.board.strike(&[Kind::JobHang, Kind::JobError], &[whose(kernel)]) {
        None => Ok(()),
        Some(Strike { kind: Kind::JobHang, value: 1 }) => {
            Err(End::Hung(Hung::Hard("a batch that hangs and cannot be preempted".into())))
        }
        Some(Strike { kind: Kind::JobHang, .. }) => Err(End::Hung(Hung::Soft("a batch that hangs".into()))),
        Some(_) => {
            let run_at = Va::new(kernel, job.ring.base);
            let fault =
                PageFault { owner: job.ring.owner, va: run_at, access: Access::Read, cause: Cause::NotValid };
            Err(memory_error(core, job, &fault))
        }
    }
}

/// A fence is about to be written; `true` when it gets lost.
pub fn fence(core: &Core, kernel: bool) -> bool {
    core.board.strike(&[Kind::FenceLose], &[whose(kernel)]).is_some()
}

/// A memory error: reported as a fault that nothing repeats, and the queue stops.
pub fn memory_error(core: &Core, job: &Job, fault: &PageFault) -> End {
    let ring = super::queue::Ring { retry_disabled: true, ..job.ring };
    core.fault(&mut core.lock(), &ring, fault);
    End::Hung(Hung::Soft("a memory error".into()))
}

/// Records a packet that the model does not know.
pub fn unknown_packet(core: &Core, what: &str) {
    tracing::warn!(target: "packet", what, "unknown");
    *core.lock().unknown_packets.entry(what.into()).or_default() += 1;
}
