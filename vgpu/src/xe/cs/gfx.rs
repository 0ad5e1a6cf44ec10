//! Render and compute instructions: flushes work, everything else is stepped over (there are no shader cores).

use super::decode::gfx;
use super::exec::{Env, Exec, Flow, Stop};
use crate::xe::memory::Va;

impl Exec {
    pub(super) fn gfx(&mut self, env: &Env<'_>, op: u32, d: &[u32]) -> Result<Flow, Stop> {
        // Bits 12:8 of a PIPE_CONTROL header are flags, so only the upper half names it.
        if op == gfx::PIPE_CONTROL && d.len() >= 6 {
            let flags = d[1];
            if flags & 1 << 18 != 0 {
                env.core.memory.tlb.invalidate_owner(env.memory.owner);
            }
            let target = if flags & 1 << 21 != 0 {
                self.status_page_at(d[2] & !7)
            } else {
                Va::new(flags & 1 << 24 != 0, (u64::from(d[2]) | u64::from(d[3]) << 32) & !7)
            };
            self.post_sync(env, flags >> 14 & 3, target, &d[4..6])?;
        }
        Ok(Flow::Next)
    }
}
