//! Who a device is.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A device, as far as `drm_pagemap` cares: something that can be told from other devices. The counterpart of `struct device`.
///
/// Clones are the same device.
#[doc(alias = "struct device")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dev(u64);

impl Dev {
    /// A device that equals no other.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "each call makes another device; a default suggests one value"
    )]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Debug for Dev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dev({})", self.0)
    }
}
