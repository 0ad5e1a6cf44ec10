//! One run of pages that are in the same place, and the list that keeps neighbours merged.

use super::place::{Class, Place};
use crate::range::PageRange;

/// Neighbouring pages that are in the same place and mapped by entries of the same size.
#[derive(Clone, Copy)]
pub struct Run {
    start: u64,
    end: u64,
    pub(super) class: Class,
    huge: bool,
}

impl Run {
    pub(super) const fn new(start: u64, end: u64, class: Class, huge: bool) -> Self {
        debug_assert!(start < end);
        Self { start, end, class, huge }
    }

    /// The addresses.
    #[must_use]
    pub const fn range(&self) -> PageRange {
        PageRange::from_aligned(self.start, self.end)
    }

    /// Where the pages are.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.class.place()
    }

    /// Whether page table entries of more than one page map the run: transparent huge pages (2 MiB on x86-64), in
    /// system memory or in VRAM (since kernel 7.0), or hugetlb pages.
    ///
    /// Always `false` where [`Support::huge`](super::Support::huge) is.
    #[must_use]
    pub const fn is_huge(&self) -> bool {
        self.huge
    }

    /// Length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a run is never empty")]
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// The part below `end`, which lies inside.
    pub(super) const fn until(self, end: u64) -> Self {
        Self::new(self.start, end, self.class, self.huge)
    }

    /// The part from `start` on, which lies inside.
    pub(super) const fn since(self, start: u64) -> Self {
        Self::new(start, self.end, self.class, self.huge)
    }

    pub(super) const fn with(self, class: Class) -> Self {
        Self { class, ..self }
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        (self.start, self.end, self.place(), self.huge) == (other.start, other.end, other.place(), other.huge)
    }
}

impl Eq for Run {}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{}", self.range(), self.place(), if self.huge { " (huge)" } else { "" })
    }
}

/// Appends a run, joining it with the last where nothing distinguishes the two.
#[inline]
pub(super) fn push_joined(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.end == run.start && last.class == run.class && last.huge == run.huge => {
            last.end = run.end;
        }
        _ => runs.push(run),
    }
}

/// Joins neighbours whose places are equal though their classes differ, in place.
pub(super) fn join_by_place(runs: &mut Vec<Run>) {
    runs.dedup_by(|next, kept| {
        let same = kept.end == next.start && kept.place() == next.place() && kept.huge == next.huge;
        if same {
            kept.end = next.end;
        }
        same
    });
}
