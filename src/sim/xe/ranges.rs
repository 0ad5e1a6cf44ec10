//! SVM ranges: the blocks of 2 MiB, 64 KiB or 4 KiB in which a mirror is filled in (`drm_gpusvm.c`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cpu::{Cpu, CpuVma};
use super::cuts;
use super::vmas::Vma;
use crate::error::Errno;
use crate::pagemap::{RegionId, Watch};
use crate::range::{PageRange, SIZE_2M, SIZE_4K, SIZE_64K};
use crate::uapi::xe::DRM_XE_VM_BIND_FLAG_READONLY;

/// Where the pages of a range are mapped from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    System,
    /// In this region.
    Vram(RegionId),
}

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SvmRange {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Whether its memory is of the kind that migrates.
    pub(super) migratable: bool,
    /// Where its pages were found; `None`: not known, and page tables say nothing true of it.
    pub(super) mapped: Option<Place>,
    /// Bits of the tiles whose page tables have it.
    pub(super) tiles: u32,
    /// The page tables let the GPU write.
    pub(super) writable: bool,
}

impl SvmRange {
    /// Its pages were found there. What page tables say of another place is true no longer.
    pub(super) fn find(&mut self, place: Place) {
        if self.mapped != Some(place) {
            self.tiles = 0;
        }
        self.mapped = Some(place);
    }
}

/// How ranges are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The block that no range crosses.
    pub(super) notifier_bytes: u64,
    /// The device has memory that pages migrate to.
    pub(super) migrates: bool,
    /// On a fault, a block of 64 KiB is taken only where all its pages are there already.
    pub(super) check_pages: bool,
}

#[derive(Debug)]
struct Entry {
    range: SvmRange,
    /// Has the CPU's changes to the addresses told; `None` for memory that cannot be watched.
    watch: Option<Arc<Watched>>,
}

/// What is watched for a range: the block of 2 MiB around it where one mapping has all of that, as the kernel announces every
/// cut through such a block to those who watch any of it (`split_huge_pmd_address`).
#[derive(Debug)]
struct Watched {
    watch: Watch,
    /// No part of it was unmapped or moved since.
    whole: AtomicBool,
}

impl Watched {
    fn has_block_around(&self, at: u64) -> bool {
        let (range, block) = (self.watch.range(), at & !(SIZE_2M - 1));
        self.whole.load(Ordering::Relaxed) && range.start() <= block && block + SIZE_2M <= range.end()
    }
}

/// The ranges of an address space, disjoint, by start.
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<u64, Entry>);

impl Ranges {
    pub(super) fn at(&self, address: u64) -> Option<&SvmRange> {
        self.0
            .range(..=address)
            .next_back()
            .map(|(_, entry)| &entry.range)
            .filter(|range| address < range.end)
    }

    pub(super) fn at_mut(&mut self, address: u64) -> Option<&mut SvmRange> {
        self.0
            .range_mut(..=address)
            .next_back()
            .map(|(_, entry)| &mut entry.range)
            .filter(|range| address < range.end)
    }

    /// Whether any range shares a byte with `[start, end)`, valid or not (`drm_gpusvm_has_mapping`).
    pub(super) fn any_in(&self, start: u64, end: u64) -> bool {
        self.starts_in(start, end).next().is_some()
    }

    /// The starts of the ranges that share a byte with `[start, end)`.
    pub(super) fn starts_in(&self, start: u64, end: u64) -> impl Iterator<Item = u64> {
        let first = self.0.range(..=start).next_back().map_or(start, |(&first, _)| first);
        self.0
            .range(first..end.max(first))
            .filter(move |(_, entry)| entry.range.end > start)
            .map(|(&at, _)| at)
    }

    /// What the page tables say of the ranges in `[start, end)` is true no longer.
    pub(super) fn invalidate(&mut self, start: u64, end: u64) {
        let first = self.starts_in(start, end).next().unwrap_or(end);
        for (_, entry) in self.0.range_mut(first..end.max(first)) {
            entry.range.mapped = None;
        }
    }

    /// The range at `address`, if its memory is watched.
    pub(super) fn watched(&self, address: u64) -> Option<SvmRange> {
        let (_, entry) = self.0.range(..=address).next_back()?;
        (address < entry.range.end && entry.watch.is_some()).then_some(entry.range)
    }

    /// The ranges of memory that cannot be watched.
    pub(super) fn unwatched(&self) -> impl Iterator<Item = SvmRange> {
        self.0.values().filter(|entry| entry.watch.is_none()).map(|entry| entry.range)
    }

    pub(super) fn remove(&mut self, start: u64) -> Option<SvmRange> {
        self.0.remove(&start).map(|entry| entry.range)
    }

