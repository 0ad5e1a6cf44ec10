//! What the driver does when the process changes its own memory.

use crate::error::Errno;
use crate::range::PageRange;
use crate::sim::kfd::Shared;
use crate::sim::kfd::gpus::Gpus;
use crate::sim::kfd::process::State;
use crate::sim::kfd::svm::migrate::Trigger;
use crate::sim::kfd::svm::range::SYSTEM;
use crate::uapi::kfd as abi;

impl State {
    /// `munmap`, and everything that unmaps on the way: attributes of these pages are gone, what sticks out keeps its own.
    pub(in crate::sim::kfd) fn unmapped_by_cpu(&mut self, kfd: &Shared, pages: PageRange) {
        for start in self.ranges.starts_within(pages) {
            let Some(range) = self.ranges.get(start) else { continue };
            let (whole, vram, queues) = (range.pages, range.vram, range.queues);
            let Some(gone) = whole.intersection(pages) else { continue };
            if !range.mapped.is_empty() {
                self.unmap(kfd, start, gone, Gpus::NONE, abi::KFD_SVM_UNMAP_TRIGGER_UNMAP_FROM_CPU);
            }
            self.ranges.split(start, gone.start());
            self.ranges.split(gone.start(), gone.end());
            self.ranges.remove(gone.start());
            self.unregister(gone.len());
            if let Some(vram) = vram {
                self.free_vram_if_unused(vram);
            }
            if queues > 0 {
                self.queues_lost = true;
            }
        }
    }

    /// `madvise(MADV_DONTNEED)`, `mprotect`, copy-on-write and the like: the pages are others now, attributes stay.
    pub(in crate::sim::kfd) fn changed_by_cpu(&mut self, kfd: &Shared, pages: PageRange) {
        self.note_change(kfd, pages, abi::KFD_SVM_UNMAP_TRIGGER_MMU_NOTIFY);
    }

    /// What to bring back when the CPU touches a page in VRAM: the aligned block of the range's granularity.
    pub(in crate::sim::kfd) fn fault_block(&self, address: u64) -> Option<PageRange> {
        self.ranges.at(address).filter(|range| range.actual != SYSTEM).map(|range| range.block(address))
    }

    /// The CPU touched a page in VRAM.
    pub(in crate::sim::kfd) fn touched_by_cpu(&mut self, kfd: &Shared, address: u64) -> Result<(), Errno> {
        let Some(range) = self.ranges.at(address) else { return Ok(()) };
        let (start, block) = (range.pages.start(), range.block(address));
        self.to_system(kfd, start, block, Trigger::CpuFault)
    }
}
