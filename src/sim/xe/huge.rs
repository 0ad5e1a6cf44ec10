//! Which blocks of 2 MiB are one page to the kernel.
//!
//! A block that nobody has touched gets one huge page in VRAM, and another when it comes back. What takes a part of it splits
//! it, and of that the kernel tells drivers as of a change of the whole block.

use std::collections::BTreeSet;

use crate::pagemap::Event;
use crate::range::{PageRange, SIZE_2M};

/// The starts of the blocks.
#[derive(Debug, Default)]
pub(super) struct HugePages(BTreeSet<u64>);

impl HugePages {
    /// A block becomes one page.
    pub(super) fn insert(&mut self, start: u64) {
        self.0.insert(start);
    }

    /// The block around an address is one page no longer. Tells where it begins, if it was one.
    pub(super) fn split(&mut self, at: u64) -> Option<u64> {
        self.0.take(&(at & !(SIZE_2M - 1)))
    }

    /// Follows a change of the CPU's mappings. Tells which blocks were split by it.
    pub(super) fn note(&mut self, event: &Event) -> Vec<u64> {
        let (changed, to) = match *event {
            Event::Unmapped(range) | Event::Discarded(range) => (range, None),
            Event::Moved { from, to } => (from, Some(to)),
        };
        let first = changed.start() & !(SIZE_2M - 1);
        let blocks: Vec<u64> = self.0.range(first..changed.end().max(first)).copied().collect();
        let whole = |start: u64| changed.contains_range(PageRange::from_aligned(start, start + SIZE_2M));
        for start in &blocks {
            self.0.remove(start);
            let moved = to.map(|to| to.wrapping_add(start.wrapping_sub(changed.start())));
            // A page as large as a page table moves with it.
            if let Some(there) = moved.filter(|there| whole(*start) && there % SIZE_2M == 0) {
                self.0.insert(there);
            }
        }
        blocks.into_iter().filter(|&start| !whole(start)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(first: u64, last: u64) -> PageRange {
        PageRange::from_aligned(first * SIZE_2M, last * SIZE_2M)
    }

    #[test]
    fn a_change_of_a_part_splits_and_a_whole_block_moves() {
        let mut pages = HugePages::default();
        for block in 1..6 {
            pages.insert(block * SIZE_2M);
        }
        let part = PageRange::from_aligned(SIZE_2M + 0x1000, 2 * SIZE_2M);
        assert_eq!(pages.note(&Event::Discarded(part)), [SIZE_2M]);
        assert!(pages.note(&Event::Discarded(part)).is_empty());
        let moved = Event::Moved { from: blocks(2, 3), to: 9 * SIZE_2M };
        assert!(pages.note(&moved).is_empty());
        assert_eq!(pages.split(2 * SIZE_2M + 5), None);
        assert_eq!(pages.split(9 * SIZE_2M + 5), Some(9 * SIZE_2M));
        assert_eq!(pages.split(9 * SIZE_2M + 5), None);
        // To where no huge page fits.
        assert!(pages.note(&Event::Moved { from: blocks(3, 4), to: 0x1000 }).is_empty());
        assert_eq!(pages.split(0x1000), None);
        assert!(pages.note(&Event::Unmapped(blocks(4, 5))).is_empty());
        assert_eq!(pages.split(4 * SIZE_2M), None);
        assert_eq!(pages.split(5 * SIZE_2M), Some(5 * SIZE_2M));
    }
}
