//! A GPU address space: creation, destruction, and what happens to it when the CPU unmaps memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::config::KernelVersion;
use super::cpu::{Cpu, errno_of};
use super::cuts;
use super::gpu::XeGpu;
use super::huge::HugePages;
use super::node::XeNode;
use super::ranges::{Place, Ranges, Rules, SvmRange};
use super::sync::lock;
use super::vmas::{Attributes, Backing, Tables, Vma, Vmas};
use crate::error::Errno;
use crate::pagemap::{Event, Events};
use crate::range::{SIZE_2M, SIZE_4K};
use crate::uapi::xe::{
    DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET, DRM_XE_VM_CREATE_FLAG_FAULT_MODE, DRM_XE_VM_CREATE_FLAG_LR_MODE,
    DRM_XE_VM_CREATE_FLAG_NO_VM_OVERCOMMIT, DRM_XE_VM_CREATE_FLAG_SCRATCH_PAGE, VmCreate, VmDestroy, VmFault,
};

/// What the driver's lock of a VM guards.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) vmas: Vmas,
    pub(super) ranges: Ranges,
    pub(super) huge: HugePages,
    /// Destroyed, or killed after an internal error.
    pub(super) dead: bool,
    pub(super) faults: Vec<VmFault>,
    /// Where the mapping begins in which the last fault was served.
    last_fault: u64,
    /// What the CPU did to its mappings; `None` where no range can be.
    events: Option<Events>,
}

/// A VM.
#[derive(Debug)]
pub(super) struct AddressSpace {
    pub(super) gpu: Arc<XeGpu>,
    /// Names the VM's own bind queue to the signaller.
    pub(super) serial: u64,
    pub(super) flags: u32,
    state: Mutex<State>,
}

/// Numbers for queues, unique in the process.
pub(super) fn next_serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl AddressSpace {
    pub(super) const fn is_faulting(&self) -> bool {
        self.flags & DRM_XE_VM_CREATE_FLAG_FAULT_MODE != 0
    }

    pub(super) const fn is_long_running(&self) -> bool {
        self.flags & DRM_XE_VM_CREATE_FLAG_LR_MODE != 0
    }

    /// First address beyond the VM's.
    pub(super) fn end(&self) -> u64 {
        1 << self.gpu.config().facts().va_bits
    }

    /// Takes the lock for changes. `EINTR` is what a fatal signal gives there.
    pub(super) fn write(&self) -> Result<MutexGuard<'_, State>, Errno> {
        if self.gpu.is_interrupted() {
            return Err(Errno::EINTR);
        }
        Ok(lock(&self.state))
    }

    /// Takes the lock on behalf of the GPU, which no signal interrupts.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The process's memory.
    pub(super) fn cpu(&self) -> Result<Cpu<'_>, Errno> {
        Ok(Cpu(self.gpu.space()?))
    }

    pub(super) fn rules(&self, on_fault: bool) -> Rules {
        let config = self.gpu.config();
        let migrates = config.facts().discrete && config.migrates;
        Rules { notifier_bytes: config.notifier_bytes, migrates, check_pages: on_fault && migrates }
    }

    /// The VM is gone for good; its mappings and ranges go with it.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        let ranges = std::mem::take(&mut state.ranges);
        *state = State { dead: true, faults: std::mem::take(&mut state.faults), ..State::default() };
        drop(state);
        // Pages in device memory stay there until somebody wants them: a range's end does not move them.
        drop(ranges);
    }

    /// Lets what the CPU unmapped go: the driver's garbage collector, which every change waits for (`xe_svm_flush`).
    pub(super) fn collect_garbage(&self) -> Result<(), Errno> {
        self.collect(&mut lock(&self.state))
    }

    pub(super) fn collect(&self, state: &mut State) -> Result<(), Errno> {
        let State { events: Some(events), ranges, huge, .. } = state else { return Ok(()) };
        let cpu = self.cpu()?;
        let (told, lost) = events.take().map_err(|error| errno_of(&error))?;
        cuts::note(&told, events.position());
        let mut gone: Vec<u64> = Vec::new();
        for event in told {
            let (Event::Unmapped(changed) | Event::Moved { from: changed, .. } | Event::Discarded(changed)) =
                event;
            // Two megabytes of VRAM are one huge page, which the kernel splits for a change of a part of it: to the driver that is a
            // change of all of it.
            let block = (changed.start() & !(SIZE_2M - 1), changed.end().next_multiple_of(SIZE_2M));
            let beside: Vec<u64> = ranges.starts_in(block.0, block.1).collect();
            for start in beside {
                if let Some(range) =
                    ranges.at_mut(start).filter(|range| matches!(range.mapped, Some(Place::Vram(_))))
                {
                    range.mapped = None;
                }
            }
            for block in huge.note(&event) {
                ranges.invalidate(block, block + SIZE_2M);
            }
            match event {
                Event::Unmapped(range) | Event::Moved { from: range, .. } => {
                    ranges.note_cut(range);
                    gone.extend(ranges.starts_in(range.start(), range.end()));
                }
                // Contents gone, addresses still there: the range stays and is filled in again.
                Event::Discarded(range) => ranges.invalidate(range.start(), range.end()),
            }
        }
        // Memory that cannot be watched, or all of it if events got lost, is looked at.
        let unsure: Vec<SvmRange> = match lost {
            false => ranges.unwatched().collect(),
            true => ranges.starts_in(0, u64::MAX).filter_map(|start| ranges.at(start).copied()).collect(),
        };
        for range in unsure {
            if !cpu.covers(range.start, range.end)? {
                gone.push(range.start);
            }
        }
        for start in gone {
            let Some(range) = state.ranges.remove(start) else { continue };
            // A part may be mapped still; the whole range goes, and the pages that are left stay where they are.
            state.reset_attributes(range.start, range.end);
        }
        Ok(())
    }
}

