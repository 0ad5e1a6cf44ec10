//! Failures on demand, for tests of what is built on the engine.

use std::time::Duration;

/// When an injected failure strikes.
///
/// ```
/// use drm_pagemap::pagemap::Trigger;
///
/// let mut third = Trigger::nth(3);
/// assert_eq!([third.strikes(), third.strikes(), third.strikes(), third.strikes()], [false, false, true, false]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trigger {
    skip: u32,
    times: u32,
}

impl Trigger {
    /// Never.
    pub const NEVER: Self = Self { skip: 0, times: 0 };
    /// The next time only.
    pub const ONCE: Self = Self { skip: 0, times: 1 };
    /// Every time.
    pub const ALWAYS: Self = Self { skip: 0, times: u32::MAX };

    /// The `n`th time from now only; the next time is 1. Never for 0.
    #[must_use]
    pub const fn nth(n: u32) -> Self {
        match n.checked_sub(1) {
            Some(skip) => Self { skip, times: 1 },
            None => Self::NEVER,
        }
    }

    /// The next `n` times.
    #[must_use]
    pub const fn times(n: u32) -> Self {
        Self { skip: 0, times: n }
    }

    /// Counts one occasion, and tells whether the failure strikes.
    pub fn strikes(&mut self) -> bool {
        if self.times == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.times != u32::MAX {
            self.times -= 1;
        }
        true
    }
}

/// Failures to be injected into one VRAM region. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Injection {
    /// An allocation of device memory fails although there is room: `ENOSPC`, without eviction.
    pub allocation: Trigger,
    /// A page on its way in cannot be moved, as if it were pinned: `EBUSY`.
    pub pinned: Trigger,
    /// Which page of the window [`pinned`](Self::pinned) strikes at.
    pub pinned_page: u32,
    /// A window on its way out cannot be moved: `ENOMEM`.
    pub way_out: Trigger,
    /// How long the engine dwells between registering a window and moving its pages in, and before a window goes out. Everything
    /// else waits meanwhile.
    pub delay: Duration,
}

impl Injection {
    /// No failures.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Replaces [`allocation`](Self::allocation).
    #[must_use]
    pub fn allocation(mut self, trigger: Trigger) -> Self {
        self.allocation = trigger;
        self
    }

    /// Replaces [`pinned`](Self::pinned) and [`pinned_page`](Self::pinned_page).
    #[must_use]
    pub fn pinned(mut self, trigger: Trigger, page: u32) -> Self {
        self.pinned = trigger;
        self.pinned_page = page;
        self
    }

    /// Replaces [`way_out`](Self::way_out).
    #[must_use]
    pub fn way_out(mut self, trigger: Trigger) -> Self {
        self.way_out = trigger;
        self
    }

    /// Replaces [`delay`](Self::delay).
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}
