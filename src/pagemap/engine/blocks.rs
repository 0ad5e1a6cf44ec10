//! Which pages of a VRAM region are free.

use super::arena::ArenaVec;
use super::mask::{MAX_PAGES, Mask};
use crate::error::Errno;

#[derive(Clone, Copy, Debug)]
struct Block {
    taken: Mask,
    free: u32,
    /// Small pages have been here.
    used: bool,
}

/// Free pages by blocks of 2 MiB. An allocation is contiguous and lies within one block, so that a huge page can move
/// into it whole.
#[derive(Debug)]
pub(super) struct Blocks {
    blocks: ArenaVec<Block>,
    per_block: u32,
    free: u64,
}

impl Blocks {
    /// `pages` free pages, in blocks of `per_block`.
    pub(super) fn new(pages: u32, per_block: u32) -> Result<Self, Errno> {
        debug_assert!(per_block.is_power_of_two() && per_block <= MAX_PAGES);
        let mut blocks = ArenaVec::new();
        blocks.reserve(pages.div_ceil(per_block) as usize)?;
        let mut left = pages;
        while left > 0 {
            let free = left.min(per_block);
            let mut taken = Mask::first(MAX_PAGES);
            taken.clear(0..free);
            blocks.push(Block { taken, free, used: false })?;
            left -= free;
        }
        Ok(Self { blocks, per_block, free: u64::from(pages) })
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// Takes `pages` pages and tells the first, or `None` when no gap is large enough.
    ///
    /// Whole blocks come from the top, those that small pages have never been in first, and the rest from the bottom, so that small allocations leave whole blocks alone.
    pub(super) fn take(&mut self, pages: u32) -> Option<u32> {
        if pages == 0 || pages > self.per_block || self.free < u64::from(pages) {
            return None;
        }
        if pages == self.per_block {
            let free = |block: &Block| block.free == pages;
            let unused = self.blocks.iter().rposition(|block| free(block) && !block.used);
            let block = unused.or_else(|| self.blocks.iter().rposition(free))?;
            return Some(self.mark(block, 0, pages));
        }
        // A page number as aligned as the size allows.
        let align = 1 << pages.trailing_zeros();
        for block in 0..self.blocks.len() {
            if self.blocks[block].free < pages {
                continue;
            }
            let taken = &self.blocks[block].taken;
            let fits = (0..=self.per_block - pages)
                .step_by(align)
                .find(|&at| !taken.get(at) && taken.count_in(at..at + pages) == 0);
            if let Some(at) = fits {
                return Some(self.mark(block, at, pages));
            }
        }
        None
    }

    /// Gives pages back.
    pub(super) fn give(&mut self, first: u32, pages: u32) {
        let at = first % self.per_block;
        let block = &mut self.blocks[(first / self.per_block) as usize];
        debug_assert_eq!(block.taken.count_in(at..at + pages), pages, "pages given back that were not taken");
        block.taken.clear(at..at + pages);
        block.free += pages;
        self.free += u64::from(pages);
    }

    /// Whether small pages have been in the block of page `first`, and so their page tables still are.
    pub(super) fn is_used(&self, first: u32) -> bool {
        self.blocks[(first / self.per_block) as usize].used
    }

    pub(super) fn set_used(&mut self, first: u32, used: bool) {
        self.blocks[(first / self.per_block) as usize].used = used;
    }

    fn mark(&mut self, block: usize, at: u32, pages: u32) -> u32 {
        self.blocks[block].taken.set(at..at + pages);
        self.blocks[block].free -= pages;
        self.free -= u64::from(pages);
        block as u32 * self.per_block + at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_gives_a_page_twice(sizes in prop::collection::vec((1u32..=512, any::<bool>()), 1..60), pages in 0u32..3000) {
            let mut blocks = Blocks::new(pages, 512).unwrap();
            let mut owner = vec![false; pages as usize];
            let mut held: Vec<(u32, u32)> = Vec::new();
            for (size, give) in sizes {
                if give && !held.is_empty() {
                    let (first, size) = held.swap_remove(size as usize % held.len());
                    (first..first + size).for_each(|page| owner[page as usize] = false);
                    blocks.give(first, size);
                } else if let Some(first) = blocks.take(size) {
                    prop_assert!(first + size <= pages);
                    prop_assert_eq!(first / 512, (first + size - 1) / 512);
                    prop_assert_eq!(first % (1 << size.trailing_zeros()), 0);
                    for page in first..first + size {
                        prop_assert!(!std::mem::replace(&mut owner[page as usize], true));
                    }
                    held.push((first, size));
                }
                prop_assert_eq!(blocks.free() as usize, owner.iter().filter(|&&taken| !taken).count());
            }
        }
    }

    #[test]
    fn an_empty_pool_is_one_gap_per_block_and_a_full_one_none() {
        let mut blocks = Blocks::new(1024, 512).unwrap();
        assert_eq!(blocks.take(1), Some(0));
        assert_eq!(blocks.take(512), Some(512));
        assert_eq!(blocks.take(512), None);
        assert_eq!(blocks.take(16), Some(16));
        assert_eq!(blocks.take(513), None);
        assert_eq!(blocks.take(0), None);
        assert_eq!(blocks.take(256), Some(256));
    }
}
