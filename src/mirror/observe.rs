//! Looking at the pages before and after a prefetch, and trying once more what stayed behind.

use crate::error::{Errno, Error, ErrorKind, Result};
use crate::outcome::{Observe, Outcome, push_merged};
use crate::populate;
use crate::range::{PageRange, SIZE_2M};
use crate::residency::{Depth, Place, Residency, Scanner};
use crate::vma::VmaMap;

use super::obstacles::Obstacles;
use super::refusal::classify;
use super::space::{Space, Target};

/// Blocks in a row that do not move at all before the rest is given up: where VRAM is full, no later block will move either, and
/// each attempt costs the driver an eviction search.
const FRUITLESS_BLOCKS: u32 = 8;

/// Passes over what is missing, and up to how much of it, as long as each changes what that is: where the memory of earlier
/// evictions is still being released, a block that comes in can push out another one of the same range (seen with xe 6.18).
const PASSES: u32 = 4;
const FEW: u64 = 8 * SIZE_2M;

/// Buffers for observed prefetches, kept between calls so that repeated ones allocate nothing.
#[derive(Debug)]
pub(super) struct Scratch {
    scanner: Scanner,
    before: Residency,
    after: Residency,
    missing: Vec<PageRange>,
    missing_before: Vec<PageRange>,
    vmas: VmaMap,
}

/// What a comparison of two scans found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    moved: u64,
    already: u64,
}

impl Scratch {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            scanner: Scanner::new()?,
            before: Residency::new(),
            after: Residency::new(),
            missing: Vec::new(),
            missing_before: Vec::new(),
            vmas: VmaMap::new(),
        })
    }

    pub(super) fn prefetch(
        &mut self,
        space: &Space,
        range: PageRange,
        target: Target,
        observe: Observe,
    ) -> Result<Outcome> {
        self.scanner.set_depth(if observe == Observe::Exactly { Depth::Exact } else { Depth::Cheap });
        space.check_for_resets(range)?;
        self.scanner.scan(range, &mut self.before)?;
        let mut by_mapping = false;
        match space.prefetch(range, target) {
            Ok(()) => {}
            Err(error) if stops_at_one_mapping(&error) => {
                by_mapping = true;
                self.prefetch_by_mapping(space, range, target)?;
            }
            // What moved nevertheless shows in the second look. xe: also when the range does not fit in VRAM and its end evicts its
            // beginning.
            Err(error) if target.is_vram() && lost_a_race(&error) => {}
            Err(error) => return Err(error),
        }
        let mut tally = self.look(range, target)?;
        if !self.missing.is_empty() {
            if target.is_vram() {
                for _ in 0..PASSES {
                    self.missing_before.clone_from(&self.missing);
                    if !self.prefetch_leftovers(space, range, by_mapping, target)? {
                        break;
                    }
                    tally = self.look(range, target)?;
                    let bytes: u64 = self.missing.iter().map(|range| range.len()).sum();
                    if bytes == 0 || bytes > FEW || self.missing == self.missing_before {
                        break;
                    }
                }
            } else if self.touch_leftovers() {
                tally = self.look(range, target)?;
            }
        }
        // Pages whose copy a reset has interrupted are where they should be, without their contents.
        space.check_alive(range)?;
        if self.missing.is_empty() {
            return Ok(Outcome::observed(tally.moved, tally.already, Vec::new()));
        }
        self.vmas.read(range)?;
        let movable = self.movable_missing();
        let obstacles = Obstacles::of(space, target, &self.missing, movable, tally.moved + tally.already);
        let mut refusals = Vec::new();
        for &missing in &self.missing {
            classify(missing, &self.vmas, &self.after, target, obstacles, |refusal| {
                push_merged(&mut refusals, refusal);
            });
        }
        Ok(Outcome::observed(tally.moved, tally.already, refusals))
    }

    /// One call for each mapping that can move, for drivers that refuse a whole range for one mapping that cannot.
    fn prefetch_by_mapping(&mut self, space: &Space, range: PageRange, target: Target) -> Result<()> {
        self.vmas.read(range)?;
        for vma in self.vmas.within(range) {
            if !vma.is_movable() {
                continue;
            }
            let Some(part) = vma.range().intersection(range) else { continue };
            match space.prefetch(part, target) {
                // The mapping changed since it was read, or its pages did: what became of it shows in the second look.
                Err(error) if stops_at_one_mapping(&error) || lost_a_race(&error) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Bytes that are missing although their mappings are of a kind that moves. Uses the mappings that were read last.
    fn movable_missing(&self) -> u64 {
        let parts = self.missing.iter().flat_map(|&missing| {
            let movable = self.vmas.within(missing).filter(|vma| vma.is_movable());
            movable.filter_map(move |vma| vma.range().intersection(missing))
        });
        parts.map(|part| part.len()).sum()
    }

    /// Tries again, in blocks, where movable memory of `range` is missing, which came in one call or in one for each mapping.
    /// Says whether any call was made.
    fn prefetch_leftovers(
        &mut self,
        space: &Space,
        range: PageRange,
        by_mapping: bool,
        target: Target,
    ) -> Result<bool> {
        let Some(hull) = self.missing.iter().copied().reduce(|a, b| a.hull(b)) else { return Ok(false) };
        self.vmas.read(hull)?;
        let unit = space.retried_blocks();
        let (mut tried_to, mut fruitless) = (0, 0);
        for &missing in &self.missing {
            for vma in self.vmas.within(missing) {
                if !vma.is_movable() {
                    continue;
                }
                let Some(part) = vma.range().intersection(missing) else { continue };
                let called = if by_mapping { vma.range().intersection(range).unwrap_or(part) } else { range };
                for block in part.blocks(unit) {
                    let block = match space {
                        Space::Xe { .. } => block,
                        Space::Kfd { .. } => whole_block(block, unit, called),
                    };
                    if block.start() < tried_to {
                        continue;
                    }
                    if fruitless == FRUITLESS_BLOCKS {
                        return Ok(tried_to > 0);
                    }
                    tried_to = block.end();
                    match space.prefetch(block, target) {
                        Err(error) if stops_at_one_mapping(&error) => continue,
                        Err(error) if lost_a_race(&error) => {}
                        other => other?,
                    }
                    self.scanner.scan(block, &mut self.after)?;
                    let mut there = self.after.runs().iter().filter(|run| in_vram(run.place()));
                    let moved = there.any(|run| meets(&self.missing, run.range()));
                    fruitless = if moved { 0 } else { fruitless + 1 };
                }
            }
        }
        Ok(tried_to > 0)
    }

    /// Brings pages back as a CPU touch would, where the driver left them in VRAM: xe 6.18 does so with pages that another of
    /// its VMs migrated. Says whether any page was touched.
    fn touch_leftovers(&self) -> bool {
        // What cannot be brought back shows in the next look.
        self.missing.iter().filter(|&&missing| populate::read(missing).is_ok()).count() > 0
    }

    /// Scans again and compares; fills `missing`.
    fn look(&mut self, range: PageRange, target: Target) -> Result<Tally> {
        self.scanner.scan(range, &mut self.after)?;
        self.missing.clear();
        Ok(compare(&self.before, &self.after, target, &mut self.missing))
    }
}

/// All of the block that `part` lies in, as far as the call reached.
fn whole_block(part: PageRange, unit: u64, called: PageRange) -> PageRange {
    part.align_outward(unit).and_then(|whole| whole.intersection(called)).unwrap_or(part)
}

/// Whether any of these ranges, which ascend, has a page in common with another one.
fn meets(ascending: &[PageRange], other: PageRange) -> bool {
    let next = ascending.partition_point(|range| range.end() <= other.start());
    ascending.get(next).is_some_and(|range| range.start() < other.end())
}

/// Whether a driver refused the whole range because of one mapping in it.
fn stops_at_one_mapping(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::MemoryKind | ErrorKind::NotMapped)
}

/// Whether the driver gave up because the pages kept changing under it: other threads write to them.
fn lost_a_race(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EAGAIN | Errno::EBUSY))
}

