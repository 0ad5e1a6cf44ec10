//! Resets of a GPU, as its driver logs them.

use crate::error::Result;
use crate::kfd::{GpuId, Process, SmiEvent, SmiEvents, SmiMask};

/// Counts the resets of one GPU from the moment it is [opened](Self::open).
#[derive(Debug, Default)]
pub(super) struct Resets {
    log: Option<SmiEvents>,
    count: u64,
    under_way: bool,
    /// After how many resets migration was last seen to work.
    pub(super) tried_after: Option<u64>,
}

impl Resets {
    /// Begins to listen, once.
    pub(super) fn open(&mut self, process: &Process, gpu: GpuId) -> Result<()> {
        if self.log.is_none() {
            self.log = Some(process.smi_events(gpu, SmiMask::GPU_PRE_RESET | SmiMask::GPU_POST_RESET)?);
        }
        Ok(())
    }

    /// How many resets have begun.
    pub(super) fn count(&mut self) -> Result<u64> {
        while let Some(log) = &mut self.log {
            let Some(event) = log.next_event()? else { break };
            self.take(&event);
        }
        Ok(self.count)
    }

    fn take(&mut self, event: &SmiEvent) {
        match event {
            SmiEvent::GpuPreReset { .. } => {
                self.count += 1;
                self.under_way = true;
            }
            // The end of a reset whose beginning came before the log was opened, or was dropped from it.
            SmiEvent::GpuPostReset { .. } if !std::mem::take(&mut self.under_way) => self.count += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_counts_once_whichever_end_was_seen() {
        let begin = SmiEvent::GpuPreReset { sequence: 1, cause: String::new() };
        let end = SmiEvent::GpuPostReset { sequence: 1, cause: String::new() };
        let count = |events: &[&SmiEvent]| {
            let mut resets = Resets::default();
            events.iter().for_each(|event| resets.take(event));
            resets.count
        };
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[&begin]), 1);
        assert_eq!(count(&[&end]), 1);
        assert_eq!(count(&[&begin, &end]), 1);
        assert_eq!(count(&[&begin, &end, &begin, &end]), 2);
        assert_eq!(count(&[&end, &end]), 2);
    }
}