impl AddressSpace {
    /// Drops the ranges in `[start, end)` whose memory was replaced in the moment in which it was not watched: when pages come
    /// back, the end of one registration lets the thread go that waits for them, and the next one begins after that. Answers
    /// whether there were any.
    pub(super) fn forget_replaced(&self, state: &mut State, start: u64, end: u64) -> Result<bool, Errno> {
        let cpu = self.cpu()?;
        let starts: Vec<u64> = state.ranges.starts_in(start, end).collect();
        let mut any = false;
        for at in starts {
            let Some(range) = state.ranges.watched(at) else { continue };
            if !cpu.is_watched(range.start, range.end)? {
                state.ranges.remove(at);
                state.reset_attributes(range.start, range.end);
                any = true;
            }
        }
        Ok(any)
    }
}

impl State {
    /// A part of a block is about to be moved out of system memory: if the block is one page there, that is split.
    pub(super) fn split_page(&mut self, at: u64) {
        if let Some(block) = self.huge.split(at) {
            self.ranges.invalidate(block, block + SIZE_2M);
        }
    }

    /// Attributes over an SVM range whose memory was unmapped return to what they were bound with, where the mirror was bound to
    /// do so, and mirrors with such attributes beside it are merged (`xe_svm_range_set_default_attr`).
    fn reset_attributes(&mut self, start: u64, end: u64) {
        let Some(vma) = self.vmas.at(start) else { return };
        if !vma.is_mirror() || vma.flags & DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET == 0 {
            return;
        }
        let (at, is_default, exact) =
            (vma.start, vma.is_default_mirror(), vma.start == start && vma.end == end);
        let (mut start, mut end) = (start.max(vma.start), end.min(vma.end));
        if is_default {
            (start, end) = (vma.start, vma.end);
        } else if exact {
            // The driver forgets here what the mapping was bound with (`xe_vma_set_default_attributes`).
            self.vmas.update(at, at + 1, |vma| {
                vma.attributes = Attributes::new(std::mem::take(&mut vma.default_pat));
            });
        }
        (start, end) = self.grow_mirror(start, end);
        // Of those that it replaces the last one gives the new mapping its flags and PAT index (`xe_vm_alloc_vma`).
        let Some(last) = self.vmas.carve(start, end).pop() else { return };
        self.vmas.insert(Vma {
            start,
            end,
            attributes: Attributes::new(last.default_pat),
            backing: Backing::Mirror,
            fence: None,
            tables: Tables::default(),
            last_fault: false,
            ..last
        });
    }

    /// A fault at `address` was served.
    pub(super) fn fault_served(&mut self, address: u64) {
        let before = std::mem::replace(&mut self.last_fault, address);
        self.vmas.update(before, before + 1, |vma| vma.last_fault = false);
        self.vmas.update(address, address + 1, |vma| vma.last_fault = true);
    }

