//! What a kernel can tell about pages.

/// What the running kernel tells. A scan never guesses what is missing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    pub(super) pagemap_scan: bool,
    pub(super) guard: bool,
}

impl Support {
    /// `PAGEMAP_SCAN` (since kernel 6.7). Without it each word of `/proc/self/pagemap` is read: some twenty times as slow
    /// for 4 KiB pages, and ten times for huge ones.
    #[must_use]
    pub const fn pagemap_scan(&self) -> bool {
        self.pagemap_scan
    }

    /// Guard regions are reported as [`Place::Guard`](super::Place::Guard). Kernels that have them and do not report them
    /// (6.13 and 6.14) show markers instead.
    #[must_use]
    pub const fn guard(&self) -> bool {
        self.guard
    }

    /// The zero page is told from other system memory.
    #[must_use]
    pub const fn zero(&self) -> bool {
        self.pagemap_scan
    }

    /// Huge entries are told from small ones.
    #[must_use]
    pub const fn huge(&self) -> bool {
        self.pagemap_scan
    }
}
