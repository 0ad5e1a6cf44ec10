//! GPU page faults (`xe_pagefault.c`, `xe_svm_handle_pagefault`).

use super::address_space::{AddressSpace, State};
use super::place::ATOMIC_TIMESLICE_MS;
use super::ranges::Place;
use super::vmas::Vma;
use crate::error::Errno;
use crate::uapi::xe::{
    DRM_XE_ATOMIC_CPU, DRM_XE_ATOMIC_DEVICE, DRM_XE_VM_BIND_FLAG_READONLY, FAULT_ACCESS_TYPE_ATOMIC,
    FAULT_ACCESS_TYPE_READ, FAULT_ACCESS_TYPE_WRITE, FAULT_LEVEL_PTE, FAULT_TYPE_ATOMIC_ACCESS,
    FAULT_TYPE_NOT_PRESENT, FAULT_TYPE_WRITE_ACCESS, VmFault,
};

/// What the GPU does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Atomic,
}

/// How often a fault is served again when the CPU's page tables keep changing, before it is given up. The driver has no limit.
const ROUNDS: u32 = 1000;
/// How often a migration is tried that an atomic needs.
const ATOMIC_TRIES: u32 = 3;

impl AddressSpace {
    /// Serves a fault at `address` on a mirror, unless the page tables of `tile` are right already.
    pub(super) fn serve(
        &self,
        state: &mut State,
        vma: &Vma,
        address: u64,
        access: Access,
        tile: u32,
    ) -> Result<(), Errno> {
        let needs_vram = access == Access::Atomic && self.atomic_needs_vram(vma.attributes.atomic)?;
        let cpu = self.cpu()?;
        let mut tries = if needs_vram { ATOMIC_TRIES } else { 1 };
        let mut timeslice = if needs_vram { ATOMIC_TIMESLICE_MS } else { 0 };
        for _ in 0..ROUNDS {
            let range = state.ranges.find_or_insert(address, vma, cpu, self.rules(true))?;
            if needs_vram && !range.migratable {
                return Err(Errno::EACCES);
            }
            if self.is_valid(&range, tile)? && (!needs_vram || matches!(range.mapped, Some(Place::Vram(_)))) {
                return Ok(());
            }
            // What an atomic needs is in the memory of the tile that faults, whatever is preferred.
            let target = match needs_vram {
                true => self.gpu.pagemaps().get(tile as usize).cloned(),
                false => self.preferred(vma, tile),
            };
            let wants_system = target.is_none();
            let target =
                target.filter(|_| tries > 0 && self.gpu.config().migrates && self.should_migrate(&range));
            if let Some(pagemap) = target {
                let moved = self.migrate(state, &range, &pagemap, timeslice);
                tries -= 1;
                timeslice *= 2;
                match moved {
                    // An ordinary access is served where the pages are.
                    Err(errno) if needs_vram && tries == 0 => return Err(errno),
                    Err(_) if needs_vram => continue,
                    _ => {}
                }
            }
            let write = vma.flags & DRM_XE_VM_BIND_FLAG_READONLY == 0;
            // Of what is to be in system memory no device keeps pages, unless they are known where they are.
            if wants_system && !self.is_known(&range)? {
                cpu.bring_back(range.start, range.end);
            }
            let place = match self.get_pages(&range, write) {
                Ok(place) => place,
                Err(Errno::EOPNOTSUPP | Errno::EFAULT | Errno::EPERM) => continue,
                Err(errno) => return Err(errno),
            };
            if let Some(range) = state.ranges.at_mut(address) {
                range.find(place);
                range.tiles |= 1 << tile;
                range.writable = write;
            }
            state.fault_served(address);
            return Ok(());
        }
        Err(Errno::EFAULT)
    }

    /// Whether a GPU atomic has to find its page in VRAM (`xe_vma_need_vram_for_atomic`).
    pub(super) fn atomic_needs_vram(&self, mode: u32) -> Result<bool, Errno> {
        let facts = self.gpu.config().facts();
        if !facts.discrete {
            return Ok(false);
        }
        match mode {
            DRM_XE_ATOMIC_DEVICE => Ok(!facts.device_atomics_on_system),
            DRM_XE_ATOMIC_CPU => Err(Errno::EACCES),
            _ => Ok(true),
        }
    }

    /// Remembers a fault that could not be served, with the address as the hardware reports it.
    pub(super) fn record(&self, state: &mut State, address: u64, access: Access) {
        let unused = 64 - self.gpu.config().facts().va_bits;
        let page = address & !0xfff;
        // What the hardware found, before the driver looked for what it should be.
        let mirrored =
            state.ranges.at(address).is_some_and(|range| range.mapped.is_some() && range.tiles != 0);
        let present = mirrored || state.vmas.at(address).is_some_and(|vma| vma.tables.tiles != 0);
        state.record_fault(VmFault {
            address: ((page << unused) as i64 >> unused) as u64,
            address_precision: 4096,
            access_type: match access {
                Access::Read => FAULT_ACCESS_TYPE_READ,
                Access::Write => FAULT_ACCESS_TYPE_WRITE,
                Access::Atomic => FAULT_ACCESS_TYPE_ATOMIC,
            },
            fault_type: match access {
                Access::Atomic if present => FAULT_TYPE_ATOMIC_ACCESS,
                Access::Write if present => FAULT_TYPE_WRITE_ACCESS,
                _ => FAULT_TYPE_NOT_PRESENT,
            },
            fault_level: FAULT_LEVEL_PTE,
            ..Default::default()
        });
    }
}
