//! What a prefetch really did.
//!
//! Success of an ioctl is not residency: xe answers 0 when it could not move a page, and KFD swallows every failure of a
//! migration to VRAM. An [`Outcome`] is what was *observed*: where the pages were before the call and where they were
//! after it. Pages that are not where they were asked to be are listed with the cause, as far as it can be seen from
//! userspace.

use std::fmt;

use crate::location::Fallback;
use crate::range::PageRange;

mod bytes;

pub use bytes::Bytes;

/// How closely a prefetch looks at its own result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Observe {
    /// Not at all: one ioctl, no further system call. The [`Outcome`] only says that the driver raised no error.
    Nothing,
    /// One page-table scan before and one after (`PAGEMAP_SCAN`, about 4 ms per GiB of 4 KiB pages and 0.1 ms per GiB of huge
    /// pages). A page in a swap file counts as resident on a device; where the process has swapped-out memory, use
    /// [`Exactly`](Self::Exactly).
    #[default]
    Cheaply,
    /// As [`Cheaply`](Self::Cheaply), and swapped-out pages are told from device pages (`mincore` and the `Swap:` lines of
    /// `smaps`).
    Exactly,
}

/// Why a page is not where a prefetch was to put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Cause {
    /// Nothing is mapped there.
    NotMapped,
    /// The mapping is not writable, and drivers migrate what they may write only.
    NotWritable,
    /// The pages belong to a file.
    FileBacked,
    /// The memory is shared between processes (`MAP_SHARED`, also anonymous).
    Shared,
    /// The memory consists of huge pages of `hugetlbfs`.
    HugeTlb,
    /// The mapping is of a device, or otherwise special.
    Special,
    /// The device's memory is full.
    NoVram,
    /// The mapping has no room for the smallest block that the driver migrates: 64 KiB, aligned, on Ponte Vecchio.
    BelowBlockSize,
    /// Another GPU has access to the pages and no fast link to the target, so that KFD keeps them in system memory. Only without
    /// XNACK.
    NoInterconnect,
    /// The memory is movable in kind, but was held or raced: pinned by another driver or for direct I/O, or used by the CPU or
    /// changed during the call. Which of these is not visible from userspace; trying again tells, since pins last.
    PinnedOrBusy,
    /// The pages had been swapped out and were not brought back for the move.
    Swapped,
    /// Nothing more is known.
    Unknown,
}

impl Cause {
    /// Whether the same prefetch may succeed later, with nothing but time passing or other work ending.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::NoVram | Self::PinnedOrBusy | Self::Swapped | Self::Unknown)
    }

    /// The cause in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotMapped => "not mapped",
            Self::NotWritable => "not writable",
            Self::FileBacked => "file-backed",
            Self::Shared => "shared",
            Self::HugeTlb => "hugetlb",
            Self::Special => "device mapping",
            Self::NoVram => "no free VRAM",
            Self::BelowBlockSize => "smaller than the driver's block",
            Self::NoInterconnect => "shared with a GPU that has no fast link",
            Self::PinnedOrBusy => "pinned or busy",
            Self::Swapped => "swapped out",
            Self::Unknown => "unknown cause",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A part of a prefetch that did not come to be where it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Refusal {
    /// The pages.
    pub range: PageRange,
    /// Why.
    pub cause: Cause,
}

/// What a prefetch did, in bytes of whole pages.
///
/// When the result was observed, `moved + already_there + not_moved == requested`. Without observation
/// ([`Observe::Nothing`]) all three are 0 and [`is_observed`](Self::is_observed) is false.
///
/// An outcome is a look at one moment: a CPU touch, memory pressure or the kernel's own huge-page work may move pages again
/// at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "success of the call says nothing about where the pages are; the outcome does"]
pub struct Outcome {
    requested: u64,
    observed: bool,
    moved: u64,
    already_there: u64,
    refusals: Vec<Refusal>,
    fallback: Option<Fallback>,
}

impl Outcome {
    /// The outcome of a call whose result was not looked at.
    #[inline]
    pub(crate) const fn unobserved(requested: u64) -> Self {
        Self { requested, observed: false, moved: 0, already_there: 0, refusals: Vec::new(), fallback: None }
    }

    /// The outcome of a call that had nothing to do.
    pub(crate) const fn nothing() -> Self {
        Self {
            requested: 0,
            observed: true,
            moved: 0,
            already_there: 0,
            refusals: Vec::new(),
            fallback: None,
        }
    }

    pub(crate) fn observed(moved: u64, already_there: u64, refusals: Vec<Refusal>) -> Self {
        let refused: u64 = refusals.iter().map(|r| r.range.len()).sum();
        Self {
            requested: moved + already_there + refused,
            observed: true,
            moved,
            already_there,
            refusals,
            fallback: None,
        }
    }

    /// Bytes asked for: the whole pages of the range.
    #[must_use]
    pub const fn requested(&self) -> u64 {
        self.requested
    }

    /// Whether the placement was looked at.
    #[must_use]
    pub const fn is_observed(&self) -> bool {
        self.observed
    }

