//! Moving ranges between system memory and VRAM.

use crate::error::Errno;
use crate::range::{PageRange, SIZE_2M, page_size};
use crate::sim::kfd::Shared;
use crate::sim::kfd::intervals::Intervals;
use crate::sim::kfd::memory::{Kind, Piece};
use crate::sim::kfd::smi::Line;
use crate::sim::kfd::state::State;
use crate::sim::kfd::svm::range::{Range, SYSTEM, UNDEFINED};
use crate::sim::kfd::vram::VramId;
use crate::uapi::kfd as abi;

/// Why memory moves, as events report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::kfd) enum Trigger {
    Prefetch = abi::KFD_MIGRATE_TRIGGER_PREFETCH as isize,
    GpuFault = abi::KFD_MIGRATE_TRIGGER_PAGEFAULT_GPU as isize,
    CpuFault = abi::KFD_MIGRATE_TRIGGER_PAGEFAULT_CPU as isize,
    Eviction = abi::KFD_MIGRATE_TRIGGER_TTM_EVICTION as isize,
}

/// How often a range that is in another GPU's VRAM is asked to leave it.
const ATTEMPTS_TO_LEAVE: u32 = 3;

impl State {
    /// Where a prefetch would really put a range: GPUs that may access it must reach it there.
    pub(in crate::sim::kfd) fn best_prefetch_location(&self, range: &Range) -> u32 {
        let wanted = range.prefetch;
        let Some(target) = self.index(wanted) else { return wanted };
        if self.devices[target].never_migrates {
            return SYSTEM;
        }
        let users = if self.xnack { range.in_place } else { range.access.or(range.in_place) };
        if users.iter().all(|user| self.are_linked(user, target)) { wanted } else { SYSTEM }
    }

    /// Carries out the range's remembered prefetch. Whether it did.
    pub(in crate::sim::kfd) fn trigger_migration(&mut self, kfd: &Shared, start: u64) -> Result<bool, Errno> {
        let Some(range) = self.ranges.get(start) else { return Ok(false) };
        let (pages, best) = (range.pages, self.best_prefetch_location(range));
        match self.index(best) {
            _ if best == UNDEFINED || (best == SYSTEM && range.actual == SYSTEM) => Ok(false),
            None => self.migrate_to_system(kfd, start, pages, Trigger::Prefetch).map(|()| true),
            // Whatever keeps memory from moving to VRAM, the caller does not hear of it.
            Some(gpu) => Ok(self.migrate_to_vram(kfd, start, pages, gpu, Trigger::Prefetch).is_ok()),
        }
    }

    /// Moves a part of a range into the VRAM of a GPU, out of that of another first.
    pub(in crate::sim::kfd) fn migrate_to_vram(
        &mut self,
        kfd: &Shared,
        start: u64,
        part: PageRange,
        gpu: usize,
        trigger: Trigger,
    ) -> Result<(), Errno> {
        let target = self.devices[gpu].gpu_id;
        let Some(range) = self.ranges.get(start) else { return Ok(()) };
        if range.actual != SYSTEM && range.actual != target {
            let whole = range.pages;
            for _ in 0..ATTEMPTS_TO_LEAVE {
                self.migrate_to_system(kfd, start, whole, trigger)?;
                if self.ranges.get(start).is_none_or(|range| range.actual == SYSTEM) {
                    break;
                }
            }
            if self.ranges.get(start).is_some_and(|range| range.actual != SYSTEM) {
                return Err(Errno::EDEADLK);
            }
        }
        self.system_to_vram(kfd, start, part, gpu, trigger)
    }

    fn system_to_vram(
        &mut self,
        kfd: &Shared,
        start: u64,
        part: PageRange,
        gpu: usize,
        trigger: Trigger,
    ) -> Result<(), Errno> {
        let Some(range) = self.ranges.get(start) else { return Ok(()) };
        let (whole, block) = (range.pages, range.unit());
        if whole.len() > self.available_vram_exactly(kfd, gpu) {
            return Err(Errno::ENOSPC);
        }
        let vram = match range.vram {
            Some(vram) => vram,
            None => self.allocate_vram(kfd, gpu, whole.len())?,
        };
        self.with_range(start, |range| range.vram = Some(vram));
        self.vram.touch(vram);
        let target = self.devices[gpu].gpu_id;
        let before = self.resident.bytes_within(whole);
        let mut result = Ok(());
        for piece in kfd.memory.pieces(part)? {
            self.announce(kfd, start, piece.range, (SYSTEM, target), trigger, gpu);
            let migrated = self.migrate_piece(kfd, piece, gpu, block);
            self.announce_end(kfd, piece.range, (SYSTEM, target), trigger, gpu, migrated.err());
            result = migrated;
            if result.is_err() {
                break;
            }
        }
        // What is there already does not move.
        let moved = self.resident.bytes_within(whole).saturating_sub(before);
        if moved > 0 {
            self.with_range(start, |range| {
                range.actual = target;
                range.in_vram.add(moved / page_size());
            });
        } else if self.ranges.get(start).is_some_and(|range| range.actual == SYSTEM) {
            self.drop_vram_of(start);
        }
        result
    }

