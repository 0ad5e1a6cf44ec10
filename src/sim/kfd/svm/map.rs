//! Mapping ranges on GPUs, and noticing that the process's memory changed under a mapping.

use std::time::Instant;

use crate::error::Errno;
use crate::range::{PageRange, page_size};
use crate::sim::kfd::Shared;
use crate::sim::kfd::gpus::Gpus;
use crate::sim::kfd::memory::Piece;
use crate::sim::kfd::smi::Line;
use crate::sim::kfd::state::State;
use crate::sim::kfd::svm::migrate::Trigger;
use crate::sim::kfd::svm::range::Range;
use crate::sim::kfd::worker::RESTORE_DELAY;
use crate::uapi::kfd as abi;

impl State {
    /// The GPUs that a range is to be mapped on.
    fn gpus_to_map(&self, range: &Range, faulting: Option<usize>) -> Gpus {
        if let Some(gpu) = faulting {
            return Gpus::one(gpu);
        }
        if !self.xnack {
            return range.access.or(range.in_place);
        }
        let mut gpus = range.mapped.or(range.in_place);
        if let Some(owner) = self.index(range.actual).filter(|&owner| range.access.has(owner)) {
            gpus.insert(owner);
        }
        if gpus.is_empty() && range.is_always_mapped() { range.access } else { gpus }
    }

    /// Makes the pages of a part of a range present and maps them, on the GPUs that the range asks for or on the one that
    /// faulted.
    pub(in crate::sim::kfd) fn validate_and_map(
        &mut self,
        kfd: &Shared,
        start: u64,
        part: PageRange,
        faulting: Option<usize>,
    ) -> Result<(), Errno> {
        let Some(range) = self.ranges.get(start) else { return Ok(()) };
        let gpus = self.gpus_to_map(range, faulting);
        if gpus.is_empty() {
            return Ok(());
        }
        if let Some(gpu) = gpus.iter().find(|&gpu| self.devices[gpu].acquired.is_none()) {
            return Err(kfd.would_oops(format!(
                "mapping {} on GPU {:#x}, whose address space was not acquired, dereferences a NULL drm_priv",
                range.pages, self.devices[gpu].gpu_id
            )));
        }
        let owner = self.index(range.actual);
        let reach_owner = owner.is_some_and(|owner| gpus.iter().all(|gpu| self.are_linked(gpu, owner)));
        if !reach_owner && owner.is_some() {
            // The kernel touches pages that a GPU cannot reach, which brings them back as a touch by the CPU does.
            self.bring_back(kfd, start, part)?;
        }
        let result = self.map_pieces(kfd, start, part, gpus);
        if let Some(range) = self.ranges.get_mut(start) {
            range.mapping_done = result.is_ok();
            range.invalid &= result.is_err();
        }
        result
    }

    /// Moves what is in VRAM back block by block.
    fn bring_back(&mut self, kfd: &Shared, start: u64, part: PageRange) -> Result<(), Errno> {
        let mut at = part.start();
        while let Some(range) = self.ranges.get(start).filter(|_| at < part.end()) {
            let block = range.block(at);
            if !kfd.memory.in_vram(block).is_empty() {
                self.migrate_to_system(kfd, start, block, Trigger::CpuFault)?;
            }
            at = block.end();
        }
        Ok(())
    }

    fn map_pieces(&mut self, kfd: &Shared, start: u64, part: PageRange, gpus: Gpus) -> Result<(), Errno> {
        let mut covered = part.start();
        for piece in kfd.memory.pieces(part)? {
            if piece.range.start() != covered {
                return Err(Errno::EFAULT);
            }
            covered = piece.range.end();
            if piece.readable {
                self.map_piece(kfd, start, piece, gpus)?;
            } else {
                self.unmap(kfd, start, piece.range, Gpus::NONE, abi::KFD_SVM_UNMAP_TRIGGER_UNMAP_FROM_CPU);
            }
        }
        if covered == part.end() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    fn map_piece(&mut self, kfd: &Shared, start: u64, piece: Piece, gpus: Gpus) -> Result<(), Errno> {
        kfd.faults.before_mapping()?;
        self.populate(kfd, start, piece.range, piece.writable)?;
        let there = self.resident.within(piece.range);
        let Some(range) = self.ranges.get_mut(start) else { return Ok(()) };
        range.in_vram.note_mapping(gpus, piece.range, &there);
        range.mapped = range.mapped.or(gpus);
        let writable = piece.writable && range.flags & abi::KFD_IOCTL_SVM_FLAG_GPU_RO == 0;
        for gpu in gpus.iter() {
            self.devices[gpu].pages.add(piece.range, writable);
        }
        Ok(())
    }

    /// Unmaps a part of a range from GPUs: from those in `only`, or from all where that is empty.
    pub(in crate::sim::kfd) fn unmap(
        &mut self,
        kfd: &Shared,
        start: u64,
        part: PageRange,
        only: Gpus,
        trigger: u32,
    ) {
        let Some(range) = self.ranges.get_mut(start) else { return };
        let gpus = if only.is_empty() { range.mapped } else { only };
        if part == range.pages {
            range.mapped = range.mapped.without(gpus);
        }
        let line = Line::Unmap { first: part.start() / page_size(), pages: part.pages(), trigger };
        for gpu in gpus.iter() {
            self.devices[gpu].pages.remove(part);
            kfd.smi.log(&kfd.config.kernel, self.devices[gpu].gpu_id, &line);
        }
    }

    /// The process's pages changed: what is mapped is stale. Without XNACK all queues stop until a restore has mapped the new
    /// pages, with XNACK the next fault of a GPU maps them.
    pub(in crate::sim::kfd) fn note_change(&mut self, kfd: &Shared, pages: PageRange, trigger: u32) {
        for start in self.ranges.starts_within(pages) {
            let Some(range) = self.ranges.get_mut(start) else { continue };
            let Some(part) = range.pages.intersection(pages) else { continue };
            if range.mapped.is_empty() {
                continue;
            }
            if self.xnack && !range.is_always_mapped() {
                self.unmap(kfd, start, part, Gpus::NONE, trigger);
            } else {
                range.invalid = true;
                self.stop_queues(kfd);
            }
        }
    }

    fn stop_queues(&mut self, kfd: &Shared) {
        if std::mem::replace(&mut self.queues_stopped, true) {
            return;
        }
        let line = Line::QueueEviction { trigger: abi::KFD_QUEUE_EVICTION_TRIGGER_SVM };
        for device in &self.devices {
            kfd.smi.log(&kfd.config.kernel, device.gpu_id, &line);
        }
        self.restore_at = Some(Instant::now() + RESTORE_DELAY);
        kfd.wake_worker();
    }

    /// What the kernel's delayed work does: maps what is stale again, and lets queues go on, or comes back later.
    pub(in crate::sim::kfd) fn restore(&mut self, kfd: &Shared) {
        self.restore_at = None;
        if !self.queues_stopped {
            return;
        }
        let stale: Vec<(u64, PageRange)> = self
            .ranges
            .iter()
            .filter(|range| range.invalid)
            .map(|range| (range.pages.start(), range.pages))
            .collect();
        let mut again = false;
        for (start, pages) in stale {
            again |= self.validate_and_map(kfd, start, pages, None).is_err();
        }
        let line = Line::QueueRestore { rescheduled: again };
        for device in &self.devices {
            kfd.smi.log(&kfd.config.kernel, device.gpu_id, &line);
        }
        self.queues_stopped = again;
        self.restore_at = again.then(|| Instant::now() + RESTORE_DELAY);
    }
}
