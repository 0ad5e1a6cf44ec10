//! Memory as GPU commands reach it: through the mappings of a VM, with faults served on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::address_space::{AddressSpace, State};
use super::cpu::errno_of;
use super::fault::Access;
use super::object::{Object, Purge};
use super::ranges::{Place, SvmRange};
use super::sync::lock;
use super::vmas::{Backing, Vma};
use crate::error::Errno;
use crate::pagemap::DeviceAtomic;
use crate::range::SIZE_4K;
use crate::sim::user_memory::WriteAccess;
use crate::uapi::xe::{
    DRM_XE_ATOMIC_CPU, DRM_XE_ATOMIC_DEVICE, DRM_XE_VM_BIND_FLAG_READONLY, DRM_XE_VM_CREATE_FLAG_SCRATCH_PAGE,
};

/// What an address leads to.
enum Target {
    /// The process's own memory.
    Process(u64),
    Object(Arc<Object>, u64),
    /// Reads zero, forgets writes.
    Nowhere,
}

impl AddressSpace {
    /// Reads four bytes.
    pub(super) fn gpu_read_u32(&self, address: u64, tile: u32) -> Result<u32, Errno> {
        let mut bytes = [0; 4];
        self.gpu_read(address, &mut bytes, tile)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// How many words in a row are zero from `address` on, up to the end of the page.
    pub(super) fn gpu_zeroes(&self, address: u64, tile: u32) -> Result<u64, Errno> {
        let mut page = [0; SIZE_4K as usize];
        let rest = &mut page[..(SIZE_4K - address % SIZE_4K) as usize];
        self.gpu_read(address, rest, tile)?;
        Ok(rest.chunks_exact(4).take_while(|word| *word == [0; 4]).count() as u64)
    }

    /// Reads bytes that lie in one page.
    fn gpu_read(&self, address: u64, bytes: &mut [u8], tile: u32) -> Result<(), Errno> {
        self.access(address, Access::Read, tile, |target| match target {
            Target::Process(at) => self.gpu.space()?.device_read(at, bytes).map_err(|error| errno_of(&error)),
            Target::Object(object, offset) => object.read(offset, bytes),
            Target::Nowhere => Ok(()),
        })
    }

    /// Where the null mapping at `address` ends, if there is one: up to there everything reads as zero.
    pub(super) fn null_until(&self, address: u64) -> Option<u64> {
        let state = self.lock();
        let vma = state.vmas.at(address)?;
        matches!(vma.backing, Backing::Null).then_some(vma.end)
    }

    /// Writes bytes that lie in one page.
    pub(super) fn gpu_write(
        &self,
        _: WriteAccess,
        address: u64,
        bytes: &[u8],
        tile: u32,
    ) -> Result<(), Errno> {
        self.access(address, Access::Write, tile, |target| match target {
            Target::Process(at) => {
                // SAFETY: whoever submitted the command answers for what it writes, as the right to write shows.
                unsafe { self.gpu.space()?.device_write(at, bytes) }.map_err(|error| errno_of(&error))
            }
            Target::Object(object, offset) => object.write(offset, bytes),
            Target::Nowhere => Ok(()),
        })
    }

    /// Serves the fault of a write to a mirror, if there is one, and tells whether there was. What cannot be served is left to the
    /// write itself.
    pub(super) fn gpu_faults(&self, address: u64, tile: u32) -> Result<bool, Errno> {
        let mut state = self.lock();
        if state.dead || !state.vmas.at(address).is_some_and(Vma::is_mirror) {
            return Ok(false);
        }
        self.collect(&mut state)?;
        let range = state.ranges.at(address).copied();
        let valid = range.map(|range| self.is_valid(&range, tile)).transpose()?.unwrap_or(false);
        Ok(!valid && self.translate(&mut state, address, Access::Write, tile).is_ok())
    }

    /// Adds to four bytes atomically.
    pub(super) fn gpu_add_u32(
        &self,
        access: WriteAccess,
        address: u64,
        value: u32,
        tile: u32,
    ) -> Result<(), Errno> {
        self.access(address, Access::Atomic, tile, |target| match target {
            Target::Process(at) => self.add_in_process(access, at, value),
            Target::Object(object, offset) => object.add(offset, value),
            Target::Nowhere => Ok(()),
        })
    }

    fn add_in_process(&self, _: WriteAccess, at: u64, value: u32) -> Result<(), Errno> {
        let cpu = self.cpu()?;
        let movable = cpu.at(at)?.is_some_and(|vma| vma.anonymous);
        if movable {
            // SAFETY: as in `gpu_write`.
            return unsafe { cpu.0.device_atomic(at, 4, DeviceAtomic::Add(value.into())) }
                .map(|_before| ())
                .map_err(|error| errno_of(&error));
        }
        // Memory of files and shared memory, which no device takes away.
        // SAFETY: the address is 4-aligned (commands drop the low bits) and was found mapped and writable when the fault was served;
        // whoever submitted the command keeps it mapped until it is done, and shares it through atomics only.
        let word = unsafe { AtomicU32::from_ptr(at as *mut u32) };
        word.fetch_add(value, Ordering::AcqRel);
        Ok(())
    }

    /// Finds out what `address` leads to, serving a fault if there is one, and does `act` to it while nothing in the VM changes.
    fn access(
        &self,
        address: u64,
        access: Access,
        tile: u32,
        act: impl FnOnce(Target) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut state = self.lock();
        let done = self.translate(&mut state, address, access, tile).and_then(act);
        if done.is_err() && self.is_faulting() {
            self.record(&mut state, address, access);
        }
        done
    }

    /// Page tables of a mapping of an object are written for `tiles` (`xe_pt_stage_bind`).
    pub(super) fn write_tables(&self, vma: &mut Vma, tiles: u32) {
        let Backing::Object { object, .. } = &vma.backing else { return };
        let facts = self.gpu.config().facts();
        let single = object.placement.is_power_of_two();
        // `xe_atomic_for_vram`, `xe_atomic_for_system`
        vma.tables.atomics = match vma.attributes.atomic {
            DRM_XE_ATOMIC_CPU => false,
            _ if object.in_vram() => true,
            _ if !facts.device_atomics_on_system => false,
            DRM_XE_ATOMIC_DEVICE => true,
            _ => !facts.discrete || !self.is_long_running() || single,
        };
        vma.tables.tiles |= tiles;
    }

    fn translate(&self, state: &mut State, address: u64, access: Access, tile: u32) -> Result<Target, Errno> {
        if state.dead {
            return Err(Errno::ENOENT);
        }
        self.collect(state)?;
        let scratch = self.flags & DRM_XE_VM_CREATE_FLAG_SCRATCH_PAGE != 0;
        let Some(vma) = state.vmas.at(address).cloned() else {
            return if scratch { Ok(Target::Nowhere) } else { Err(Errno::EINVAL) };
        };
        if vma.flags & DRM_XE_VM_BIND_FLAG_READONLY != 0 && access != Access::Read {
            // Page tables that were written before the mirror became read-only stay as they are.
            let range = state.ranges.at(address).copied().filter(|range| vma.is_mirror() && range.writable);
            let serves = |range: SvmRange| {
                let atomics = matches!(range.mapped, Some(Place::Vram(_)))
                    || self.atomic_needs_vram(vma.attributes.atomic) == Ok(false);
                self.is_valid(&range, tile) == Ok(true) && (access != Access::Atomic || atomics)
            };
            if !range.is_some_and(serves) {
                return Err(Errno::EPERM);
            }
        }
        let within = address - vma.start;
        match &vma.backing {
            Backing::Mirror => {
                self.serve(state, &vma, address, access, tile)?;
                Ok(Target::Process(address))
            }
            Backing::Object { object, offset } => {
                let purge = *lock(&object.purge);
                // What was thrown away has left the page tables.
                let present = vma.tables.tiles & 1 << tile != 0 && purge != Purge::Purged;
                let served = present && (access != Access::Atomic || vma.tables.atomics);
                if !served {
                    let mode = object.atomic.load(Ordering::Relaxed);
                    let needs_vram = access == Access::Atomic && self.atomic_needs_vram(mode)?;
                    // What may be thrown away, or was, is not faulted in (`xe_pagefault_begin`).
                    if purge != Purge::WillNeed && !scratch {
                        return Err(Errno::EACCES);
                    }
                    if purge == Purge::Purged {
                        return Ok(Target::Nowhere);
                    }
                    // Memory that cannot be in VRAM is no place for an atomic that has to be there.
                    if needs_vram && object.placement & !1 == 0 {
                        return Err(Errno::EINVAL);
                    }
                    state.vmas.update(address, address + 1, |vma| self.write_tables(vma, 1 << tile));
                    state.fault_served(address);
                }
                Ok(Target::Object(object.clone(), offset + within))
            }
            Backing::Userptr { address: from } => {
                if access == Access::Atomic && self.atomic_needs_vram(vma.attributes.atomic)? {
                    return Err(Errno::EACCES);
                }
                let write = vma.flags & DRM_XE_VM_BIND_FLAG_READONLY == 0;
                self.pin(*from, vma.end - vma.start, write)?;
                Ok(Target::Process(from + within))
            }
            Backing::Null => Ok(Target::Nowhere),
        }
    }
}
