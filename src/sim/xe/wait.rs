//! `WAIT_USER_FENCE`.

use std::time::{Duration, Instant};

use super::cpu::Cpu;
use super::node::XeNode;
use crate::error::Errno;
use crate::range::SIZE_4K;
use crate::sim::user_memory;
use crate::uapi::xe::*;

/// One tick of the simulated kernel's clock (HZ = 250): what waits are counted in.
const TICK: Duration = Duration::from_millis(4);

fn passes(op: u16, memory: u64, value: u64) -> bool {
    match op {
        DRM_XE_UFENCE_WAIT_OP_EQ => memory == value,
        DRM_XE_UFENCE_WAIT_OP_NEQ => memory != value,
        DRM_XE_UFENCE_WAIT_OP_GT => memory > value,
        DRM_XE_UFENCE_WAIT_OP_GTE => memory >= value,
        DRM_XE_UFENCE_WAIT_OP_LT => memory < value,
        _ => memory <= value,
    }
}

impl XeNode {
    /// `WAIT_USER_FENCE` (`xe_wait_user_fence_ioctl`).
    pub(super) fn wait_user_fence(&self, arg: &mut WaitUserFence) -> Result<(), Errno> {
        if arg.extensions != 0
            || arg.pad != 0
            || arg.pad2 != 0
            || arg.reserved != [0; 2]
            || arg.flags & !DRM_XE_UFENCE_WAIT_FLAG_ABSTIME != 0
            || arg.op > DRM_XE_UFENCE_WAIT_OP_LTE
            || arg.addr & 7 != 0
        {
            return Err(Errno::EINVAL);
        }
        let queue = match arg.exec_queue_id {
            0 => None,
            id => Some(self.queue(id).ok_or(Errno::ENOENT)?),
        };
        let absolute = arg.flags & DRM_XE_UFENCE_WAIT_FLAG_ABSTIME != 0;
        let begin = Instant::now();
        let limit = if arg.timeout < 0 {
            None
        } else if absolute {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
            // A deadline that has passed still waits for a tick.
            Some(Duration::from_nanos((arg.timeout as u64).saturating_sub(now)).max(TICK))
        } else {
            Some(Duration::from_nanos(arg.timeout as u64))
        };
        let answer = loop {
            let epoch = self.gpu.signaller.epoch();
            let memory = match user_memory::read::<u64>(arg.addr) {
                Ok(memory) => memory,
                Err(errno) => break Err(errno),
            };
            if passes(arg.op, memory & arg.mask, arg.value & arg.mask) {
                break Ok(());
            }
            if queue.as_ref().is_some_and(|queue| queue.is_banned()) {
                break Err(Errno::EIO);
            }
            if self.gpu.is_unplugged() {
                break Err(Errno::ENODEV);
            }
            let left = limit.map(|limit| limit.saturating_sub(begin.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                break Err(Errno::ETIME);
            }
            self.gpu.signaller.wait_since(epoch, TICK.min(left.unwrap_or(TICK)));
        };
        // The driver reads like any thread: what was in VRAM is in system memory now.
        if !self.gpu.vram().is_empty() {
            let page = arg.addr & !(SIZE_4K - 1);
            if let (Ok(space), Some(end)) = (self.gpu.space(), page.checked_add(SIZE_4K)) {
                Cpu(space).bring_back(page, end);
            }
        }
        if !absolute {
            // Told with every answer, so that an interrupted wait goes on with what is left.
            let total = limit.map_or(i64::MAX, |limit| limit.as_nanos() as i64);
            arg.timeout = total.saturating_sub(begin.elapsed().as_nanos() as i64).max(0);
        }
        answer
    }
}
