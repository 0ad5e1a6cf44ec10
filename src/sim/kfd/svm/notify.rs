//! What the driver does when the process changes its own memory.

use crate::range::PageRange;
use crate::sim::kfd::Shared;
use crate::sim::kfd::gpus::Gpus;
use crate::sim::kfd::memory::Change;
use crate::sim::kfd::state::State;
use crate::sim::kfd::svm::migrate::Trigger;
use crate::sim::kfd::svm::range::{Half, SYSTEM};
use crate::uapi::kfd as abi;

impl State {
    /// Takes note of everything that the process did to its memory since last time.
    pub(in crate::sim::kfd) fn catch_up(&mut self, kfd: &Shared) {
        if self.ranges.is_empty() {
            return;
        }
        // Asked for its answer alone: when it is there, the engine has taken note of all that the process did until now.
        kfd.memory.touches();
        let changes = kfd.memory.changes();
        // The memory is as the last of them left it: what is done for the first must not bring back to VRAM what others took away.
        for change in &changes {
            self.look_after(kfd, change);
        }
        for change in changes {
            match change {
                Change::Unmapped(pages) => self.unmapped_by_cpu(kfd, pages),
                Change::Discarded(pages) => self.discarded_by_cpu(kfd, pages),
                Change::Anything => self.expect_anything(kfd),
            }
        }
        self.note_touches(kfd);
    }

    /// Takes note of what a change left in VRAM.
    fn look_after(&mut self, kfd: &Shared, change: &Change) {
        match change {
            Change::Unmapped(pages) => {
                // What is in VRAM there was moved for the old mapping when a new one had taken its place.
                for run in kfd.memory.in_vram(*pages) {
                    let _ = kfd.memory.to_system(run);
                }
                self.look_at(kfd, *pages);
            }
            Change::Discarded(pages) => self.look_at(kfd, *pages),
            Change::Anything => {
                let all: Vec<PageRange> = self.ranges.iter().map(|range| range.pages).collect();
                for pages in all {
                    self.look_at(kfd, pages);
                }
            }
        }
    }

    /// `munmap`, and everything that unmaps on the way: attributes of these pages are gone, what sticks out keeps its own.
    fn unmapped_by_cpu(&mut self, kfd: &Shared, pages: PageRange) {
        for start in self.ranges.starts_within(pages) {
            let Some(range) = self.ranges.get(start) else { continue };
            let (whole, vram) = (range.pages, range.vram);
            let Some(gone) = whole.intersection(pages) else { continue };
            if !range.mapped.is_empty() {
                self.unmap(kfd, start, gone, Gpus::NONE, abi::KFD_SVM_UNMAP_TRIGGER_UNMAP_FROM_CPU);
            }
            self.ranges.split(start, gone.start(), Half::Above);
            self.ranges.split(gone.start(), gone.end(), Half::Below);
            self.ranges.remove(gone.start());
            self.unregister(gone.len());
            if let Some(vram) = vram {
                self.free_vram_if_unused(vram);
            }
        }
    }

    /// `madvise(MADV_DONTNEED)` and the like: the pages are others now, attributes stay.
    fn discarded_by_cpu(&mut self, kfd: &Shared, pages: PageRange) {
        self.note_change(kfd, pages, abi::KFD_SVM_UNMAP_TRIGGER_MMU_NOTIFY);
    }

    /// Removes ranges where nothing is mapped any more, and takes all other pages for changed.
    fn expect_anything(&mut self, kfd: &Shared) {
        let all: Vec<PageRange> = self.ranges.iter().map(|range| range.pages).collect();
        for pages in all {
            let mut rest = pages;
            for piece in kfd.memory.pieces(pages).unwrap_or_default() {
                let (hole, above) = rest.without(piece.range);
                self.unmapped_by_cpu(kfd, hole);
                rest = above;
            }
            self.unmapped_by_cpu(kfd, rest);
            self.discarded_by_cpu(kfd, pages);
        }
    }

    /// Pages that were in VRAM and are no longer: the CPU touched them, and each touch brought the block around it back.
    ///
    /// All ranges are compared with one look at what is left. Looking at them one after the other would take touches that happen
    /// meanwhile for earlier than those in ranges that were looked at before.
    fn note_touches(&mut self, kfd: &Shared) {
        let touches = kfd.memory.touches();
        if std::mem::replace(&mut self.touches, touches) == touches {
            return;
        }
        let all: Vec<PageRange> = self.ranges.iter().map(|range| range.pages).collect();
        let (Some(first), Some(last)) = (all.first(), all.last()) else { return };
        let mut gone = self.resident.clone();
        for run in kfd.memory.in_vram(first.hull(*last)) {
            gone.remove(run);
        }
        for pages in all {
            let left = gone.within(pages);
            Self::keep_present(kfd, &left);
            let mut done = pages.start();
            for run in left {
                done = self.note_touched_run(kfd, pages.start(), run, done);
            }
        }
    }

    /// Pages in a row of one range were touched, some of them by touches that are noted up to `done` already. Up to where they are
    /// now.
    fn note_touched_run(&mut self, kfd: &Shared, start: u64, run: PageRange, done: u64) -> u64 {
        let mut at = run.start().max(done);
        while at < run.end() {
            let Some(range) = self.ranges.get(start) else { break };
            let (block, from) = (range.block(at), range.actual);
            if from == SYSTEM {
                kfd.hazard(format!(
                    "a touch of {run} never ends: the driver takes {} for one without pages in VRAM",
                    range.pages
                ));
                self.look_at(kfd, block);
            } else {
                self.note_touch(kfd, start, block, from);
            }
            at = block.end();
        }
        at.max(done)
    }

    /// The CPU brought a block back, mapping by mapping. Only so much of it as was in VRAM moved; the events tell of all.
    fn note_touch(&mut self, kfd: &Shared, start: u64, block: PageRange, from: u32) {
        let gpu = self.index(from).unwrap_or(0);
        let mut moved = 0;
        for piece in kfd.memory.pieces(block).unwrap_or_default() {
            let pages = piece.range;
            self.announce(kfd, start, pages, (from, SYSTEM), Trigger::CpuFault, gpu);
            self.note_change(kfd, pages, abi::KFD_SVM_UNMAP_TRIGGER_MMU_NOTIFY_MIGRATE);
            // What one touch does not bring back: the rest of larger blocks, and other mappings.
            let there = self.resident.within(pages);
            let result = kfd.memory.to_system(pages);
            Self::keep_present(kfd, &there);
            moved += self.look_at_what_left(kfd, pages);
            self.announce_end(kfd, pages, (from, SYSTEM), Trigger::CpuFault, gpu, result.err());
        }
        self.count_out(start, moved);
    }
}
