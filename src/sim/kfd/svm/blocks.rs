//! How much one touch of the CPU brings back: the engine fixes that when memory moves, the kernel looks at the range when the touch
//! comes.

use crate::range::PageRange;
use crate::sim::kfd::Shared;
use crate::sim::kfd::state::State;
use crate::sim::kfd::svm::range::SYSTEM;

/// A range with memory in VRAM, before attributes were set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pages: PageRange,
    unit: u64,
}

impl State {
    /// The ranges around some addresses that have memory in VRAM.
    pub(super) fn ranges_in_vram(&self, pages: PageRange) -> Vec<Before> {
        let there = self.ranges.within(pages).filter(|range| range.actual != SYSTEM);
        there.map(|range| Before { pages: range.pages, unit: range.unit() }).collect()
    }

    /// Has the engine cut what is in VRAM along the ranges as they are now, where they were split or have another granularity.
    pub(super) fn follow_ranges(&mut self, kfd: &Shared, before: &[Before]) {
        for &Before { pages, unit } in before {
            let now = self.ranges.within(pages).next();
            let unchanged = now.is_some_and(|range| range.pages == pages && range.unit() == unit);
            if !unchanged {
                self.cut_again(kfd, pages);
            }
        }
        self.touches = kfd.memory.touches();
    }

    /// Moves memory out of VRAM and in again, in the blocks of the ranges. Nobody is told, since the kernel moves nothing.
    fn cut_again(&mut self, kfd: &Shared, pages: PageRange) {
        let there = self.resident.within(pages);
        let mut pieces = Vec::new();
        for run in there {
            for range in self.ranges.within(run).filter(|range| range.actual != SYSTEM) {
                let device = self.index(range.actual).map(|gpu| self.devices[gpu].config.device);
                pieces.extend(device.zip(range.pages.intersection(run)).map(|found| (found, range.unit())));
            }
        }
        // What cannot leave VRAM or not come back stays where it is, as after a touch.
        for ((_, part), _) in &pieces {
            let _ = kfd.memory.to_system(*part);
        }
        for ((device, part), unit) in &pieces {
            let _ = kfd.memory.to_vram(*device, *part, *unit);
        }
        self.resident.remove(pages);
        for run in kfd.memory.in_vram(pages) {
            self.resident.add(run, true);
        }
    }
}