/// Whether a page counts as resident on a device. A cheap scan does not tell swapped pages from device pages; the
/// documentation of [`Observe::Cheaply`] says so.
fn in_vram(place: Place) -> bool {
    matches!(place, Place::Device | Place::Ambiguous)
}

/// Walks two scans of the same range side by side.
fn compare(before: &Residency, after: &Residency, target: Target, missing: &mut Vec<PageRange>) -> Tally {
    let mut tally = Tally::default();
    let mut earlier = before.runs().iter().peekable();
    for now in after.runs() {
        let is_there = in_vram(now.place()) == target.is_vram();
        if !is_there {
            match missing.last_mut() {
                Some(last) if last.end() == now.range().start() => *last = last.hull(now.range()),
                _ => missing.push(now.range()),
            }
        }
        while let Some(&then) = earlier.peek() {
            if let Some(both) = then.range().intersection(now.range()) {
                if is_there {
                    let was_there = in_vram(then.place()) == target.is_vram();
                    *(if was_there { &mut tally.already } else { &mut tally.moved }) += both.len();
                }
            }
            if then.range().end() > now.range().end() {
                break;
            }
            earlier.next();
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PageRange {
        PageRange::new(start << 20, (end - start) << 20).unwrap()
    }

    #[test]
    fn a_block_is_tried_as_far_as_the_call_reached() {
        for (part, called, expected) in [
            (range(18, 20), range(2, 60), range(16, 24)),
            (range(2, 4), range(2, 60), range(2, 8)),
            (range(58, 59), range(2, 60), range(56, 60)),
            (range(18, 19), range(18, 20), range(18, 20)),
        ] {
            assert_eq!(whole_block(part, 8 << 20, called), expected);
        }
    }

    #[test]
    fn ranges_meet_where_they_share_a_page() {
        let missing = [range(2, 4), range(6, 8), range(10, 12)];
        for (other, expected) in [
            ((0, 2), false),
            ((1, 3), true),
            ((4, 6), false),
            ((7, 11), true),
            ((11, 20), true),
            ((12, 14), false),
        ] {
            assert_eq!(meets(&missing, range(other.0, other.1)), expected, "{other:?}");
        }
        assert!(!meets(&[], range(0, 1)));
    }
}
