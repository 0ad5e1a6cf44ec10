//! `MADVISE`.

use std::sync::Arc;

use super::address_space::{AddressSpace, State};
use super::config::KernelVersion;
use super::gpu::Pagemap;
use super::node::XeNode;
use super::object::{Object, Purge};
use super::ranges::Place;
use super::sync::lock;
use super::vmas::{Backing, Vma};
use crate::error::Errno;
use crate::range::SIZE_4K;
use crate::sim::user_memory::{self, WriteAccess};
use crate::uapi::xe::*;
use crate::xe::{Coherency, PatIndex};

impl XeNode {
    /// `MADVISE` (`xe_vm_madvise_ioctl`).
    pub(super) fn madvise(&self, arg: &mut Madvise, access: WriteAccess) -> Result<(), Errno> {
        let vm = self.vm(arg.vm_id).ok_or(Errno::EINVAL)?;
        self.check_madvise(arg)?;
        let purge = arg.value.as_purgeable();
        let purgeable = arg.attribute == DRM_XE_VMA_ATTR_PURGEABLE_STATE;
        if purgeable && purge.retained_ptr != 0 && user_memory::read::<u32>(purge.retained_ptr)? != 0 {
            return Err(Errno::EINVAL);
        }
        vm.collect_garbage()?;
        let mut state = vm.write()?;
        if state.dead {
            return Err(Errno::ENOENT);
        }
        let pagemap = match arg.attribute {
            DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC => {
                self.preferred_pagemap(&vm, &arg.value.as_preferred_loc())?
            }
            _ => None,
        };
        // The driver masks the start, so a canonical address is taken for what it means, and one beyond wraps.
        let start = arg.start & (vm.end() - 1);
        let end = start.checked_add(arg.range).filter(|&end| end <= vm.end()).ok_or(Errno::EINVAL)?;
        self.split(&vm, &mut state, start, end);
        if state.vmas.first_overlapping(start, end).is_none() && !purgeable {
            return Ok(());
        }
        // Mappings that changed: only their page-table entries are zapped, so that the next access faults and sees the change.
        let mut changed: Vec<(u64, u64)> = Vec::new();
        let mut note = |vma: &Vma, differs: bool| {
            if differs {
                changed.push((vma.start, vma.end));
            }
            differs
        };
        match arg.attribute {
            DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC => {
                let loc = arg.value.as_preferred_loc();
                let (fd, policy) = (loc.devmem_fd as i32, loc.migration_policy);
                state.vmas.update(start, end, |vma| {
                    // The driver compares numbers: neither the region nor what the number means now.
                    let same = vma.attributes.fd == fd && vma.attributes.policy == policy;
                    if vma.is_mirror() && note(vma, !same) {
                        vma.attributes.fd = fd;
                        vma.attributes.policy = policy;
                        vma.attributes.pagemap.clone_from(&pagemap);
                    }
                });
            }
            DRM_XE_MEM_RANGE_ATTR_ATOMIC => {
                let mode = arg.value.as_atomic().val;
                let on_system = self.gpu.config().facts().device_atomics_on_system;
                let possible = |vma: &Vma| match &vma.backing {
                    Backing::Object { object, .. } => atomic_possible(object.placement, mode, on_system),
                    _ => true,
                };
                if !state.vmas.overlapping(start, end).all(possible) {
                    return Err(Errno::EINVAL);
                }
                state.vmas.update(start, end, |vma| {
                    // Of system memory at another address the driver takes nothing but what changes its page tables.
                    let userptr = matches!(vma.backing, Backing::Userptr { .. });
                    if userptr && !(mode == DRM_XE_ATOMIC_DEVICE && on_system) {
                        return;
                    }
                    let mut differs = vma.attributes.atomic != mode;
                    if let Backing::Object { object, .. } = &vma.backing {
                        differs |= object.atomic.swap(mode, std::sync::atomic::Ordering::Relaxed) != mode;
                    }
                    if note(vma, differs) {
                        vma.attributes.atomic = mode;
                    }
                });
            }
            DRM_XE_MEM_RANGE_ATTR_PAT => {
                let index = arg.value.as_pat().val as u16;
                self.check_pat(&state, start, end, index)?;
                state.vmas.update(start, end, |vma| {
                    if note(vma, vma.attributes.pat != index) {
                        vma.attributes.pat = index;
                    }
                });
            }
            _ => return Self::purge(&mut state, start, end, purge, access),
        }
        for (start, end) in changed {
            state.vmas.update(start, end, |vma| vma.tables.tiles = 0);
            let ranges: Vec<u64> = state.ranges.starts_in(start, end).collect();
            for range in ranges {
                if let Some(range) = state.ranges.at_mut(range) {
                    range.tiles = 0;
                }
            }
        }
        Ok(())
    }

