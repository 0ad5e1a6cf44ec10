//! One run of pages that are in the same place, and the list that keeps neighbours merged.

use super::place::{Class, Place};
use crate::range::PageRange;

/// Neighbouring pages that are in the same place and mapped by entries of the same size.
///
/// Two words: ends are multiples of a page, so that their low bits can hold the rest.
#[derive(Clone, Copy)]
pub struct Run {
    start: u64,
    /// The end, the class in the bits from 1 on, and whether the entries are huge in bit 0.
    end: u64,
}

const HUGE: u64 = 1;
const CLASS_SHIFT: u32 = 1;
const LOW: u64 = (1 << 12) - 1;

impl Run {
    #[inline]
    pub(super) const fn new(start: u64, end: u64, class: Class, huge: bool) -> Self {
        debug_assert!(start < end && (start | end) & LOW == 0);
        Self { start, end: end | (class as u64) << CLASS_SHIFT | huge as u64 }
    }

    /// The addresses.
    #[must_use]
    pub const fn range(&self) -> PageRange {
        PageRange::from_aligned(self.start, self.end())
    }

    /// Where the pages are.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.class().place()
    }

    /// Whether page table entries of more than one page map the run: transparent huge pages (2 MiB on x86-64), in
    /// system memory or in VRAM (since kernel 7.0), or hugetlb pages.
    ///
    /// Always `false` where [`Support::huge`](super::Support::huge) is.
    #[must_use]
    pub const fn is_huge(&self) -> bool {
        self.end & HUGE != 0
    }

    /// Length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a run is never empty")]
    pub const fn len(&self) -> u64 {
        self.end() - self.start
    }

    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    pub(super) const fn end(&self) -> u64 {
        self.end & !LOW
    }

    pub(super) const fn class(&self) -> Class {
        Class::ALL[(self.end & LOW) as usize >> CLASS_SHIFT]
    }

    /// The part below `end`, which lies inside.
    pub(super) const fn until(self, end: u64) -> Self {
        Self::new(self.start, end, self.class(), self.is_huge())
    }

    /// The part from `start` on, which lies inside.
    pub(super) const fn since(self, start: u64) -> Self {
        Self { start, ..self }
    }

    pub(super) const fn with(self, class: Class) -> Self {
        Self::new(self.start, self.end(), class, self.is_huge())
    }

    /// Whether `next` goes on where this ends, and nothing distinguishes the two.
    const fn continues_in(&self, next: &Self) -> bool {
        self.end() == next.start && (self.end ^ next.end) & LOW == 0
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.range() == other.range() && self.place() == other.place() && self.is_huge() == other.is_huge()
    }
}

impl Eq for Run {}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{}", self.range(), self.place(), if self.is_huge() { " (huge)" } else { "" })
    }
}

/// Appends a run, joining it with the last where nothing distinguishes the two.
#[inline]
pub(super) fn push_joined(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.continues_in(&run) => last.end = run.end,
        _ => runs.push(run),
    }
}

/// Joins neighbours whose places are equal though their classes differ, in place.
pub(super) fn join_by_place(runs: &mut Vec<Run>) {
    runs.dedup_by(|next, kept| {
        let same =
            kept.end() == next.start && kept.place() == next.place() && kept.is_huge() == next.is_huge();
        if same {
            *kept = Run::new(kept.start, next.end(), kept.class(), kept.is_huge());
        }
        same
    });
}
