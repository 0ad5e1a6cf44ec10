//! Room that a prefetch under way has been promised.

use std::ops::Deref;

use super::Budget;
use crate::outcome::Outcome;
use crate::range::PageRange;

/// How much of a range may be prefetched.
#[derive(Debug)]
pub(crate) struct Admission<B: Deref<Target = Budget>> {
    /// The part that may.
    pub(crate) allowed: PageRange,
    /// The part that may not, for lack of room; follows the other.
    pub(crate) refused: PageRange,
    /// Promises the room for as long as it lives.
    pub(crate) claim: Claim<B>,
}

/// Room in a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Claim<B: Deref<Target = Budget>> {
    budget: B,
    id: u64,
}

impl<B: Deref<Target = Budget>> Claim<B> {
    pub(super) fn new(budget: B, id: u64) -> Self {
        Self { budget, id }
    }

    /// Enters as placed what a prefetch of `range` has placed.
    pub(crate) fn placed(&self, range: PageRange, outcome: &Outcome) {
        self.budget.note(range, outcome);
    }
}

impl<B: Deref<Target = Budget>> Drop for Claim<B> {
    fn drop(&mut self) {
        self.budget.release(self.id);
    }
}