    /// Finds the range at `address`, or makes it (`drm_gpusvm_range_find_or_insert`).
    ///
    /// `ENOENT` where the CPU has nothing mapped, `EPERM` where that is not writable under a writable mirror, `EIO` where it is no
    /// memory, `EINVAL` where no block fits.
    pub(super) fn find_or_insert(
        &mut self,
        address: u64,
        gpu: &Vma,
        cpu: Cpu<'_>,
        rules: Rules,
    ) -> Result<SvmRange, Errno> {
        let vma = cpu.at(address)?.ok_or(Errno::ENOENT)?;
        if !vma.writable && gpu.flags & DRM_XE_VM_BIND_FLAG_READONLY == 0 {
            return Err(Errno::EPERM);
        }
        if vma.special {
            return Err(Errno::EIO);
        }
        if let Some(range) = self.at(address) {
            return Ok(*range);
        }
        let (start, end) = self.block(address, gpu, &vma, cpu, rules).ok_or(Errno::EINVAL)?;
        let migratable = rules.migrates && vma.anonymous;
        let range = SvmRange { start, end, migratable, mapped: None, tiles: 0, writable: false };
        cuts::add(start, end);
        let watch = self.watch(&range, &vma, cpu);
        self.0.insert(start, Entry { range, watch });
        Ok(range)
    }

    fn watch(&self, range: &SvmRange, vma: &CpuVma, cpu: Cpu<'_>) -> Option<Arc<Watched>> {
        let block = range.start & !(SIZE_2M - 1);
        let shared = self.starts_in(block, block + SIZE_2M).find_map(|at| {
            let watched = self.0.get(&at)?.watch.as_ref()?;
            watched.has_block_around(block).then(|| watched.clone())
        });
        if shared.is_some() {
            return shared;
        }
        let (start, end) = match vma.anonymous && vma.start <= block && block + SIZE_2M <= vma.end {
            true => (block, block + SIZE_2M),
            false => (range.start, range.end),
        };
        cuts::add(start, end);
        let watch = cpu.0.watch(PageRange::from_aligned(start, end)).ok()?;
        Some(Arc::new(Watched { watch, whole: AtomicBool::new(true) }))
    }

    /// The CPU unmapped or moved a part of its memory away. Where that cut a mapping through a block, the kernel says of the whole
    /// block that it changed.
    pub(super) fn note_cut(&mut self, cut: PageRange) {
        for at in [cut.start(), cut.end()] {
            let block = at & !(SIZE_2M - 1);
            if at == block {
                continue;
            }
            for (_, entry) in self.0.range_mut(block..block + SIZE_2M) {
                if entry.watch.as_ref().is_some_and(|watched| watched.has_block_around(block)) {
                    entry.range.mapped = None;
                }
            }
        }
        let reach = cut.start().saturating_sub(SIZE_2M)..cut.end();
        for (_, entry) in self.0.range(reach) {
            if let Some(watched) = entry.watch.as_ref().filter(|watched| watched.watch.range().overlaps(cut))
            {
                watched.whole.store(false, Ordering::Relaxed);
            }
        }
    }

