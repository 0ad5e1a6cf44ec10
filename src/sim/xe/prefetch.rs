//! `PREFETCH` on mirrors.

use super::address_space::{AddressSpace, State};
use super::config::KernelVersion;
use super::cpu::{self, CpuVmas};
use super::ranges::{Place, SvmRange};
use super::vmas::Vma;
use crate::error::Errno;
use crate::uapi::xe::{DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC, DRM_XE_VM_BIND_FLAG_READONLY, VmBindOp};

/// What a prefetch will do: ranges made while the ioctl is checked, filled in afterwards.
#[derive(Debug, Default)]
pub(super) struct Plan {
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    start: u64,
    target: Place,
    read_only: bool,
}

impl AddressSpace {
    /// Makes the ranges of a prefetch (`vm_bind_ioctl_ops_create`). What fails here fails the ioctl, but the ranges made before
    /// stay.
    pub(super) fn plan_prefetch(&self, state: &mut State, op: &VmBindOp) -> Result<Plan, Errno> {
        let (start, end) = (op.addr, op.addr + op.range);
        let mut plan = Plan::default();
        let vmas: Vec<Vma> = state.vmas.overlapping(start, end).cloned().collect();
        if vmas.is_empty() {
            return Ok(plan);
        }
        let cpu = CpuVmas::read(start, end)?;
        for vma in vmas {
            // The driver leaves its loop at the first mapping that is no mirror; such mappings are bound whole.
            if !vma.is_mirror() {
                break;
            }
            let target = self.target(&vma, op.prefetch_mem_region_instance)?;
            let read_only = vma.flags & DRM_XE_VM_BIND_FLAG_READONLY != 0;
            let last = end.min(vma.end);
            let mut at = start.max(vma.start);
            while at < last {
                match state.ranges.find_or_insert(at, &vma, &cpu, self.rules(false)) {
                    Ok(range) => {
                        if !self.is_done(&range, target) {
                            plan.blocks.push(Block { start: range.start, target, read_only });
                        }
                        at = range.end;
                    }
                    // Nothing mapped: on to what is.
                    Err(Errno::ENOENT) => match cpu.from(at).filter(|next| next.start < last) {
                        Some(next) => at = next.start,
                        None => break,
                    },
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(plan)
    }

    /// Where a prefetch of a mirror to `region` brings pages.
    fn target(&self, vma: &Vma, region: u32) -> Result<Place, Errno> {
        let config = self.gpu.config();
        let local = |tile: usize| {
            self.gpu.pagemaps().get(tile).map_or(Place::System, |pagemap| Place::Vram(pagemap.id))
        };
        let place = match region {
            0 => Place::System,
            DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC => self.preferred(vma),
            region => match config.kernel {
                KernelVersion::V6_16 => Place::System,
                KernelVersion::V6_17 => {
                    panic!("Linux 6.17 crashes at a prefetch to VRAM (xe_migrate_vram of a null pointer)")
                }
                _ => local(region as usize - 1),
            },
        };
        Ok(if config.migrates { place } else { Place::System })
    }

    /// Where a mirror's attributes prefer pages, seen from the device's first tile (`xe_vma_resolve_pagemap`).
    pub(super) fn preferred(&self, vma: &Vma) -> Place {
        match (vma.attributes.fd, &vma.attributes.pagemap) {
            (-1, _) => Place::System,
            (0, _) => self.gpu.pagemaps().first().map_or(Place::System, |local| Place::Vram(local.id)),
            (_, Some(pagemap)) => Place::Vram(pagemap.id),
            (_, None) => Place::System,
        }
    }

    fn all_tiles(&self) -> u32 {
        (1 << self.gpu.config().tile_count()) - 1
    }

    /// Whether a range needs nothing: mapped on all tiles, and where it should be.
    fn is_done(&self, range: &SvmRange, target: Place) -> bool {
        let Some(place) = range.mapped else { return false };
        let in_place = place == target || (!range.migratable && place == Place::System);
        range.tiles == self.all_tiles() && in_place
    }

    /// Moves and maps what was planned (`prefetch_ranges`). Answers whether page tables were written; `ENODATA` when pages
    /// could not be had, after which nothing more is done.
    pub(super) fn prefetch(&self, state: &mut State, plan: &Plan) -> Result<bool, Errno> {
        for block in &plan.blocks {
            let Some(range) = state.ranges.at(block.start).copied() else { continue };
            let place = self.fill(&range, block)?;
            if let Some(range) = state.ranges.at_mut(block.start) {
                range.mapped = Some(place);
                range.tiles = self.all_tiles();
            }
        }
        Ok(!plan.blocks.is_empty())
    }

    fn fill(&self, range: &SvmRange, block: &Block) -> Result<Place, Errno> {
        cpu::fault_in(range.start, range.end, !block.read_only).map_err(|errno| match errno {
            Errno::EOPNOTSUPP | Errno::EFAULT | Errno::EPERM => Errno::ENODATA,
            other => other,
        })?;
        let _ = block.target;
        Ok(Place::System)
    }
}