    fn migrate_piece(&mut self, kfd: &Shared, piece: Piece, gpu: usize, block: u64) -> Result<(), Errno> {
        if matches!(piece.kind, Kind::HugeTlb | Kind::Special) {
            return Err(Errno::EINVAL);
        }
        self.note_change(kfd, piece.range, abi::KFD_SVM_UNMAP_TRIGGER_MMU_NOTIFY_MIGRATE);
        if piece.kind != Kind::Anonymous {
            // Pages of files stay, and what is not there is not made.
            return Ok(());
        }
        let moved = kfd.memory.to_vram(self.devices[gpu].config.device, piece.range, block);
        self.look_at(kfd, piece.range);
        moved.map(drop)
    }

    /// Moves a part of a range back to system memory. Nothing to do for one that is not in VRAM.
    pub(in crate::sim::kfd) fn migrate_to_system(
        &mut self,
        kfd: &Shared,
        start: u64,
        part: PageRange,
        trigger: Trigger,
    ) -> Result<(), Errno> {
        let Some(range) = self.ranges.get(start) else { return Ok(()) };
        let from = range.actual;
        if from == SYSTEM {
            return Ok(());
        }
        let gpu = self.index(from).unwrap_or(0);
        let pieces = kfd.memory.pieces(part)?;
        let (mut covered, mut moved) = (part.start(), 0);
        for piece in pieces {
            if piece.range.start() != covered {
                return Err(Errno::EFAULT);
            }
            covered = piece.range.end();
            self.announce(kfd, start, piece.range, (from, SYSTEM), trigger, gpu);
            self.note_change(kfd, piece.range, abi::KFD_SVM_UNMAP_TRIGGER_MMU_NOTIFY_MIGRATE);
            let there = self.resident.within(piece.range);
            let migrated = kfd.memory.to_system(piece.range);
            Self::keep_present(kfd, &there);
            moved += self.look_at_what_left(kfd, piece.range);
            self.announce_end(kfd, piece.range, (from, SYSTEM), trigger, gpu, migrated.err());
            migrated?;
        }
        if covered != part.end() {
            return Err(Errno::EFAULT);
        }
        self.count_out(start, moved);
        Ok(())
    }

    /// Pages that left VRAM are there, also those that nobody wrote to, which the engine leaves out.
    pub(in crate::sim::kfd) fn keep_present(kfd: &Shared, left: &[PageRange]) {
        for &run in left {
            // Where they cannot be written to they are read-only and were not in VRAM, or are unmapped by now.
            let _ = kfd.memory.populate(run, true);
        }
    }

    /// Bytes of a range left VRAM. When none is left by the driver's count, the range is in system memory.
    pub(in crate::sim::kfd) fn count_out(&mut self, start: u64, bytes: u64) {
        let mut none_left = false;
        self.with_range(start, |range| {
            range.in_vram.take(bytes / page_size());
            none_left = range.in_vram.is_none() && range.vram.is_some();
            if none_left {
                range.actual = SYSTEM;
            }
        });
        if none_left {
            self.drop_vram_of(start);
        }
    }

    /// Makes pages of a range present. A page that is absent between others that are in VRAM can be had only by taking those
    /// back, unlike in the kernel: they return to VRAM at once.
    pub(in crate::sim::kfd) fn populate(
        &mut self,
        kfd: &Shared,
        start: u64,
        piece: PageRange,
        write: bool,
    ) -> Result<(), Errno> {
        // What the CPU touched until now is told of as such.
        if kfd.memory.touches() != self.touches {
            self.catch_up(kfd);
        }
        let mut elsewhere = Intervals::default();
        elsewhere.add(piece, true);
        for run in self.resident.within(piece) {
            elsewhere.remove(run);
        }
        let populated = kfd.memory.populate(piece, write);
        for run in elsewhere.within(piece) {
            let Some(range) = self.ranges.get(start) else { break };
            let (unit, device) = (range.unit().min(SIZE_2M), self.index(range.actual));
            let nearby = run.align_outward(unit).and_then(|blocks| blocks.intersection(range.pages));
            let Some(nearby) = nearby else { continue };
            let before = self.resident.within(nearby);
            self.look_at(kfd, nearby);
            for taken in before {
                if self.resident.bytes_within(taken) < taken.len() {
                    let Some(gpu) = device else { break };
                    let _ = kfd.memory.to_vram(self.devices[gpu].config.device, taken, unit);
                    self.look_at(kfd, taken);
                    let lost = taken.len() - self.resident.bytes_within(taken);
                    self.count_out(start, lost);
                }
            }
        }
        populated
    }

