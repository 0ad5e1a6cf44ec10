//! What a scan found.

use std::fmt;
use std::ops::RangeInclusive;

use super::place::{Class, Place};
use super::run::Run;
use super::summary::{Composition, Summary};
use crate::range::{PageRange, page_size};

/// Where the pages of a range were when they were looked at: runs that tile the range, in ascending order.
///
/// An answer is a photograph. Nothing holds the pages where they are; the next access of the CPU or the GPU may move them,
/// as the kernel says of its own scan (`drm_gpusvm_scan_mm`).
///
/// Made by [`of`](super::of), [`of_range`](super::of_range) and [`Scanner::scan`](super::Scanner::scan). For repeated
/// scans one `Residency` is reused, and keeps its memory. Pictures: [`bar`](Self::bar), [`to_svg`](Self::to_svg), and
/// `Display`.
#[derive(Clone, Default)]
pub struct Residency {
    pub(super) range: Option<PageRange>,
    pub(super) runs: Vec<Run>,
    pub(super) ambiguities: Vec<Ambiguity>,
}

/// A mapping in which VRAM and swap cache cannot be told apart page by page, and what is known nevertheless.
///
/// `smaps` counts the true swap slots of a whole mapping, so the number of device pages in it is known even where
/// the single page is not. Counts are exact when start and end of the interval are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguity {
    pub(super) vma: PageRange,
    pub(super) ambiguous: u64,
    pub(super) in_vma: (u64, u64),
    pub(super) in_range: (u64, u64),
}

impl Ambiguity {
    /// The whole mapping, which may be larger than what was scanned.
    #[must_use]
    pub const fn vma(&self) -> PageRange {
        self.vma
    }

    /// Bytes of the scanned range that are [`Place::Ambiguous`] in this mapping.
    #[must_use]
    pub const fn ambiguous_bytes(&self) -> u64 {
        self.ambiguous
    }

    /// Bytes of the whole mapping that are in VRAM, from least to most.
    #[must_use]
    pub const fn device_bytes_in_vma(&self) -> RangeInclusive<u64> {
        self.in_vma.0..=self.in_vma.1
    }

    /// How many of the [`ambiguous_bytes`](Self::ambiguous_bytes) are in VRAM, from least to most.
    #[must_use]
    pub const fn device_bytes(&self) -> RangeInclusive<u64> {
        self.in_range.0..=self.in_range.1
    }
}

impl Residency {
    /// An empty answer, to be filled by [`Scanner::scan`](super::Scanner::scan).
    #[must_use]
    pub const fn new() -> Self {
        Self { range: None, runs: Vec::new(), ambiguities: Vec::new() }
    }

    /// What was scanned; `None` before the first scan and after a scan that failed.
    #[must_use]
    pub const fn range(&self) -> Option<PageRange> {
        self.range
    }

    /// The runs, in ascending order, without gaps; no two neighbours have the same place and entry size.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Mappings in which some pages are [`Place::Ambiguous`] although their number is known.
    #[must_use]
    pub fn ambiguities(&self) -> &[Ambiguity] {
        &self.ambiguities
    }

    /// The run that holds the byte at `addr`, or `None` outside of what was scanned.
    #[must_use]
    pub fn run_at(&self, addr: u64) -> Option<&Run> {
        let index = self.runs.partition_point(|run| run.end() <= addr);
        self.runs.get(index).filter(|run| run.start() <= addr)
    }

    /// Where the page is that holds the byte at `addr`, or `None` outside of what was scanned.
    #[must_use]
    pub fn place_at(&self, addr: u64) -> Option<Place> {
        self.run_at(addr).map(Run::place)
    }

    /// The place of each page in turn, one item per page of the system's page size.
    pub fn pages(&self) -> impl Iterator<Item = Place> + '_ {
        let page = page_size();
        self.runs.iter().flat_map(move |run| (0..run.len() / page).map(move |_| run.place()))
    }

    /// The runs that are in `place`.
    pub fn runs_in(&self, place: Place) -> impl Iterator<Item = &Run> + '_ {
        self.runs.iter().filter(move |run| run.place() == place)
    }

    /// Bytes per place. Walks the runs; keep the answer.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary::of(&self.runs, || self.bounds_of_ambiguity())
    }

    /// What the range is made of, in one word.
    #[must_use]
    pub fn composition(&self) -> Composition {
        self.summary().composition()
    }

    /// Forgets what was found and keeps the memory.
    pub fn clear(&mut self) {
        self.range = None;
        self.runs.clear();
        self.ambiguities.clear();
    }

    /// A number that two scans share when they found the same.
    pub(super) fn fingerprint(&self) -> u64 {
        // FNV-1a over words: two photographs are compared, nobody chooses the input.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        for run in &self.runs {
            mix(run.start());
            mix(run.end() << 8 | (run.place() as u64) << 1 | u64::from(run.is_huge()));
        }
        for ambiguity in &self.ambiguities {
            mix(ambiguity.in_vma.0);
            mix(ambiguity.in_vma.1);
        }
        hash
    }

    fn bounds_of_ambiguity(&self) -> (u64, u64) {
        let page_by_page = self.runs_in(Place::Ambiguous).map(Run::len).sum::<u64>();
        let counted = self.ambiguities.iter().map(|a| a.ambiguous).sum::<u64>();
        let least = self.ambiguities.iter().map(|a| a.in_range.0).sum();
        let most = self.ambiguities.iter().map(|a| a.in_range.1).sum::<u64>();
        (least, most + page_by_page.saturating_sub(counted))
    }

    pub(super) fn has_class(&self, class: Class) -> bool {
        self.runs.iter().any(|run| run.class() == class)
    }
}

impl fmt::Debug for Residency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Residency")
            .field("range", &self.range)
            .field("runs", &self.runs)
            .field("ambiguities", &self.ambiguities)
            .finish()
    }
}
