//! `PREFETCH` on mirrors.

use std::sync::Arc;

use super::address_space::{AddressSpace, State};
use super::config::KernelVersion;
use super::gpu::Pagemap;
use super::object::Purge;
use super::ranges::{Place, SvmRange};
use super::sync::lock;
use super::vmas::{Backing, Vma};
use crate::error::Errno;
use crate::uapi::xe::{DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC, DRM_XE_VM_BIND_FLAG_READONLY, VmBindOp};

/// What a prefetch will do: ranges made while the ioctl is checked, filled in afterwards.
#[derive(Debug, Default)]
pub(super) struct Plan {
    blocks: Vec<Block>,
    /// Mappings that are no mirrors, which are bound whole after the blocks.
    whole: Vec<Vma>,
    /// The region that was asked for.
    region: u32,
}

#[derive(Debug)]
struct Block {
    start: u64,
    /// The tile memory to move to; `None` for system memory.
    target: Option<Arc<Pagemap>>,
    read_only: bool,
}

impl AddressSpace {
    /// Makes the ranges of a prefetch (`vm_bind_ioctl_ops_create`). What fails here fails the ioctl, but the ranges made before
    /// stay.
    pub(super) fn plan_prefetch(&self, state: &mut State, op: &VmBindOp) -> Result<Plan, Errno> {
        let end = op.addr + op.range;
        let mut plan = Plan { region: op.prefetch_mem_region_instance, ..Plan::default() };
        let vmas: Vec<Vma> = state.vmas.overlapping(op.addr, end).cloned().collect();
        for (number, vma) in vmas.iter().enumerate() {
            // It leaves its loop at the first mapping that is no mirror; such mappings, and all behind it, are bound whole.
            if !vma.is_mirror() {
                for vma in &vmas[number..] {
                    if let Backing::Userptr { address } = vma.backing {
                        let write = vma.flags & DRM_XE_VM_BIND_FLAG_READONLY == 0;
                        self.pin(address, vma.end - vma.start, write)?;
                    }
                }
                plan.whole = vmas[number..].to_vec();
                break;
            }
            let cpu = self.cpu()?;
            let target = self.target(vma, op.prefetch_mem_region_instance);
            let read_only = vma.flags & DRM_XE_VM_BIND_FLAG_READONLY != 0;
            let last = end.min(vma.end);
            let mut at = op.addr.max(vma.start);
            loop {
                match state.ranges.find_or_insert(at, vma, cpu, self.rules(false)) {
                    Ok(range) => {
                        if !self.is_done(&range, target.as_deref())? {
                            plan.blocks.push(Block { start: range.start, target: target.clone(), read_only });
                        }
                        if end <= range.end || vma.end <= range.end {
                            break;
                        }
                        at = range.end;
                    }
                    // Nothing mapped: on to what is.
                    Err(Errno::ENOENT) => match cpu.at_or_after(at)?.filter(|next| next.start < last) {
                        Some(next) => at = next.start,
                        None => break,
                    },
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(plan)
    }

    /// Whether objects can be where a prefetch wants them (`op_lock_and_prep`), which is found out when the blocks have moved.
    /// Objects of which nothing is known but the first mapping's target go to system memory.
    pub(super) fn check_objects(plan: &Plan) -> Result<(), Errno> {
        for (number, vma) in plan.whole.iter().enumerate() {
            let Backing::Object { object, .. } = &vma.backing else { continue };
            match *lock(&object.purge) {
                Purge::WillNeed => {}
                Purge::DontNeed => return Err(Errno::EBUSY),
                Purge::Purged => return Err(Errno::EINVAL),
            }
            let region = if number == 0 { plan.region } else { 0 };
            if region != DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC && object.placement >> region & 1 == 0 {
                return Err(Errno::EINVAL);
            }
        }
        Ok(())
    }

    /// Faults in the memory that a user pointer stands for (`xe_vma_userptr_pin_pages`).
    pub(super) fn pin(&self, address: u64, bytes: u64, write: bool) -> Result<(), Errno> {
        // The last byte is what the kernel watches, the end what it walks to.
        let last = address.checked_add(bytes - 1).ok_or(Errno::EOVERFLOW)?;
        let end = last.checked_add(1).ok_or(Errno::EINVAL)?;
        let cpu = self.cpu()?;
        let mut at = address;
        while at < end {
            let vma = cpu.at(at)?.ok_or(Errno::EFAULT)?;
            if vma.special || !vma.readable {
                return Err(Errno::EFAULT);
            }
            if write && !vma.writable {
                return Err(Errno::EPERM);
            }
            let next = vma.end.min(end);
            self.fault_in(at, next, write)?;
            at = next;
        }
        Ok(())
    }

    /// The memory that a prefetch of a mirror to `region` moves pages to.
    fn target(&self, vma: &Vma, region: u32) -> Option<Arc<Pagemap>> {
        let config = self.gpu.config();
        if !config.migrates {
            return None;
        }
        match region {
            0 => None,
            DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC => self.preferred(vma, 0),
            region => match config.kernel {
                KernelVersion::V6_16 => None,
                KernelVersion::V6_17 => {
                    panic!("Linux 6.17 crashes at a prefetch to VRAM (xe_migrate_vram of a null pointer)")
                }
                _ => self.gpu.pagemaps().get(region as usize - 1).cloned(),
            },
        }
    }

    /// Where a mirror's attributes prefer pages, seen from one of the device's tiles (`xe_vma_resolve_pagemap`).
    pub(super) fn preferred(&self, vma: &Vma, tile: u32) -> Option<Arc<Pagemap>> {
        match vma.attributes.fd {
            -1 => None,
            0 => self.gpu.pagemaps().get(tile as usize).cloned(),
            _ => vma.attributes.pagemap.clone(),
        }
    }

    fn all_tiles(&self) -> u32 {
        (1 << self.gpu.config().tile_count()) - 1
    }

    /// Whether a range needs nothing: mapped on all tiles, and where it should be (`xe_svm_range_validate`). Memory that cannot go
    /// where it is wanted never is, and is mapped anew each time.
    fn is_done(&self, range: &SvmRange, target: Option<&Pagemap>) -> Result<bool, Errno> {
        if range.tiles != self.all_tiles() || !self.is_valid(range, 0)? {
            return Ok(false);
        }
        Ok(match target {
            None => range.mapped == Some(Place::System),
            Some(pagemap) => range.mapped == Some(Place::Vram(pagemap.region()?.id())),
        })
    }

    /// Moves and maps what was planned (`prefetch_ranges`). Answers whether page tables were written; `ENODATA` when pages
    /// could not be had, after which nothing more is done.
    ///
    /// A block that does not stay where it was put (a later one pushed it out of full memory, or brought back what it shared an
    /// allocation with, or the CPU touched it) is found out when page tables are about to be written: `EAGAIN`.
    pub(super) fn prefetch(&self, state: &mut State, plan: &Plan) -> Result<bool, Errno> {
        let mut filled = Vec::with_capacity(plan.blocks.len());
        for block in &plan.blocks {
            let Some(range) = state.ranges.at(block.start).copied() else { continue };
            match block.target.as_deref().filter(|_| self.should_migrate(&range)) {
                Some(pagemap) => match self.migrate(state, &range, pagemap, 0) {
                    // Memory that the process may not write to, which the driver would move, and go on.
                    Ok(()) | Err(Errno::EPERM) => {}
                    // Whatever goes wrong with a migration, the driver makes one errno of it, and success of that.
                    Err(_) => return Err(Errno::ENODATA),
                },
                None if block.target.is_none() => self.cpu()?.bring_back(range.start, range.end),
                None => {}
            }
            let place = self.get_pages(&range, !block.read_only).map_err(|errno| match errno {
                Errno::EOPNOTSUPP | Errno::EFAULT | Errno::EPERM => Errno::ENODATA,
                other => other,
            })?;
            if self.gpu.is_to_come_again() {
                return Err(Errno::EAGAIN);
            }
            if let Some(range) = state.ranges.at_mut(block.start) {
                range.find(place);
            }
            filled.push(block);
        }
        for block in &filled {
            let known = state.ranges.at(block.start).map(|range| self.is_known(range)).transpose()?;
            if known == Some(false) {
                return Err(Errno::EAGAIN);
            }
        }
        // Page tables are written when every block is filled in.
        for block in filled {
            if let Some(range) = state.ranges.at_mut(block.start) {
                range.writable = !block.read_only;
                range.tiles = self.all_tiles();
            }
        }
        Ok(!plan.whole.is_empty() || !plan.blocks.is_empty())
    }
}
