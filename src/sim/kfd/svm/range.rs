//! Registered ranges: the kernel's `struct svm_range`, and the set of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::range::PageRange;
use crate::sim::kfd::gpus::Gpus;
use crate::sim::kfd::memory::Watch;
use crate::sim::kfd::svm::count::InVram;
use crate::sim::kfd::vram::VramId;
use crate::uapi::kfd as abi;

pub(in crate::sim::kfd) const SYSTEM: u32 = abi::KFD_IOCTL_SVM_LOCATION_SYSMEM;
pub(in crate::sim::kfd) const UNDEFINED: u32 = abi::KFD_IOCTL_SVM_LOCATION_UNDEFINED;

/// The flags of a new range.
pub(in crate::sim::kfd) const DEFAULT_FLAGS: u32 =
    abi::KFD_IOCTL_SVM_FLAG_HOST_ACCESS | abi::KFD_IOCTL_SVM_FLAG_COHERENT;

/// Addresses with attributes of their own. Ranges never overlap and are never merged.
#[derive(Clone, Debug)]
pub(in crate::sim::kfd) struct Range {
    pub(in crate::sim::kfd) pages: PageRange,
    pub(in crate::sim::kfd) preferred: u32,
    pub(in crate::sim::kfd) prefetch: u32,
    /// 0, or the GPU in whose VRAM some pages may be.
    pub(in crate::sim::kfd) actual: u32,
    pub(in crate::sim::kfd) vram: Option<VramId>,
    /// How many pages the driver believes to be there.
    pub(in crate::sim::kfd) in_vram: InVram,
    pub(in crate::sim::kfd) flags: u32,
    pub(in crate::sim::kfd) granularity: u8,
    pub(in crate::sim::kfd) access: Gpus,
    pub(in crate::sim::kfd) in_place: Gpus,
    pub(in crate::sim::kfd) mapped: Gpus,
    pub(in crate::sim::kfd) needs_unmap: Gpus,
    /// Mapped as a whole, with nothing left to do.
    pub(in crate::sim::kfd) mapping_done: bool,
    /// Mappings are stale, and a restore is due.
    pub(in crate::sim::kfd) invalid: bool,
    /// When a GPU fault last mapped it: duplicates soon after are ignored.
    pub(in crate::sim::kfd) validated: Option<Instant>,
    /// Tells when the process unmaps it.
    pub(in crate::sim::kfd) watch: Option<Arc<Watch>>,
}

impl Range {
    pub(in crate::sim::kfd) fn new(pages: PageRange, granularity: u8, access: Gpus) -> Self {
        Self {
            pages,
            preferred: UNDEFINED,
            prefetch: UNDEFINED,
            actual: SYSTEM,
            vram: None,
            in_vram: InVram::default(),
            flags: DEFAULT_FLAGS,
            granularity,
            access,
            in_place: Gpus::NONE,
            mapped: Gpus::NONE,
            needs_unmap: Gpus::NONE,
            mapping_done: false,
            invalid: false,
            validated: None,
            watch: None,
        }
    }

    pub(in crate::sim::kfd) const fn is_always_mapped(&self) -> bool {
        self.flags & abi::KFD_IOCTL_SVM_FLAG_GPU_ALWAYS_MAPPED != 0
    }

    /// Bytes of `1 << granularity` pages, as far as that is a number.
    pub(in crate::sim::kfd) fn unit(&self) -> u64 {
        let pages = 1u64.checked_shl(self.granularity.into());
        pages.and_then(|pages| pages.checked_mul(crate::range::page_size())).unwrap_or(1 << 63)
    }

    /// The block of `1 << granularity` pages around `address`, as far as the range reaches.
    pub(in crate::sim::kfd) fn block(&self, address: u64) -> PageRange {
        let unit = self.unit();
        let start = address & !(unit - 1);
        let end = start.saturating_add(unit).min(self.pages.end());
        let start = start.max(self.pages.start());
        PageRange::new(start, end.saturating_sub(start)).unwrap_or(self.pages)
    }
}

/// Which half of a range that is cut is a new range to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::kfd) enum Half {
    Below,
    Above,
}

/// Every registered range, by its first address.
#[derive(Clone, Debug, Default)]
pub(in crate::sim::kfd) struct Ranges(BTreeMap<u64, Range>);

impl Ranges {
    pub(in crate::sim::kfd) fn insert(&mut self, range: Range) {
        debug_assert!(self.within(range.pages).next().is_none(), "ranges overlap at {}", range.pages);
        self.0.insert(range.pages.start(), range);
    }

    pub(in crate::sim::kfd) fn remove(&mut self, start: u64) -> Option<Range> {
        self.0.remove(&start)
    }

    pub(in crate::sim::kfd) fn get(&self, start: u64) -> Option<&Range> {
        self.0.get(&start)
    }

    pub(in crate::sim::kfd) fn get_mut(&mut self, start: u64) -> Option<&mut Range> {
        self.0.get_mut(&start)
    }

    pub(in crate::sim::kfd) fn iter(&self) -> impl Iterator<Item = &Range> {
        self.0.values()
    }

