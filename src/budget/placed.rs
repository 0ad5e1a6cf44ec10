//! Which addresses were put into VRAM, and in which order.

use std::collections::BTreeMap;

use crate::range::PageRange;

/// Disjoint ranges, each with the time of its last placement.
#[derive(Clone, Debug, Default)]
pub(super) struct Placed {
    /// By start: the end, and the time.
    spans: BTreeMap<u64, (u64, u64)>,
    clock: u64,
    bytes: u64,
}

impl Placed {
    /// Enters a range as placed now; what was known of parts of it is replaced.
    pub(super) fn insert(&mut self, range: PageRange) {
        if range.is_empty() {
            return;
        }
        self.remove(range);
        self.clock += 1;
        self.put(range.start(), range.end(), self.clock);
    }

    /// Strikes a range out.
    pub(super) fn remove(&mut self, range: PageRange) {
        if range.is_empty() {
            return;
        }
        for (start, end, time) in self.overlapping(range) {
            self.spans.remove(&start);
            self.bytes -= end - start;
            if start < range.start() {
                self.put(start, range.start(), time);
            }
            if end > range.end() {
                self.put(range.end(), end, time);
            }
        }
    }

    /// How many bytes there are in all.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The ranges by address; neighbours that were placed at different times are apart.
    pub(super) fn ranges(&self) -> Vec<PageRange> {
        self.spans.iter().map(|(&start, &(end, _))| PageRange::from_aligned(start, end)).collect()
    }

    /// The ranges, placed longest ago first.
    pub(super) fn oldest_first(&self) -> Vec<PageRange> {
        let mut spans: Vec<(u64, u64, u64)> =
            self.spans.iter().map(|(&start, &(end, time))| (time, start, end)).collect();
        spans.sort_unstable();
        spans.into_iter().map(|(_, start, end)| PageRange::from_aligned(start, end)).collect()
    }

    /// The smallest range that holds all that is placed within `block`; `None` when nothing is.
    pub(super) fn within(&self, block: PageRange) -> Option<PageRange> {
        let spans = self.overlapping(block).into_iter();
        let parts =
            spans.filter_map(|(start, end, _)| PageRange::from_aligned(start, end).intersection(block));
        parts.reduce(|a, b| a.hull(b))
    }

    fn put(&mut self, start: u64, end: u64, time: u64) {
        self.spans.insert(start, (end, time));
        self.bytes += end - start;
    }

    fn overlapping(&self, range: PageRange) -> Vec<(u64, u64, u64)> {
        let before = self.spans.range(..range.start()).next_back();
        before
            .into_iter()
            .chain(self.spans.range(range.start()..range.end()))
            .filter(|&(_, &(end, _))| end > range.start())
            .map(|(&start, &(end, time))| (start, end, time))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::range::page_size;

    fn pages(first: u64, count: u64) -> PageRange {
        PageRange::new(first * page_size(), count * page_size()).unwrap()
    }

    #[test]
    fn a_second_placement_makes_a_range_young_again() {
        let mut placed = Placed::default();
        placed.insert(pages(0, 4));
        placed.insert(pages(8, 4));
        assert_eq!(placed.oldest_first(), [pages(0, 4), pages(8, 4)]);
        placed.insert(pages(0, 2));
        assert_eq!(placed.oldest_first(), [pages(2, 2), pages(8, 4), pages(0, 2)]);
        assert_eq!(placed.bytes(), 8 * page_size());
        placed.insert(pages(3, 0));
        placed.remove(pages(1, 8));
        assert_eq!(placed.ranges(), [pages(0, 1), pages(9, 3)]);
        assert_eq!(placed.within(pages(0, 10)), Some(pages(0, 10)));
        assert_eq!((placed.within(pages(10, 1)), placed.within(pages(1, 8))), (Some(pages(10, 1)), None));
    }

    const PAGES: u64 = 48;

    proptest! {
        #[test]
        fn agrees_with_a_model_of_pages(
            steps in proptest::collection::vec((any::<bool>(), 0..PAGES, 0..16u64), 1..60)
        ) {
            let mut placed = Placed::default();
            let mut model = [0u64; PAGES as usize + 16];
            for (time, (insert, first, count)) in (1u64..).zip(steps) {
                let cells = first as usize..(first + count) as usize;
                if insert {
                    placed.insert(pages(first, count));
                    model[cells].fill(time);
                } else {
                    placed.remove(pages(first, count));
                    model[cells].fill(0);
                }
                let occupied = model.iter().filter(|&&time| time > 0).count() as u64;
                prop_assert_eq!(placed.bytes(), occupied * page_size());
                let ranges = placed.ranges();
                prop_assert!(ranges.windows(2).all(|two| two[0].end() <= two[1].start()));
                for (page, &time) in (0u64..).zip(&model) {
                    let inside = ranges.iter().any(|range| range.contains(page * page_size()));
                    prop_assert_eq!(inside, time > 0, "page {}", page);
                }
                let age = |range: PageRange| model[(range.start() / page_size()) as usize];
                let ages: Vec<u64> = placed.oldest_first().into_iter().map(age).collect();
                prop_assert!(ages.is_sorted(), "{:?}", ages);
            }
        }
    }
}
