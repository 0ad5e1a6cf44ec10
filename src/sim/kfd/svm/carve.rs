//! Step A of setting attributes: cutting existing ranges at the edges, and making new ones in the gaps.

use crate::error::Errno;
use crate::range::{PageRange, SIZE_2M};
use crate::sim::kfd::gpus::Gpus;
use crate::sim::kfd::svm::attributes::{Attribute, all_satisfied};
use crate::sim::kfd::svm::range::{Half, Range, Ranges};

/// What new ranges are like.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim::kfd) struct NewRanges {
    pub(in crate::sim::kfd) granularity: u8,
    pub(in crate::sim::kfd) access: Gpus,
    /// No range crosses a multiple of this.
    pub(in crate::sim::kfd) largest: u64,
}

/// Which ranges the rest of the call is about, by first address.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::sim::kfd) struct Carved {
    /// To be changed, in the order in which they are then migrated and mapped.
    pub(in crate::sim::kfd) update: Vec<u64>,
    /// New.
    pub(in crate::sim::kfd) created: Vec<PageRange>,
    /// Outside the call's pages, but with a huge mapping that was cut.
    pub(in crate::sim::kfd) remap: Vec<u64>,
}

/// Bytes that carving would newly register.
pub(in crate::sim::kfd) fn newly_registered(ranges: &Ranges, pages: PageRange) -> u64 {
    ranges.gaps(pages).iter().map(PageRange::len).sum()
}

/// Carves `pages` out of the ranges there are.
pub(in crate::sim::kfd) fn carve(
    ranges: &mut Ranges,
    pages: PageRange,
    attributes: &[Attribute],
    new: NewRanges,
) -> Result<Carved, Errno> {
    let mut carved = Carved::default();
    let mut covered = pages.start();
    for start in ranges.starts_within(pages) {
        let Some(range) = ranges.get(start) else { continue };
        let whole = range.pages;
        let Some(inner) = whole.intersection(pages) else { continue };
        if !(all_satisfied(attributes, range) && range.mapping_done) {
            if inner.start() > whole.start() {
                ranges.split(start, inner.start(), Half::Below);
                remap_if_huge(&mut carved, whole, inner.start(), whole.start());
            }
            if inner.end() < whole.end() {
                ranges.split(inner.start(), inner.end(), Half::Above);
                // By now the range begins with the inner piece: a huge page further down does not count.
                let rest = PageRange::new(inner.start(), whole.end() - inner.start()).unwrap_or(whole);
                remap_if_huge(&mut carved, rest, inner.end(), inner.end());
            }
            carved.update.push(inner.start());
        }
        carved.fill(ranges, covered, inner.start(), new)?;
        covered = inner.end();
    }
    carved.fill(ranges, covered, pages.end(), new)?;
    // The kernel prepends to its list: what was found last is done first.
    carved.update.reverse();
    Ok(carved)
}

impl Carved {
    /// New ranges for the gap between two addresses.
    fn fill(&mut self, ranges: &mut Ranges, start: u64, end: u64, new: NewRanges) -> Result<(), Errno> {
        let gap = PageRange::new(start, end.saturating_sub(start)).map_err(|_| Errno::EINVAL)?;
        for chunk in gap.blocks(new.largest).filter(|chunk| !chunk.is_empty()) {
            ranges.insert(Range::new(chunk, new.granularity, new.access));
            self.update.push(chunk.start());
            self.created.push(chunk);
        }
        Ok(())
    }
}

