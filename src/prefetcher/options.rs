//! What a request can say.

use std::ops::ControlFlow;

/// Which request is worked on first: the higher one; among equals, the older one.
///
/// ```
/// use drm_pagemap::prefetcher::Priority;
///
/// assert!(Priority::HIGH > Priority::default() && Priority::LOW < Priority::new(-5));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i8);

impl Priority {
    /// After everything else.
    pub const LOW: Self = Self(i8::MIN);
    /// 0, the default.
    pub const NORMAL: Self = Self(0);
    /// Before everything else: what a kernel that is about to start waits for.
    pub const HIGH: Self = Self(i8::MAX);

    /// Any level between.
    #[must_use]
    pub const fn new(level: i8) -> Self {
        Self(level)
    }

    /// The level.
    #[must_use]
    pub const fn level(self) -> i8 {
        self.0
    }
}

/// What is done to system memory before it is moved. Never changes a byte.
///
/// Only private, anonymous, writable memory is prepared, and pages in VRAM are left where they are. Preparing is best effort: what
/// could not be prepared is counted in [`Stats::unprepared`](super::Stats::unprepared) and prefetched all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Prepare {
    /// Nothing. Right for VRAM as a target, mostly: drivers make pages that were never touched in VRAM directly.
    #[default]
    Nothing,
    /// Pages that were never touched are made now (`MADV_POPULATE_WRITE`, since kernel 5.14), so that the CPU does not fault on
    /// them later. For system memory as a target: KFD with XNACK makes no pages there.
    #[doc(alias = "MADV_POPULATE_WRITE")]
    Populate,
    /// Whole aligned blocks of 2 MiB become huge pages, which migrate as one piece several times as fast: they are advised to
    /// (`MADV_HUGEPAGE`), made where never touched, and collapsed where small pages are there already (`MADV_COLLAPSE`, since
    /// kernel 6.1; copies them once).
    ///
    /// The advice stays with the memory. Where less than a block then moves to VRAM, the kernel may pull it back to make the
    /// block huge again; use it for memory that is prefetched in whole blocks.
    #[doc(alias = "MADV_HUGEPAGE")]
    #[doc(alias = "MADV_COLLAPSE")]
    HugePages,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes done with, whatever came of them.
    pub done: u64,
    /// Bytes of the whole request.
    pub total: u64,
    /// Of those done with, bytes that were seen to have moved; 0 without observation.
    pub moved: u64,
}

/// Hears of progress after each chunk, and stops the request with [`ControlFlow::Break`].
pub(super) type OnProgress = Box<dyn FnMut(Progress) -> ControlFlow<()> + Send>;

/// What a prefetcher has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests that were taken on.
    pub requests: u64,
    /// Requests that were done together with a neighbour's instead of on their own.
    pub coalesced: u64,
    /// Prefetches made, each of one chunk.
    pub chunks: u64,
    /// Bytes that were to be prepared ([`Prepare`]) and could not be.
    pub unprepared: u64,
}
