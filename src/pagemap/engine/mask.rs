//! A set of the pages of one window: at most 2 MiB of 4 KiB pages.

use std::ops::Range;

/// Pages a window can have.
pub(crate) const MAX_PAGES: u32 = 512;

const WORDS: usize = (MAX_PAGES / 64) as usize;

/// A set of page numbers below [`MAX_PAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mask([u64; WORDS]);

impl Mask {
    pub(super) const EMPTY: Self = Self([0; WORDS]);

    /// Pages `0..pages`.
    pub(super) fn first(pages: u32) -> Self {
        let mut mask = Self::EMPTY;
        mask.set(0..pages);
        mask
    }

    pub(crate) fn get(&self, page: u32) -> bool {
        page < MAX_PAGES && self.0[(page / 64) as usize] >> (page % 64) & 1 == 1
    }

    pub(super) fn set(&mut self, pages: Range<u32>) {
        words(pages).for_each(|(word, bits)| self.0[word] |= bits);
    }

    pub(super) fn clear(&mut self, pages: Range<u32>) {
        words(pages).for_each(|(word, bits)| self.0[word] &= !bits);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Puts the set at the start of `bytes`.
    pub(super) fn store(&self, bytes: &mut [u8]) {
        bytes[..size_of::<Self>()].copy_from_slice(bytemuck::bytes_of(&self.0));
    }

    /// Takes a set from the start of `bytes`.
    pub(crate) fn load(bytes: &[u8]) -> Self {
        Self(bytemuck::pod_read_unaligned(&bytes[..size_of::<Self>()]))
    }

    /// The members of `pages`, renumbered from zero.
    pub(super) fn cut(&self, pages: Range<u32>) -> Self {
        let mut part = Self::EMPTY;
        let mut at = pages.start;
        while let Some(run) = self.next_run(at, pages.end) {
            part.set(run.start - pages.start..run.end - pages.start);
            at = run.end;
        }
        part
    }

    /// The members of both.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }

    /// The members, each `by` pages higher.
    pub(super) fn moved_up(&self, by: u32) -> Self {
        let mut moved = Self::EMPTY;
        let mut at = 0;
        while let Some(run) = self.next_run(at, MAX_PAGES - by) {
            moved.set(run.start + by..run.end + by);
            at = run.end;
        }
        moved
    }

    /// The first run of members in `from..end`.
    pub(super) fn next_run(&self, from: u32, end: u32) -> Option<Range<u32>> {
        let start = self.seek(from, end, 0)?;
        let stop = self.seek(start, end, u64::MAX).unwrap_or(end);
        Some(start..stop)
    }

    /// How many of `pages` are members.
    pub(super) fn count_in(&self, pages: Range<u32>) -> u32 {
        words(pages).map(|(word, bits)| (self.0[word] & bits).count_ones()).sum()
    }

    /// First page in `from..end` that is a member (`flip` 0) or is not (`flip` all ones).
    fn seek(&self, from: u32, end: u32, flip: u64) -> Option<u32> {
        let end = end.min(MAX_PAGES);
        let mut at = from;
        while at < end {
            let word = (self.0[(at / 64) as usize] ^ flip) >> (at % 64);
            if word != 0 {
                let found = at + word.trailing_zeros();
                return (found < end).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

/// The words that `pages` touches, each with the bits it covers there.
fn words(pages: Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    let end = pages.end.min(MAX_PAGES);
    let first = pages.start / 64;
    let last = end.div_ceil(64).max(first);
    (first..last).map(move |word| {
        let low = pages.start.saturating_sub(word * 64).min(64);
        let high = (end - word * 64).min(64);
        let bits = if high <= low { 0 } else { (u64::MAX >> (64 - (high - low))) << low };
        (word as usize, bits)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(mask: &Mask) -> Vec<u32> {
        (0..MAX_PAGES).filter(|&page| mask.get(page)).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_a_vector_of_bools(ops in prop::collection::vec((any::<bool>(), 0u32..=512, 0u32..=512), 0..12), cut in (0u32..=512, 0u32..=512)) {
            let mut mask = Mask::EMPTY;
            let mut model = vec![false; 512];
            for (set, a, b) in ops {
                let range = a.min(b)..a.max(b);
                if set { mask.set(range.clone()) } else { mask.clear(range.clone()) }
                range.for_each(|page| model[page as usize] = set);
            }
            let expected: Vec<u32> = (0..512).filter(|&p| model[p as usize]).collect();
            prop_assert_eq!(members(&mask), expected.clone());
            prop_assert_eq!(mask.count() as usize, expected.len());
            prop_assert_eq!(mask.is_empty(), expected.is_empty());
            let window = cut.0.min(cut.1)..cut.0.max(cut.1);
            let inside: Vec<u32> = expected.iter().copied().filter(|p| window.contains(p)).collect();
            prop_assert_eq!(mask.count_in(window.clone()) as usize, inside.len());
            let mut from_runs = Vec::new();
            let mut at = window.start;
            while let Some(run) = mask.next_run(at, window.end) {
                prop_assert!(run.start < run.end);
                at = run.end;
                from_runs.extend(run);
            }
            prop_assert_eq!(&from_runs, &inside);
            let shifted: Vec<u32> = inside.iter().map(|p| p - window.start).collect();
            prop_assert_eq!(members(&mask.cut(window)), shifted);
        }
    }

    #[test]
    fn the_first_pages() {
        assert!(Mask::first(0).is_empty());
        assert_eq!(Mask::first(512).count(), 512);
        assert_eq!(members(&Mask::first(65)), (0..65).collect::<Vec<_>>());
    }
}
