//! What each request gets of the outcome of a chunk that was done for several.

use crate::outcome::{Outcome, Refusal};
use crate::range::PageRange;
use crate::residency::{Place, Residency};

/// The part of `outcome` that concerns `part`. `before` is where the pages were before the chunk was done.
///
/// Exact as far as refusals go; what was there before is by a look a moment before the prefetch's own.
pub(super) fn share(outcome: &Outcome, before: &Residency, part: PageRange, to_vram: bool) -> Outcome {
    if !outcome.is_observed() {
        return Outcome::unobserved(part.len());
    }
    let refusals: Vec<Refusal> = outcome
        .refusals()
        .iter()
        .filter_map(|refusal| {
            let mut own = *refusal;
            own.range = refusal.range.intersection(part)?;
            Some(own)
        })
        .collect();
    let refused: u64 = refusals.iter().map(|refusal| refusal.range.len()).sum();
    let already = there_before(before, part, to_vram, &refusals);
    Outcome::observed(part.len() - refused - already, already, refusals)
}

/// Bytes of `part` that were at the target and were not refused.
fn there_before(before: &Residency, part: PageRange, to_vram: bool, refusals: &[Refusal]) -> u64 {
    let there = before
        .runs()
        .iter()
        .filter(|run| matches!(run.place(), Place::Device | Place::Ambiguous) == to_vram)
        .filter_map(|run| run.range().intersection(part));
    there
        .map(|range| {
            let refused = refusals.iter().filter_map(|refusal| refusal.range.intersection(range));
            range.len() - refused.map(|range| range.len()).sum::<u64>()
        })
        .sum()
}