    /// Bytes that were elsewhere before and are at the target now.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.moved
    }

    /// Bytes that were at the target before and still are.
    #[must_use]
    pub const fn already_there(&self) -> u64 {
        self.already_there
    }

    /// Bytes that are not at the target.
    #[must_use]
    pub fn not_moved(&self) -> u64 {
        self.refusals.iter().map(|r| r.range.len()).sum()
    }

    /// The parts that are not at the target, in ascending order, with the cause of each.
    #[must_use]
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// Where the pages were to go instead of the memory of another GPU that no fast link leads to; `None` where that was not
    /// needed. Everything else in the outcome is about this place then. Never [`Fallback::Refuse`], which is an error.
    #[must_use]
    pub const fn fallback(&self) -> Option<Fallback> {
        self.fallback
    }

    pub(crate) fn fell_back(mut self, to: Fallback) -> Self {
        self.fallback = Some(to);
        self
    }

    /// Whether every byte was seen at the target. False when nobody looked.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.observed && self.refusals.is_empty()
    }

    /// Whether the same prefetch may move more later: some part was refused for a cause that passes.
    #[must_use]
    pub fn retry_useful(&self) -> bool {
        self.refusals.iter().any(|r| r.cause.is_transient())
    }

    /// The outcome of this prefetch and another together, as when a long one was made in steps. Where only one of the two was
    /// observed, the sum counts as not observed.
    pub fn merge(mut self, other: Self) -> Self {
        self.requested += other.requested;
        self.observed &= other.observed;
        self.fallback = self.fallback.or(other.fallback);
        self.moved += other.moved;
        self.already_there += other.already_there;
        for refusal in other.refusals {
            push_merged(&mut self.refusals, refusal);
        }
        self
    }
}

/// Appends, joining with the last entry where they touch and the cause is the same.
pub(crate) fn push_merged(refusals: &mut Vec<Refusal>, refusal: Refusal) {
    match refusals.last_mut() {
        Some(last) if last.cause == refusal.cause && last.range.end() == refusal.range.start() => {
            last.range = last.range.hull(refusal.range);
        }
        _ => refusals.push(refusal),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.observed {
            return write!(f, "{} requested, result not observed", Bytes(self.requested));
        }
        write!(f, "{} moved, {} already there", Bytes(self.moved), Bytes(self.already_there))?;
        let mut by_cause: Vec<(Cause, u64)> = Vec::new();
        for refusal in &self.refusals {
            match by_cause.iter_mut().find(|(cause, _)| *cause == refusal.cause) {
                Some((_, sum)) => *sum += refusal.range.len(),
                None => by_cause.push((refusal.cause, refusal.range.len())),
            }
        }
        for (cause, sum) in by_cause {
            write!(f, ", {} not moved ({cause})", Bytes(sum))?;
        }
        match self.fallback {
            Some(Fallback::OwnVram) => f.write_str(", to its own memory: no fast link to the other GPU"),
            Some(Fallback::System) => f.write_str(", to system memory: no fast link to the other GPU"),
            Some(Fallback::Refuse) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::page_size;

    fn refusal(page: u64, pages: u64, cause: Cause) -> Refusal {
        Refusal { range: PageRange::new(page * page_size(), pages * page_size()).unwrap(), cause }
    }

    #[test]
    fn the_parts_add_up() {
        let outcome = Outcome::observed(8 << 20, 4 << 20, vec![refusal(16, 2, Cause::FileBacked)]);
        assert_eq!(outcome.requested(), outcome.moved() + outcome.already_there() + outcome.not_moved());
        assert!(!outcome.is_complete() && !outcome.retry_useful());
        assert!(Outcome::observed(1, 1, vec![]).is_complete());
        assert!(Outcome::nothing().is_complete());
        assert!(!Outcome::unobserved(4096).is_complete());
    }

    #[test]
    fn people_read_sums_by_cause() {
        let refusals = vec![
            refusal(0, 1, Cause::Shared),
            refusal(8, 1, Cause::PinnedOrBusy),
            refusal(16, 1, Cause::Shared),
        ];
        let outcome = Outcome::observed(2 << 20, 0, refusals);
        assert!(outcome.retry_useful());
        let page = Bytes(page_size());
        let pages = Bytes(2 * page_size());
        assert_eq!(
            outcome.to_string(),
            format!(
                "2 MiB moved, 0 B already there, {pages} not moved (shared), {page} not moved (pinned or busy)"
            )
        );
        assert_eq!(Outcome::unobserved(1 << 20).to_string(), "1 MiB requested, result not observed");
    }

    #[test]
    fn merging_adds_and_joins_neighbours() {
        let first = Outcome::observed(4096, 0, vec![refusal(0, 1, Cause::NoVram)]);
        let second =
            Outcome::observed(0, 4096, vec![refusal(1, 2, Cause::NoVram), refusal(3, 1, Cause::Shared)]);
        let sum = first.clone().merge(second);
        assert_eq!(sum.refusals(), [refusal(0, 3, Cause::NoVram), refusal(3, 1, Cause::Shared)]);
        assert_eq!((sum.moved(), sum.already_there()), (4096, 4096));
        assert!(!first.merge(Outcome::unobserved(1)).is_observed());
    }
}