/// The outer piece of a cut inside a huge page loses that mapping.
fn remap_if_huge(carved: &mut Carved, whole: PageRange, cut: u64, outer: u64) {
    let huge = cut & !(SIZE_2M - 1);
    let inside = cut != huge && whole.start() <= huge && huge.saturating_add(SIZE_2M) <= whole.end();
    if inside {
        carved.remap.push(outer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::page_size;

    fn pages(start: u64, end: u64) -> PageRange {
        PageRange::new(start * page_size(), (end - start) * page_size()).unwrap()
    }

    fn carved(
        existing: &[(u64, u64, bool)],
        range: PageRange,
        attributes: &[Attribute],
    ) -> (Vec<u64>, Vec<(u64, u64)>) {
        let mut ranges = Ranges::default();
        for &(start, end, mapping_done) in existing {
            ranges.insert(Range { mapping_done, ..Range::new(pages(start, end), 9, Gpus::NONE) });
        }
        let new = NewRanges { granularity: 9, access: Gpus::NONE, largest: SIZE_2M };
        let carved = carve(&mut ranges, range, attributes, new).unwrap();
        let page = |byte: u64| byte / page_size();
        (
            carved.update.into_iter().map(page).collect(),
            ranges.iter().map(|range| (page(range.pages.start()), page(range.pages.end()))).collect(),
        )
    }

    #[test]
    fn gaps_come_before_the_range_above_them() {
        let (order, ranges) =
            carved(&[(10, 20, true), (30, 40, true)], pages(5, 50), &[Attribute::Granularity(3)]);
        assert_eq!(order, [40, 20, 30, 5, 10]);
        assert_eq!(ranges, [(5, 10), (10, 20), (20, 30), (30, 40), (40, 50)]);
    }

    #[test]
    fn gaps_are_chunked_at_absolute_multiples_and_done_downwards() {
        let (order, _) = carved(&[], pages(500, 1100), &[]);
        assert_eq!(order, [1024, 512, 500]);
    }

    #[test]
    fn what_has_the_attributes_and_is_mapped_is_left_whole() {
        assert_eq!(
            carved(&[(0, 10, true)], pages(3, 5), &[Attribute::Granularity(9)]),
            (vec![], vec![(0, 10)])
        );
        let split = vec![(0, 3), (3, 5), (5, 10)];
        assert_eq!(
            carved(&[(0, 10, false)], pages(3, 5), &[Attribute::Granularity(9)]),
            (vec![3], split.clone())
        );
        assert_eq!(
            carved(&[(0, 10, true)], pages(3, 5), &[Attribute::Granularity(8)]),
            (vec![3], split.clone())
        );
        assert_eq!(carved(&[(0, 10, true)], pages(3, 5), &[Attribute::Prefetch(0)]), (vec![3], split));
    }

    #[test]
    fn a_cut_in_a_huge_page_remaps_the_outer_pieces() {
        let remapped = |cut: PageRange| {
            let mut ranges = Ranges::default();
            ranges.insert(Range::new(pages(512, 2000), 9, Gpus::NONE));
            let new = NewRanges { granularity: 9, access: Gpus::NONE, largest: 1 << 30 };
            let carved = carve(&mut ranges, cut, &[], new).unwrap();
            carved.remap.into_iter().map(|start| start / page_size()).collect::<Vec<_>>()
        };
        assert_eq!(remapped(pages(1024, 1100)), [1100], "above");
        assert_eq!(remapped(pages(700, 1536)), [512], "below");
        assert_eq!(remapped(pages(700, 1100)), [512, 1100]);
        assert_eq!(remapped(pages(1024, 1536)), [0u64; 0], "not between huge pages");
        assert_eq!(
            remapped(pages(700, 1600)),
            [512],
            "above the inner piece begins no huge page that is cut"
        );
        assert_eq!(
            remapped(pages(1536, 1600)),
            [0u64; 0],
            "a block that the range has in part has no huge page"
        );
    }

    #[test]
    fn what_is_left_whole_has_nothing_created_beside_it() {
        let mut ranges = Ranges::default();
        ranges.insert(Range { mapping_done: true, ..Range::new(pages(10, 20), 9, Gpus::NONE) });
        let new = NewRanges { granularity: 4, access: Gpus::one(1), largest: SIZE_2M };
        let carved = carve(&mut ranges, pages(5, 30), &[], new).unwrap();
        assert_eq!(carved.created, [pages(5, 10), pages(20, 30)]);
        assert_eq!(carved.update, [20, 5].map(|page| page * page_size()));
        let created = ranges.get(5 * page_size()).unwrap();
        assert_eq!((created.granularity, created.access), (4, Gpus::one(1)));
        assert_eq!(newly_registered(&ranges, pages(0, 40)), 15 * page_size());
    }
}