    pub(in crate::sim::kfd) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Range> {
        self.0.values_mut()
    }

    pub(in crate::sim::kfd) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges that overlap `pages`, ascending.
    pub(in crate::sim::kfd) fn within(&self, pages: PageRange) -> impl Iterator<Item = &Range> {
        let first = self
            .0
            .range(..=pages.start())
            .next_back()
            .filter(|(_, range)| range.pages.end() > pages.start())
            .map_or(pages.start(), |(&start, _)| start);
        self.0.range(first..pages.end().max(first)).map(|(_, range)| range).filter(move |_| !pages.is_empty())
    }

    /// First addresses of the ranges that overlap `pages`, ascending.
    pub(in crate::sim::kfd) fn starts_within(&self, pages: PageRange) -> Vec<u64> {
        self.within(pages).map(|range| range.pages.start()).collect()
    }

    /// The range that holds an address.
    pub(in crate::sim::kfd) fn at(&self, address: u64) -> Option<&Range> {
        self.0
            .range(..=address)
            .next_back()
            .map(|(_, range)| range)
            .filter(|range| range.pages.contains(address))
    }

    /// The parts of `pages` that no range holds, ascending.
    pub(in crate::sim::kfd) fn gaps(&self, pages: PageRange) -> Vec<PageRange> {
        let mut gaps = Vec::new();
        let mut rest = pages;
        for range in self.within(pages) {
            let (below, above) = rest.without(range.pages);
            gaps.extend(Some(below).filter(|gap| !gap.is_empty()));
            rest = above;
        }
        gaps.extend(Some(rest).filter(|gap| !gap.is_empty()));
        gaps
    }

    /// Cuts the range that starts at `start` so that one range ends at `at`; both halves keep everything else. To the driver one of
    /// them is the old range, and the other a new one.
    pub(in crate::sim::kfd) fn split(&mut self, start: u64, at: u64, new: Half) {
        let Some(range) = self.0.get_mut(&start) else { return };
        let Ok((below, above)) = range.pages.split_at(at) else { return };
        if below.is_empty() || above.is_empty() {
            return;
        }
        let mut upper = Range { pages: above, ..range.clone() };
        let moved = range.actual != SYSTEM;
        let (whole, kept, created) = match new {
            Half::Above => (range.pages, &mut range.in_vram, &mut upper.in_vram),
            Half::Below => (range.pages, &mut upper.in_vram, &mut range.in_vram),
        };
        *created = kept.split_off(whole, if new == Half::Above { above } else { below }, moved);
        range.pages = below;
        self.0.insert(at, upper);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::page_size;

    fn pages(start: u64, end: u64) -> PageRange {
        PageRange::new(start * page_size(), (end - start) * page_size()).unwrap()
    }

    fn ranges(list: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        for &(start, end) in list {
            ranges.insert(Range::new(pages(start, end), 9, Gpus::NONE));
        }
        ranges
    }

    #[test]
    fn what_overlaps_and_what_is_free() {
        let ranges = ranges(&[(2, 4), (6, 8), (8, 9)]);
        let overlapping = |start, end| {
            ranges
                .starts_within(pages(start, end))
                .iter()
                .map(|start| start / page_size())
                .collect::<Vec<_>>()
        };
        assert_eq!(overlapping(0, 2), [0u64; 0]);
        assert_eq!(overlapping(3, 4), [2]);
        assert_eq!(overlapping(3, 7), [2, 6]);
        assert_eq!(overlapping(4, 20), [6, 8]);
        assert_eq!(overlapping(3, 3), [0u64; 0]);
        assert_eq!(ranges.gaps(pages(0, 10)), [pages(0, 2), pages(4, 6), pages(9, 10)]);
        assert_eq!(ranges.gaps(pages(3, 7)), [pages(4, 6)]);
        assert_eq!(ranges.gaps(pages(6, 9)), []);
        assert!(ranges.at(8 * page_size() - 1).is_some_and(|range| range.pages == pages(6, 8)));
        assert!(ranges.at(4 * page_size()).is_none());
    }

    #[test]
    fn a_split_keeps_everything_but_the_pages() {
        let mut ranges = ranges(&[(2, 9)]);
        ranges.get_mut(2 * page_size()).unwrap().granularity = 3;
        ranges.split(2 * page_size(), 5 * page_size(), Half::Above);
        ranges.split(2 * page_size(), 2 * page_size(), Half::Above);
        let all: Vec<_> = ranges.iter().map(|range| (range.pages, range.granularity)).collect();
        assert_eq!(all, [(pages(2, 5), 3), (pages(5, 9), 3)]);
    }

    #[test]
    fn blocks_are_aligned_and_clipped() {
        let mut range = Range::new(pages(3, 20), 2, Gpus::NONE);
        assert_eq!(range.block(9 * page_size() + 5), pages(8, 12));
        assert_eq!(range.block(3 * page_size()), pages(3, 4));
        assert_eq!(range.block(19 * page_size()), pages(16, 20));
        for granularity in [10, 51, 52, 63, 64] {
            range.granularity = granularity;
            assert_eq!(range.block(9 * page_size()), pages(3, 20));
        }
    }
}
