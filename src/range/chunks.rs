//! Iterators that cut a range into pieces.

use std::iter::FusedIterator;

use super::{PageRange, SIZE_2M, SIZE_64K, page_size};

/// Pieces of a range cut at multiples of a unit; made by [`PageRange::blocks`].
#[derive(Clone, Debug)]
pub struct Blocks {
    rest: PageRange,
    unit: u64,
}

impl Blocks {
    pub(super) fn new(range: PageRange, unit: u64) -> Self {
        Self { rest: range, unit }
    }
}

impl Iterator for Blocks {
    type Item = PageRange;

    fn next(&mut self) -> Option<PageRange> {
        take_front(&mut self.rest, |start| start & !(self.unit - 1), self.unit)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.rest.is_empty() {
            return (0, Some(0));
        }
        let first = self.rest.start() / self.unit;
        let last = (self.rest.end() - 1) / self.unit;
        let count = (last - first + 1) as usize;
        (count, Some(count))
    }
}

impl ExactSizeIterator for Blocks {}
impl FusedIterator for Blocks {}

/// Naturally aligned chunks of 2 MiB, 64 KiB or one page; made by [`PageRange::chunks`].
#[derive(Clone, Debug)]
pub struct Chunks {
    rest: PageRange,
}

impl Chunks {
    pub(super) fn new(range: PageRange) -> Self {
        Self { rest: range }
    }
}

impl Iterator for Chunks {
    type Item = PageRange;

    fn next(&mut self) -> Option<PageRange> {
        let start = self.rest.start();
        let size = [SIZE_2M, SIZE_64K]
            .into_iter()
            .find(|&size| size >= page_size() && start % size == 0 && self.rest.len() >= size)
            .unwrap_or_else(page_size);
        take_front(&mut self.rest, |start| start, size)
    }
}

impl FusedIterator for Chunks {}

fn take_front(rest: &mut PageRange, base: impl Fn(u64) -> u64, size: u64) -> Option<PageRange> {
    if rest.is_empty() {
        return None;
    }
    let cut = base(rest.start()).saturating_add(size).min(rest.end());
    let front = PageRange::from_aligned(rest.start(), cut);
    *rest = PageRange::from_aligned(cut, rest.end());
    Some(front)
}
