//! Page-aligned address ranges: the unit in which every call of this crate speaks to the kernel.
//!
//! [`PageRange`] is half-open, aligned to the system's page size, and cannot wrap around the end of the address
//! space, so code that has one need not check again. Slices round *outward* with [`PageRange::covering`]; that is
//! right for calls that never change bytes (prefetch, advice, queries). [`PageRange::new`] is for exact control.

use std::fmt;
use std::sync::OnceLock;

mod chunks;

pub use chunks::{Blocks, Chunks};

/// Why two numbers are not a [`PageRange`]. Converts into [`Error`](crate::Error).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RangeError {
    /// The start, the length or the cut is not a multiple of the page size.
    Unaligned {
        /// The start, or the address of the cut.
        start: u64,
        /// The length; 0 for a cut.
        len: u64,
    },
    /// The end lies beyond the address space.
    Wraps {
        /// The start.
        start: u64,
        /// The length.
        len: u64,
    },
    /// The address of a cut lies outside the range.
    Outside {
        /// The address.
        at: u64,
        /// The range that was to be cut.
        range: PageRange,
    },
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unaligned { start, len } => {
                write!(
                    f,
                    "start {start:#x} or length {len:#x} is not a multiple of the page size {:#x}",
                    page_size()
                )
            }
            Self::Wraps { start, len } => {
                write!(f, "start {start:#x} plus length {len:#x} is beyond the address space")
            }
            Self::Outside { at, range } => write!(f, "{at:#x} lies outside {range}"),
        }
    }
}

impl std::error::Error for RangeError {}

/// 2 MiB: the largest unit in which drivers migrate, and the size of a huge page on x86-64.
pub const SIZE_2M: u64 = 2 << 20;
/// 64 KiB: the middle migration unit of xe, and the page size of VRAM that needs 64 KiB pages.
pub const SIZE_64K: u64 = 64 << 10;
/// 4 KiB: the smallest migration unit.
pub const SIZE_4K: u64 = 4 << 10;

/// The system's page size in bytes, as the kernel reports it.
#[must_use]
#[inline]
pub fn page_size() -> u64 {
    // The architecture leaves no choice there.
    if cfg!(target_arch = "x86_64") {
        return SIZE_4K;
    }
    static PAGE_SIZE: OnceLock<u64> = OnceLock::new();
    *PAGE_SIZE.get_or_init(|| rustix::param::page_size() as u64)
}

/// A half-open, page-aligned range `[start, end)` of a process's addresses, in bytes.
///
/// `start <= end`, both are multiples of [`page_size`], and the range never wraps. An empty range is legal and means
/// "nothing to do" to every call of this crate.
///
/// ```
/// use drm_pagemap::range::{page_size, PageRange};
///
/// let data = vec![0u8; 3 * page_size() as usize];
/// let range = PageRange::covering(&data);
/// assert!(range.contains(data.as_ptr() as u64));
/// assert!(range.len() >= 3 * page_size());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageRange {
    start: u64,
    end: u64,
}

impl PageRange {
    /// The range that starts at `start` and is `len` bytes long, both multiples of the page size.
    ///
    /// # Errors
    ///
    /// [`RangeError::Unaligned`] when either is not page-aligned; [`RangeError::Wraps`] when the end would lie beyond
    /// the last page. [`covering`](Self::covering) rounds instead of refusing.
    #[inline]
    pub fn new(start: u64, len: u64) -> Result<Self, RangeError> {
        let mask = page_size() - 1;
        if start & mask != 0 || len & mask != 0 {
            return Err(RangeError::Unaligned { start, len });
        }
        match start.checked_add(len) {
            Some(end) => Ok(Self { start, end }),
            None => Err(RangeError::Wraps { start, len }),
        }
    }

    /// The pages that hold any byte of `slice`: rounds outward. An empty slice gives an empty range.
    #[must_use]
    pub fn covering<T>(slice: &[T]) -> Self {
        let start = slice.as_ptr() as u64;
        let mask = page_size() - 1;
        let len = size_of_val(slice) as u64;
        if len == 0 {
            return Self { start: start & !mask, end: start & !mask };
        }
        // A slice ends at or below isize::MAX past its start, so neither sum can wrap.
        Self { start: start & !mask, end: (start + len + mask) & !mask }
    }

    /// The pages that lie wholly inside `slice`: rounds inward; empty when there is none.
    #[must_use]
    pub fn inside<T>(slice: &[T]) -> Self {
        let mask = page_size() - 1;
        let start = (slice.as_ptr() as u64 + mask) & !mask;
        let end = (slice.as_ptr() as u64 + size_of_val(slice) as u64) & !mask;
        Self { start, end: end.max(start) }
    }