    fn check_madvise(&self, arg: &Madvise) -> Result<(), Errno> {
        let config = self.gpu.config();
        let refused = arg.start % SIZE_4K != 0 || arg.range % SIZE_4K != 0 || arg.range < SIZE_4K;
        let refused = refused
            || match arg.attribute {
                DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC => {
                    let loc = arg.value.as_preferred_loc();
                    let fd = loc.devmem_fd as i32;
                    fd < -1
                        || (fd <= 0 && loc.region_instance != 0)
                        // Padding that must be zero before it got a meaning.
                        || (!config.since(KernelVersion::V7_0) && loc.region_instance != 0)
                        || u32::from(loc.migration_policy) > DRM_XE_MIGRATE_ONLY_SYSTEM_PAGES
                        || loc.reserved != 0
                }
                DRM_XE_MEM_RANGE_ATTR_ATOMIC => {
                    let atomic = arg.value.as_atomic();
                    atomic.val > DRM_XE_ATOMIC_CPU || atomic.pad != 0 || atomic.reserved != 0
                }
                DRM_XE_MEM_RANGE_ATTR_PAT => {
                    let pat = arg.value.as_pat();
                    let index = u16::try_from(pat.val).map(PatIndex);
                    let known = index.is_ok_and(|index| config.pat().coherency(index).is_some());
                    !known || pat.pad != 0 || pat.reserved != 0
                }
                DRM_XE_VMA_ATTR_PURGEABLE_STATE if config.since(KernelVersion::V7_1) => {
                    let purge = arg.value.as_purgeable();
                    purge.val > DRM_XE_VMA_PURGEABLE_STATE_DONTNEED || purge.pad != 0
                }
                _ => true,
            };
        if refused || arg.reserved != [0; 2] { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// What a file number and region stand for.
    fn preferred_pagemap(
        &self,
        vm: &AddressSpace,
        loc: &MadvisePreferredLoc,
    ) -> Result<Option<Arc<Pagemap>>, Errno> {
        let fd = loc.devmem_fd as i32;
        if fd <= 0 {
            return Ok(None);
        }
        let gpu = Self::device_of(fd).ok_or(Errno::ENOENT)?;
        // Before 7.0 the number names the device, whose first tile is meant.
        let instance = match self.gpu.config().since(KernelVersion::V7_0) {
            true => loc.region_instance,
            false => 1,
        };
        let tile = instance.checked_sub(1).ok_or(Errno::ENOENT)?;
        let pagemap = gpu.pagemaps().get(usize::from(tile)).ok_or(Errno::ENOENT)?;
        if gpu.is_unplugged() {
            return Err(Errno::ENODEV);
        }
        // A VM without faults has no pages that anybody could own.
        if !self.gpu.reaches(&gpu) || !vm.is_faulting() {
            return Err(Errno::ENOLINK);
        }
        Ok(Some(pagemap.clone()))
    }

    /// Splits mappings at both ends; SVM ranges that straddle one go, their pages back to system memory.
    fn split(&self, vm: &AddressSpace, state: &mut State, start: u64, end: u64) {
        state.vmas.split_for_advice(start, end);
        for at in [start, end] {
            let straddles = state.ranges.at(at).filter(|range| range.start < at).copied();
            if let Some(range) = straddles {
                if let (Ok(cpu), Some(Place::Vram(_))) = (vm.cpu(), range.mapped) {
                    cpu.bring_back(range.start, range.end);
                }
                state.ranges.remove(range.start);
            }
        }
    }

    fn check_pat(&self, state: &State, start: u64, end: u64, index: u16) -> Result<(), Errno> {
        let config = self.gpu.config();
        let facts = config.facts();
        let coherency = config.pat().coherency(PatIndex(index));
        let shared = |vma: &Vma| match &vma.backing {
            Backing::Mirror | Backing::Userptr { .. } => true,
            Backing::Object { object, .. } => object.cached,
            Backing::Null => false,
        };
        let any_shared = state.vmas.overlapping(start, end).any(shared);
        let xe3p = facts.graphics.major >= 35 && !facts.discrete;
        let refused = any_shared
            && !facts.discrete
            && (coherency == Some(Coherency::None)
                || (xe3p && index != 19 && coherency != Some(Coherency::TwoWay)));
        if refused { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn purge(
        state: &mut State,
        start: u64,
        end: u64,
        purge: MadvisePurgeable,
        access: WriteAccess,
    ) -> Result<(), Errno> {
        let dont_need = purge.val == DRM_XE_VMA_PURGEABLE_STATE_DONTNEED;
        let mut retained = true;
        let mut objects: Vec<Arc<Object>> = Vec::new();
        state.vmas.update(start, end, |vma| {
            let Backing::Object { object, .. } = &vma.backing else { return };
            if *lock(&object.purge) == Purge::Purged {
                retained = false;
            } else if vma.attributes.dont_need != dont_need {
                vma.attributes.dont_need = dont_need;
                objects.push(object.clone());
            }
        });
        for object in objects {
            // One who needs it is enough to keep it.
            let needless = state.vmas.nobody_needs(&object);
            *lock(&object.purge) = if needless { Purge::DontNeed } else { Purge::WillNeed };
        }
        if purge.retained_ptr != 0 {
            access.write(purge.retained_ptr, &u32::from(retained))?;
        }
        Ok(())
    }
}

/// Whether an object with these regions can have an atomic mode.
const fn atomic_possible(placement: u32, mode: u32, device_atomics_on_system: bool) -> bool {
    let system = placement & 1 != 0;
    let vram = placement & !1 != 0;
    match mode {
        DRM_XE_ATOMIC_CPU => system,
        DRM_XE_ATOMIC_DEVICE => vram || (system && device_atomics_on_system),
        DRM_XE_ATOMIC_GLOBAL => system && vram,
        _ => true,
    }
}