    /// Takes note of what is in VRAM, where some of it may have left. How many bytes did.
    pub(in crate::sim::kfd) fn look_at_what_left(&mut self, kfd: &Shared, pages: PageRange) -> u64 {
        let before = self.resident.bytes_within(pages);
        self.look_at(kfd, pages);
        before.saturating_sub(self.resident.bytes_within(pages))
    }

    /// Takes note of what is in VRAM.
    pub(in crate::sim::kfd) fn look_at(&mut self, kfd: &Shared, pages: PageRange) {
        self.resident.remove(pages);
        for run in kfd.memory.in_vram(pages) {
            self.resident.add(run, true);
        }
    }

    /// VRAM for a range of `bytes`: where there is none, ranges that have been there longest move back to system memory.
    fn allocate_vram(&mut self, kfd: &Shared, gpu: usize, bytes: u64) -> Result<VramId, Errno> {
        let device = self.devices[gpu].config.device;
        let capacity = self.vram_for_ranges(gpu);
        if bytes > capacity {
            return Err(Errno::ENOMEM);
        }
        while self.vram.used(device) + bytes > capacity {
            let Some(victim) = self.vram.oldest(device) else { return Err(Errno::ENOMEM) };
            self.evict(kfd, victim)?;
        }
        Ok(self.vram.allocate(device, bytes))
    }

    /// Moves everything in a piece of VRAM back to system memory. Remembered prefetches and preferences stay.
    pub(in crate::sim::kfd) fn evict(&mut self, kfd: &Shared, victim: VramId) -> Result<(), Errno> {
        let starts: Vec<u64> = self
            .ranges
            .iter()
            .filter(|range| range.vram == Some(victim))
            .map(|range| range.pages.start())
            .collect();
        for start in starts {
            if let Some(pages) = self.ranges.get(start).map(|range| range.pages) {
                self.migrate_to_system(kfd, start, pages, Trigger::Eviction)?;
            }
            self.with_range(start, |range| {
                range.actual = SYSTEM;
                range.in_vram.clear();
            });
            self.drop_vram_of(start);
        }
        self.vram.free(victim);
        Ok(())
    }

    /// A range no longer uses its VRAM; the last of those that share it frees it.
    pub(in crate::sim::kfd) fn drop_vram_of(&mut self, start: u64) {
        let mut dropped = None;
        self.with_range(start, |range| dropped = range.vram.take());
        if let Some(vram) = dropped {
            self.free_vram_if_unused(vram);
        }
    }

    pub(in crate::sim::kfd) fn free_vram_if_unused(&mut self, vram: VramId) {
        if !self.ranges.iter().any(|range| range.vram == Some(vram)) {
            self.vram.free(vram);
        }
    }

    fn with_range(&mut self, start: u64, change: impl FnOnce(&mut Range)) {
        if let Some(range) = self.ranges.get_mut(start) {
            change(range);
        }
    }

    pub(in crate::sim::kfd) fn announce(
        &self,
        kfd: &Shared,
        start: u64,
        pages: PageRange,
        (from, to): (u32, u32),
        trigger: Trigger,
        gpu: usize,
    ) {
        let (prefetch, preferred) =
            self.ranges.get(start).map_or((UNDEFINED, UNDEFINED), |range| (range.prefetch, range.preferred));
        let line = Line::MigrateStart {
            first: pages.start() / page_size(),
            pages: pages.pages(),
            from,
            to,
            prefetch,
            preferred,
            trigger: trigger as u32,
        };
        kfd.smi.log(&kfd.config.kernel, self.devices[gpu].gpu_id, &line);
    }

    pub(in crate::sim::kfd) fn announce_end(
        &self,
        kfd: &Shared,
        pages: PageRange,
        (from, to): (u32, u32),
        trigger: Trigger,
        gpu: usize,
        error: Option<Errno>,
    ) {
        let line = Line::MigrateEnd {
            first: pages.start() / page_size(),
            pages: pages.pages(),
            from,
            to,
            trigger: trigger as u32,
            error: error.map_or(0, |errno| -errno.raw()),
        };
        kfd.smi.log(&kfd.config.kernel, self.devices[gpu].gpu_id, &line);
    }
}