    /// The largest block that fits (`drm_gpusvm_range_chunk_size`).
    fn block(&self, address: u64, gpu: &Vma, vma: &CpuVma, cpu: Cpu<'_>, rules: Rules) -> Option<(u64, u64)> {
        let notifier = address & !(rules.notifier_bytes - 1);
        let fits = |start: u64, end: u64| {
            start >= vma.start
                && end <= vma.end
                && start >= gpu.start
                && end <= gpu.end
                && start >= notifier
                && end <= notifier.saturating_add(rules.notifier_bytes)
        };
        [SIZE_2M, SIZE_64K, SIZE_4K].into_iter().find_map(|size| {
            let start = address & !(size - 1);
            let end = start + size;
            let free = size == SIZE_4K || !self.any_in(start, end);
            let there = size != SIZE_64K || !rules.check_pages || cpu.all_present(start, end);
            (fits(start, end) && free && there).then_some((start, end))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::vmas::{Attributes, Backing, Tables};
    use super::*;
    use crate::Buffer;
    use crate::pagemap::Space;

    const RULES: Rules = Rules { notifier_bytes: 512 << 20, migrates: true, check_pages: false };

    fn mirror(start: u64, end: u64, flags: u32) -> Vma {
        Vma {
            start,
            end,
            backing: Backing::Mirror,
            flags,
            default_pat: 2,
            attributes: Attributes::new(2),
            fence: None,
            tables: Tables::default(),
            last_fault: false,
        }
    }

    fn sizes(ranges: &Ranges) -> Vec<(u64, u64)> {
        ranges.0.values().map(|entry| (entry.range.start, entry.range.end - entry.range.start)).collect()
    }

    #[test]
    fn the_largest_block_inside_both_mappings_is_taken() {
        let memory = Buffer::<u8>::zeroed(4 << 20).unwrap();
        let base = memory.range().start();
        let space = Space::of_process().unwrap();
        let cpu = Cpu(&space);
        let whole = mirror(0, 1 << 47, 0);
        let mut ranges = Ranges::default();
        let found = ranges.find_or_insert(base + 5 * SIZE_4K, &whole, cpu, RULES).unwrap();
        assert_eq!((found.start, found.end, found.migratable), (base, base + SIZE_2M, true));
        assert_eq!(ranges.find_or_insert(base, &whole, cpu, RULES).unwrap(), found);
        // A mirror that begins in the block's middle leaves room for smaller ones only.
        let cut = mirror(base + SIZE_2M + SIZE_4K, 1 << 47, 0);
        let page = ranges.find_or_insert(base + SIZE_2M + SIZE_4K, &cut, cpu, RULES).unwrap();
        assert_eq!((page.start, page.end - page.start), (base + SIZE_2M + SIZE_4K, SIZE_4K));
        let sixteen = ranges.find_or_insert(base + SIZE_2M + SIZE_64K, &cut, cpu, RULES).unwrap();
        assert_eq!(sixteen.end - sixteen.start, SIZE_64K);
        // A block that a smaller range is in already is not taken.
        let near = ranges.find_or_insert(base + SIZE_2M + 2 * SIZE_4K, &whole, cpu, RULES).unwrap();
        assert_eq!(near.end - near.start, SIZE_4K);
        assert_eq!(sizes(&ranges).len(), 4);
    }

    #[test]
    fn no_block_crosses_a_notifier() {
        let memory = Buffer::<u8>::zeroed(4 << 20).unwrap();
        let base = memory.range().start();
        let space = Space::of_process().unwrap();
        let cpu = Cpu(&space);
        let rules = Rules { notifier_bytes: SIZE_64K, ..RULES };
        let range = Ranges::default().find_or_insert(base, &mirror(0, 1 << 47, 0), cpu, rules).unwrap();
        assert_eq!(range.end - range.start, SIZE_64K);
    }

    #[test]
    fn on_a_fault_64k_are_taken_only_where_pages_are() {
        let mut memory = Buffer::<u8>::zeroed(4 << 20).unwrap();
        let base = memory.range().start();
        // Huge pages would make all of it present at once.
        // SAFETY: the advice changes no byte of the range, which `memory` owns.
        unsafe { rustix::mm::madvise(base as *mut _, 4 << 20, rustix::mm::Advice::LinuxNoHugepage) }.unwrap();
        let space = Space::of_process().unwrap();
        let cpu = Cpu(&space);
        let rules = Rules { check_pages: true, ..RULES };
        let gpu = mirror(base + SIZE_64K, base + 4 * SIZE_64K, 0);
        memory[SIZE_64K as usize] = 1;
        let page = Ranges::default().find_or_insert(base + SIZE_64K, &gpu, cpu, rules).unwrap();
        assert_eq!(page.end - page.start, SIZE_4K);
        for page in 0..16 {
            memory[(SIZE_64K + page * SIZE_4K) as usize] = 1;
        }
        let block = Ranges::default().find_or_insert(base + SIZE_64K, &gpu, cpu, rules).unwrap();
        assert_eq!(block.end - block.start, SIZE_64K);
    }

    #[test]
    fn what_the_gpu_may_not_have_is_refused() {
        let memory = Buffer::<u8>::zeroed(2 << 20).unwrap();
        let base = memory.range().start();
        let whole = mirror(0, 1 << 47, 0);
        let space = Space::of_process().unwrap();
        let find =
            |at: u64, gpu: &Vma| Ranges::default().find_or_insert(at, gpu, Cpu(&space), RULES).map(drop);
        assert_eq!(find(0x1000, &whole), Err(Errno::ENOENT));
        let code = what_the_gpu_may_not_have_is_refused as fn() as usize as u64;
        assert_eq!(find(code, &whole), Err(Errno::EPERM));
        assert_eq!(find(code, &mirror(0, 1 << 47, DRM_XE_VM_BIND_FLAG_READONLY)), Ok(()));
        assert_eq!(find(base, &whole), Ok(()));
        let mut ranges = Ranges::default();
        let text = ranges
            .find_or_insert(code, &mirror(0, 1 << 47, DRM_XE_VM_BIND_FLAG_READONLY), Cpu(&space), RULES)
            .unwrap();
        assert!(!text.migratable);
    }
}