    /// The mapping that the driver finds for a page, which may lie across two (`xe_vm_find_vma_by_addr`).
    fn found_at(&self, at: u64) -> Option<&Vma> {
        let last = self.vmas.at(self.last_fault).filter(|vma| vma.last_fault);
        last.filter(|vma| vma.start < at + SIZE_4K && at < vma.end)
            .or_else(|| self.vmas.first_overlapping(at, at + SIZE_4K))
    }

    /// `[start, end)` grown to swallow the mirrors with default attributes at its edges (`xe_vm_find_cpu_addr_mirror_vma_range`).
    pub(super) fn grow_mirror(&self, mut start: u64, mut end: u64) -> (u64, u64) {
        let default_at =
            |at: u64| self.found_at(at).filter(|vma| vma.is_default_mirror()).map(|vma| (vma.start, vma.end));
        if start >= SIZE_4K {
            if let Some((before, _)) = default_at(start - SIZE_4K) {
                start = before;
            }
        }
        // The driver looks one byte behind the end, which bridges a hole of one page.
        if let Some((_, behind)) = default_at(end + 1) {
            end = behind;
        }
        (start, end)
    }
}

impl XeNode {
    /// `VM_CREATE` (`xe_vm_create_ioctl`).
    pub(super) fn vm_create(&self, arg: &mut VmCreate) -> Result<(), Errno> {
        let config = self.gpu.config();
        let facts = config.facts();
        let has = |flag| arg.flags & flag != 0;
        let fault_mode = has(DRM_XE_VM_CREATE_FLAG_FAULT_MODE);
        if arg.extensions != 0 {
            return Err(Errno::EINVAL);
        }
        if fault_mode && !facts.faults {
            return Err(Errno::EINVAL);
        }
        let mut known = DRM_XE_VM_CREATE_FLAG_SCRATCH_PAGE
            | DRM_XE_VM_CREATE_FLAG_LR_MODE
            | DRM_XE_VM_CREATE_FLAG_FAULT_MODE;
        if config.since(KernelVersion::V7_1) {
            known |= DRM_XE_VM_CREATE_FLAG_NO_VM_OVERCOMMIT;
        }
        if arg.reserved != [0; 2] || arg.flags & !known != 0 {
            return Err(Errno::EINVAL);
        }
        if has(DRM_XE_VM_CREATE_FLAG_SCRATCH_PAGE) && fault_mode && !facts.may_combine_scratch_and_faults {
            return Err(Errno::EINVAL);
        }
        if fault_mode && !has(DRM_XE_VM_CREATE_FLAG_LR_MODE) {
            return Err(Errno::EINVAL);
        }
        if has(DRM_XE_VM_CREATE_FLAG_NO_VM_OVERCOMMIT) && !fault_mode {
            return Err(Errno::EINVAL);
        }
        // The first VM in fault mode makes the device's memory one that pages can migrate to.
        let events = match fault_mode {
            true => {
                let space = self.gpu.space()?;
                if config.migrates {
                    self.gpu.pagemaps().iter().try_for_each(|pagemap| pagemap.region().map(|_| ()))?;
                }
                Some(space.events().map_err(|error| errno_of(&error))?)
            }
            false => None,
        };
        let vm = AddressSpace {
            gpu: self.gpu.clone(),
            serial: next_serial(),
            flags: arg.flags,
            state: Mutex::new(State { events, ..State::default() }),
        };
        arg.vm_id = lock(&self.vms).insert(Arc::new(vm));
        Ok(())
    }

    /// `VM_DESTROY` (`xe_vm_destroy_ioctl`).
    pub(super) fn vm_destroy(&self, arg: &mut VmDestroy) -> Result<(), Errno> {
        if arg.pad != 0 || arg.reserved != [0; 2] {
            return Err(Errno::EINVAL);
        }
        let vm = self.vm(arg.vm_id).ok_or(Errno::ENOENT)?;
        // Long-running VMs without faults stop their queues by preemption, and refuse to go before them.
        if vm.is_long_running() && !vm.is_faulting() && self.has_queues(&vm) {
            return Err(Errno::EBUSY);
        }
        lock(&self.vms).remove(arg.vm_id);
        vm.close();
        Ok(())
    }

    fn has_queues(&self, vm: &Arc<AddressSpace>) -> bool {
        lock(&self.queues).values().any(|queue| queue.is_of(vm))
    }
}