    /// The pages that hold any byte of `[start, start + len)`: rounds outward.
    ///
    /// # Errors
    ///
    /// [`RangeError::Wraps`] when the rounded end would lie beyond the last page.
    pub fn rounded_out(start: u64, len: u64) -> Result<Self, RangeError> {
        let mask = page_size() - 1;
        match start.checked_add(len).and_then(|end| end.checked_add(mask)) {
            _ if len == 0 => Ok(Self { start: start & !mask, end: start & !mask }),
            Some(end) => Ok(Self { start: start & !mask, end: end & !mask }),
            None => Err(RangeError::Wraps { start, len }),
        }
    }

    /// First byte.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// One past the last byte.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Length in pages.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.len() / page_size()
    }

    /// Whether the range holds no page.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether the byte at `addr` is inside.
    #[must_use]
    pub const fn contains(&self, addr: u64) -> bool {
        self.start <= addr && addr < self.end
    }

    /// Whether every byte of `other` is inside. An empty `other` inside or at an edge counts.
    #[must_use]
    pub const fn contains_range(&self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether the two share a page.
    #[must_use]
    pub const fn overlaps(&self, other: Self) -> bool {
        self.start < other.end && other.start < self.end && !self.is_empty() && !other.is_empty()
    }

    /// The pages both have, or `None`.
    #[must_use]
    pub fn intersection(&self, other: Self) -> Option<Self> {
        self.overlaps(other)
            .then(|| Self { start: self.start.max(other.start), end: self.end.min(other.end) })
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn hull(&self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return *self;
        }
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// What is left of the range without `other`: the part below and the part above, either of which may be empty.
    #[must_use]
    pub fn without(&self, other: Self) -> (Self, Self) {
        let Some(cut) = self.intersection(other) else {
            return (*self, Self { start: self.end, end: self.end });
        };
        (Self { start: self.start, end: cut.start }, Self { start: cut.end, end: self.end })
    }

    /// The two halves at the page-aligned address `at`.
    ///
    /// # Errors
    ///
    /// [`RangeError::Unaligned`] when `at` is not page-aligned, [`RangeError::Outside`] when it is not in `[start, end]`.
    pub fn split_at(&self, at: u64) -> Result<(Self, Self), RangeError> {
        if at % page_size() != 0 {
            return Err(RangeError::Unaligned { start: at, len: 0 });
        }
        if at < self.start || at > self.end {
            return Err(RangeError::Outside { at, range: *self });
        }
        Ok((Self { start: self.start, end: at }, Self { start: at, end: self.end }))
    }

    /// The range grown outward to multiples of `unit`, or `None` when it would wrap.
    ///
    /// # Panics
    ///
    /// When `unit` is not a power of two of at least a page.
    #[must_use]
    pub fn align_outward(&self, unit: u64) -> Option<Self> {
        let mask = unit_mask(unit);
        Some(Self { start: self.start & !mask, end: self.end.checked_add(mask)? & !mask })
    }

    /// The part of the range that consists of whole multiples of `unit`; empty when there is none.
    ///
    /// # Panics
    ///
    /// When `unit` is not a power of two of at least a page.
    #[must_use]
    pub fn align_inward(&self, unit: u64) -> Self {
        let mask = unit_mask(unit);
        let end = self.end & !mask;
        match self.start.checked_add(mask) {
            Some(start) if (start & !mask) < end => Self { start: start & !mask, end },
            _ => Self { start: self.start, end: self.start },
        }
    }

    /// Cuts the range at every multiple of `unit`: all pieces but the first and last are whole units.
    ///
    /// # Panics
    ///
    /// When `unit` is not a power of two of at least a page.
    #[must_use]
    pub fn blocks(&self, unit: u64) -> Blocks {
        Blocks::new(*self, unit_mask(unit) + 1)
    }

    /// Cuts the range into naturally aligned chunks of 2 MiB, 64 KiB or one page, the largest that fits at each
    /// address: the units in which xe migrates (`xe_svm.c`, `fault_chunk_sizes`).
    #[must_use]
    pub fn chunks(&self) -> Chunks {
        Chunks::new(*self)
    }

    pub(crate) const fn from_aligned(start: u64, end: u64) -> Self {
        debug_assert!(start <= end);
        Self { start, end }
    }
}

fn unit_mask(unit: u64) -> u64 {
    assert!(
        unit.is_power_of_two() && unit >= page_size(),
        "{unit:#x} is not a power of two of at least a page"
    );
    unit - 1
}

impl fmt::Display for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}, {:#x})", self.start, self.end)
    }
}

impl fmt::Debug for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
