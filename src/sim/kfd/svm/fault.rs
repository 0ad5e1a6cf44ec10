//! A GPU touches a page it has no mapping of.

use std::time::{Duration, Instant};

use crate::error::Errno;
use crate::range::{PageRange, page_size};
use crate::sim::kfd::Shared;
use crate::sim::kfd::memory::Kind;
use crate::sim::kfd::smi::Line;
use crate::sim::kfd::state::State;
use crate::sim::kfd::svm::migrate::Trigger;
use crate::sim::kfd::svm::range::{Range, SYSTEM};

/// A second fault on a range this soon after its mapping is one that was under way already.
const DUPLICATE: Duration = Duration::from_millis(2);

impl State {
    /// Serves a fault of a GPU (XNACK): makes a range where there is none, moves the block around the page to where it
    /// should be, and maps it on that GPU.
    ///
    /// # Errors
    ///
    /// What makes the fault a memory violation: `EFAULT` nothing mapped or no XNACK, `EPERM` the CPU could not do it either,
    /// `EACCES` no access.
    pub(in crate::sim::kfd) fn serve_gpu_fault(
        &mut self,
        kfd: &Shared,
        gpu: usize,
        address: u64,
        write: bool,
    ) -> Result<(), Errno> {
        if !self.devices[gpu].svm || !self.xnack {
            return Err(Errno::EFAULT);
        }
        let page = PageRange::rounded_out(address, 1).map_err(|_| Errno::EFAULT)?;
        let Some(piece) = kfd.memory.pieces(page)?.into_iter().next() else { return Err(Errno::EFAULT) };
        if self.ranges.at(address).is_none() {
            self.create_unregistered(kfd, address)?;
        }
        let Some(range) = self.ranges.at(address) else { return Err(Errno::EFAULT) };
        let mapped_already = self.devices[gpu].pages.at(address).is_some_and(|writable| writable || !write);
        if mapped_already && range.validated.is_some_and(|then| then.elapsed() < DUPLICATE) {
            return Ok(());
        }
        if !piece.readable || (write && !piece.writable) {
            return Err(Errno::EPERM);
        }
        let best = self.best_restore_location(range, gpu)?;
        let (start, block, actual) = (range.pages.start(), range.block(address), range.actual);
        let number = address / page_size();
        let id = self.devices[gpu].gpu_id;
        kfd.smi.log(&kfd.config.kernel, id, &Line::FaultStart { page: number, write });
        let migrated = actual != SYSTEM || best != SYSTEM;
        if migrated {
            self.move_for_fault(kfd, start, block, best)?;
        }
        self.validate_and_map(kfd, start, block, Some(gpu))?;
        if let Some(range) = self.ranges.get_mut(start) {
            range.validated = Some(Instant::now());
        }
        kfd.smi.log(&kfd.config.kernel, id, &Line::FaultEnd { page: number, migrated });
        Ok(())
    }

    fn move_for_fault(&mut self, kfd: &Shared, start: u64, block: PageRange, best: u32) -> Result<(), Errno> {
        let Some(target) = self.index(best) else {
            return self.migrate_to_system(kfd, start, block, Trigger::GpuFault);
        };
        if self.migrate_to_vram(kfd, start, block, target, Trigger::GpuFault).is_ok() {
            return Ok(());
        }
        let elsewhere =
            self.ranges.get(start).is_some_and(|range| range.actual != SYSTEM && range.actual != best);
        if elsewhere { self.migrate_to_system(kfd, start, block, Trigger::GpuFault) } else { Ok(()) }
    }

    /// Where a fault puts memory. A preference for the GPU lets it in even where it has no access.
    fn best_restore_location(&self, range: &Range, gpu: usize) -> Result<u32, Errno> {
        let device = &self.devices[gpu];
        if device.never_migrates {
            return Ok(SYSTEM);
        }
        if range.preferred == device.gpu_id || range.preferred == SYSTEM {
            return Ok(range.preferred);
        }
        if let Some(preferred) = self.index(range.preferred) {
            if self.are_linked(preferred, gpu) {
                return Ok(range.preferred);
            }
        }
        if range.access.has(gpu) {
            return Ok(device.gpu_id);
        }
        if range.in_place.has(gpu) {
            let reachable = self.index(range.actual).is_some_and(|owner| self.are_linked(owner, gpu));
            return Ok(if reachable { range.actual } else { SYSTEM });
        }
        Err(Errno::EACCES)
    }

    /// A range for memory that nobody registered: the default block around the page, as far as the mapping reaches and no
    /// other range is.
    fn create_unregistered(&mut self, kfd: &Shared, address: u64) -> Result<(), Errno> {
        let new = self.new_ranges(kfd);
        let page = PageRange::rounded_out(address, 1).map_err(|_| Errno::EFAULT)?;
        let unit = page_size() << new.granularity;
        let block = page.align_outward(unit).ok_or(Errno::EFAULT)?;
        let pieces = kfd.memory.pieces(block)?;
        let piece = pieces.iter().find(|piece| piece.range.contains(address)).ok_or(Errno::EFAULT)?;
        if piece.kind == Kind::Special {
            return Err(Errno::EFAULT);
        }
        let gaps = self.ranges.gaps(piece.range);
        let gap = gaps.into_iter().find(|gap| gap.contains(address)).ok_or(Errno::EFAULT)?;
        let pages = if self.objects.any_mapped_within(gap) || self.objects.any_user_memory_within(gap) {
            page
        } else {
            gap
        };
        let mut range = Range::new(pages, new.granularity, new.access);
        if kfd.memory.is_heap_or_stack(address) {
            range.preferred = SYSTEM;
        }
        self.ranges.insert(range);
        self.watch(kfd, pages);
        Ok(())
    }
}
