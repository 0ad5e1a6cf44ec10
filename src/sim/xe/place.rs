//! Filling a range in: moving its pages to where they should be, and mapping them.

use std::sync::Arc;

use super::address_space::{AddressSpace, State};
use super::cpu::{Whereabouts, errno_of};
use super::gpu::Pagemap;
use super::ranges::{Place, SvmRange};
use crate::error::Errno;
use crate::pagemap::{Atomicity, MigrateOptions, RegionId, Windows};
use crate::range::{PageRange, SIZE_2M, SIZE_64K};

/// How long pages stay that a GPU atomic needs in VRAM (`atomic_svm_timeslice_ms`), in milliseconds.
pub(super) const ATOMIC_TIMESLICE_MS: u64 = 5;

impl AddressSpace {
    /// Moves the pages of a range to a tile's memory (`xe_svm_alloc_vram`): all or none, tried once more after bringing all of
    /// them to system memory.
    pub(super) fn migrate(
        &self,
        state: &mut State,
        range: &SvmRange,
        pagemap: &Pagemap,
        timeslice_ms: u64,
    ) -> Result<(), Errno> {
        let cpu = self.cpu()?;
        let region = pagemap.region()?;
        let pages = PageRange::from_aligned(range.start, range.end);
        let elsewhere = match cpu.whereabouts(range.start, range.end)? {
            Whereabouts::In(id) if id == region.id() => return Ok(()),
            Whereabouts::In(_) | Whereabouts::Mixed => true,
            Whereabouts::System => false,
        };
        let is_block = range.end - range.start == SIZE_2M;
        let one_page = is_block && cpu.is_untouched(range.start, range.end);
        if !is_block {
            state.split_page(range.start);
        }
        let options = MigrateOptions::new()
            .windows(Windows::Blocks(SIZE_2M))
            .atomicity(Atomicity::Range)
            .timeslice(std::time::Duration::from_millis(timeslice_ms));
        // Of pages that were never touched the driver makes pages of zeroes in VRAM, which come back as pages like any other.
        let touch = || {
            if self.fault_in(range.start, range.end, true).is_err() {
                // Read-only memory under a read-only mirror; what cannot be had at all is found out when it is mapped.
                let _ = self.fault_in(range.start, range.end, false);
            }
        };
        let attempt = || -> Result<(), Errno> {
            touch();
            // Objects take of the same memory, which the engine does not know of.
            pagemap.make_room(range.end - range.start)?;
            let move_there = || cpu.0.migrate_to_devmem(region, pages, &options).map(|_| ());
            self.keeping_surroundings(range.start, range.end, || {
                move_there().map_err(|error| errno_of(&error))
            })
        };
        if elsewhere {
            cpu.bring_back(range.start, range.end);
        }
        match attempt() {
            Err(Errno::EBUSY) => {
                cpu.bring_back(range.start, range.end);
                attempt()?;
            }
            other => other?,
        }
        if one_page {
            state.huge.insert(range.start);
        }
        Ok(())
    }

    /// Whether a range's pages should move to a tile's memory (`xe_svm_range_needs_migrate_to_vram`).
    pub(super) fn should_migrate(&self, range: &SvmRange) -> bool {
        let needs_64k = self.gpu.config().facts().needs_64k;
        range.migratable && !(needs_64k && range.end - range.start < SIZE_64K)
    }

    /// Where the pages of a range are, as a place that page tables can point to; `None` when here and there, or in the
    /// memory of a device that cannot be reached.
    pub(super) fn place_of(&self, range: &SvmRange) -> Result<Option<Place>, Errno> {
        Ok(match self.cpu()?.whereabouts(range.start, range.end)? {
            Whereabouts::System => Some(Place::System),
            Whereabouts::In(region) => self.can_map(region).then_some(Place::Vram(region)),
            Whereabouts::Mixed => None,
        })
    }

    /// Own memory, or that of a device with a fast link.
    fn can_map(&self, region: RegionId) -> bool {
        self.gpu.pagemap_of(region).is_some()
            || super::gpu::device_with(region).is_some_and(|gpu| self.gpu.reaches(&gpu))
    }

    /// Faults the pages of a range in and tells where they are (`drm_gpusvm_get_pages`). Pages that are here and there, or out
    /// of reach, are brought to system memory first.
    pub(super) fn get_pages(&self, range: &SvmRange, write: bool) -> Result<Place, Errno> {
        let cpu = self.cpu()?;
        if let Some(place @ Place::Vram(_)) = self.place_of(range)? {
            // Pages of several allocations are not mapped together: they go back, and whoever wanted them looks again.
            if !self.is_known(range)? && !cpu.is_one_allocation(range.start, range.end)? {
                cpu.bring_back(range.start, range.end);
                return Err(Errno::EOPNOTSUPP);
            }
            return Ok(place);
        }
        cpu.bring_back(range.start, range.end);
        self.fault_in(range.start, range.end, write)?;
        Ok(Place::System)
    }

    /// Faults pages in (`hmm_range_fault`).
    pub(super) fn fault_in(&self, start: u64, end: u64, write: bool) -> Result<(), Errno> {
        let cpu = self.cpu()?;
        self.keeping_surroundings(start, end, || cpu.fault_in(start, end, write))
    }

    /// Does something to pages. Those that are absent between others on a device can be had only by taking these back, unlike in the
    /// kernel: they return there at once.
    fn keeping_surroundings(
        &self,
        start: u64,
        end: u64,
        act: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let cpu = self.cpu()?;
        let before = cpu.on_devices(start & !(SIZE_2M - 1), end.next_multiple_of(SIZE_2M))?;
        let result = act();
        let options =
            MigrateOptions::new().windows(Windows::Blocks(SIZE_2M)).atomicity(Atomicity::BestEffort);
        for (pages, region) in before {
            if cpu.on_devices(pages.start(), pages.end())?.first() == Some(&(pages, region)) {
                continue;
            }
            if let Some(pagemap) = self.any_pagemap(region) {
                // What cannot return stays in system memory, where it is as good.
                let _ = pagemap.region().map(|region| cpu.0.migrate_to_devmem(region, pages, &options));
            }
        }
        result
    }

    /// The memory that a region is of, of this device or another.
    fn any_pagemap(&self, region: RegionId) -> Option<Arc<Pagemap>> {
        let own = self.gpu.pagemap_of(region).cloned();
        own.or_else(|| super::gpu::device_with(region)?.pagemap_of(region).cloned())
    }

    /// Whether what a tile's page tables say of a range is still true.
    pub(super) fn is_valid(&self, range: &SvmRange, tile: u32) -> Result<bool, Errno> {
        Ok(range.tiles >> tile & 1 != 0 && self.is_known(range)?)
    }

    /// Whether the pages of a range are where they were found last (`drm_gpusvm_pages_valid`).
    pub(super) fn is_known(&self, range: &SvmRange) -> Result<bool, Errno> {
        Ok(range.mapped.is_some() && range.mapped == self.place_of(range)?)
    }
}
