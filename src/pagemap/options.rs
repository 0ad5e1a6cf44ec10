//! How to migrate, and what came of it.

use std::time::Duration;

use super::engine::request::{Collect, Cut, Progress, Reply};
use crate::range::SIZE_2M;

/// How a range is cut into windows.
///
/// A window is one allocation of device memory, and what one CPU touch brings back. No window crosses a multiple of
/// 2 MiB or the edge of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Windows {
    /// Naturally aligned 2 MiB, 64 KiB or one page, the largest that lies within the range: what xe does
    /// (`xe_svm.c`, `fault_chunk_sizes`).
    #[default]
    Natural,
    /// Cut at multiples of this many bytes, a power of two from one page to 2 MiB (other values are moved to the nearest):
    /// what amdgpu's migration granularity does (`svm_range`, `granularity`).
    Blocks(u64),
}

/// What to do about pages that do not move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Atomicity {
    /// A window moves as a whole or not at all. The first window that does not move ends the call with an error; those
    /// before it stay where they are. What xe does.
    #[default]
    Window,
    /// The whole range moves or nothing of it does. What `drm_pagemap_migrate_to_devmem` does with the range it is given.
    /// Mappings that touch and look alike are one here, as they were before memory in them was registered.
    Range,
    /// Pages that do not move stay, and are counted as [`Migrated::refused`]. What amdgpu does.
    BestEffort,
}

/// How to migrate a range to device memory.
///
/// ```
/// use std::time::Duration;
/// use drm_pagemap::pagemap::{Atomicity, MigrateOptions, Windows};
///
/// let options = MigrateOptions::new()
///     .timeslice(Duration::from_millis(5))
///     .windows(Windows::Blocks(64 << 10))
///     .atomicity(Atomicity::Range);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrateOptions {
    pub(crate) timeslice: Duration,
    pub(crate) windows: Windows,
    pub(crate) atomicity: Atomicity,
    pub(crate) retry: bool,
}

impl Default for MigrateOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl MigrateOptions {
    /// No timeslice, natural windows, each atomic, one retry.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            timeslice: Duration::ZERO,
            windows: Windows::Natural,
            atomicity: Atomicity::Window,
            retry: true,
        }
    }

    /// How long a window stays at least before a CPU touch may take it back; the touching thread waits. Explicit
    /// migration to system memory waits too, for a second at most; eviction does not.
    #[doc(alias = "timeslice_ms")]
    #[must_use]
    pub const fn timeslice(mut self, timeslice: Duration) -> Self {
        self.timeslice = timeslice;
        self
    }

    /// How the range is cut.
    #[must_use]
    pub const fn windows(mut self, windows: Windows) -> Self {
        self.windows = windows;
        self
    }

    /// What to do about pages that do not move.
    #[must_use]
    pub const fn atomicity(mut self, atomicity: Atomicity) -> Self {
        self.atomicity = atomicity;
        self
    }

    /// Whether a window that is refused with `EBUSY` is tried once more after its pages were faulted in for writing
    /// (`MADV_POPULATE_WRITE`), which fetches them from swap and ends sharing with forked processes. On by default; xe does
    /// the like.
    #[must_use]
    pub const fn retry(mut self, retry: bool) -> Self {
        self.retry = retry;
        self
    }

    pub(crate) fn cut(&self) -> Cut {
        match self.windows {
            Windows::Natural => Cut::Natural,
            Windows::Blocks(bytes) => {
                let unit = bytes.clamp(1, SIZE_2M);
                Cut::Blocks(if unit.is_power_of_two() { unit } else { unit.next_power_of_two() >> 1 })
            }
        }
    }

    pub(crate) fn collect(&self) -> Collect {
        match self.atomicity {
            Atomicity::Window => Collect::Window,
            Atomicity::Range => Collect::Request,
            Atomicity::BestEffort => Collect::BestEffort,
        }
    }

    pub(crate) fn timeslice_ns(&self) -> u64 {
        u64::try_from(self.timeslice.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What came of a migration, in bytes of whole pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// Changed place. Includes [`holes`](Self::holes).
    pub moved: u64,
    /// Were there before.
    pub already: u64,
    /// Of those moved, pages that had never been touched: the device reads zeroes there.
    pub holes: u64,
    /// Stayed where they were ([`Atomicity::BestEffort`]).
    pub refused: u64,
}

impl Migrated {
    /// What the engine says was done, if that is what it says.
    pub(crate) fn of_reply(reply: Reply) -> Option<Self> {
        let Reply::Progress(Progress { moved, already, holes, refused, .. }) = reply else { return None };
        Some(Self { moved, already, holes, refused })
    }

    pub(crate) fn add(&mut self, progress: &Progress) {
        self.moved += progress.moved;
        self.already += progress.already;
        self.holes += progress.holes;
        self.refused += progress.refused;
    }
}
