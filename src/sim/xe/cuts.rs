//! Where the simulation itself cuts mappings in two.
//!
//! Memory that is watched, or that has pages on a device, is a mapping of its own to the kernel, and may stay one afterwards. To the
//! driver it is a part of what it was cut out of. Other mappings that touch and look alike the kernel keeps apart for reasons
//! that it does not tell (moved memory, above all), and so does the driver.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pagemap::Event;
use crate::range::PageRange;

/// Those of this process.
static CUTS: Mutex<Cuts> = Mutex::new(Cuts { at: BTreeSet::new(), moved: Vec::new(), told: 0 });

#[derive(Debug)]
struct Cuts {
    at: BTreeSet<u64>,
    /// Memory that is not where it was made, and how far it has come (the kernel's `vm_pgoff` tells it apart).
    moved: Vec<(PageRange, u64)>,
    /// Events that were taken note of. Each VM hears of all of them, in its own time.
    told: u64,
}

fn cuts() -> MutexGuard<'static, Cuts> {
    CUTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A range is about to be cut out of its mapping.
pub(super) fn add(start: u64, end: u64) {
    cuts().at.extend([start, end]);
}

/// Whether mappings that meet at `at` are one to the driver.
pub(super) fn has(at: u64) -> bool {
    cuts().has(at)
}

/// The CPU changed its mappings: the events that end with number `last`.
pub(super) fn note(events: &[Event], last: u64) {
    cuts().note(events, last);
}

impl Cuts {
    fn has(&self, at: u64) -> bool {
        self.at.contains(&at) && self.way(at - 1) == self.way(at)
    }

    /// How far the memory at an address has come.
    fn way(&self, at: u64) -> u64 {
        self.moved.iter().find(|(range, _)| range.contains(at)).map_or(0, |&(_, way)| way)
    }

    fn note(&mut self, events: &[Event], last: u64) {
        let first = last - (events.len() as u64).min(last);
        let known = self.told.saturating_sub(first).min(events.len() as u64);
        self.told = self.told.max(last);
        for event in &events[known as usize..] {
            match *event {
                Event::Unmapped(range) if !range.is_empty() => {
                    self.take(range);
                    // New memory there would join what lies beside it, were that not watched.
                    self.at.extend([range.start(), range.end()]);
                }
                Event::Moved { from, to } if !from.is_empty() => self.follow(from, to),
                _ => {}
            }
        }
    }

    /// Takes out what is known of the inside of a range.
    fn take(&mut self, range: PageRange) -> (Vec<u64>, Vec<(PageRange, u64)>) {
        let inside: Vec<u64> = self.at.range(range.start() + 1..range.end()).copied().collect();
        for at in &inside {
            self.at.remove(at);
        }
        let mut taken = Vec::new();
        for (known, way) in std::mem::take(&mut self.moved) {
            let Some(both) = known.intersection(range).filter(|both| !both.is_empty()) else {
                self.moved.push((known, way));
                continue;
            };
            taken.push((both, way));
            let (before, behind) = known.without(both);
            self.moved
                .extend([before, behind].into_iter().filter(|part| !part.is_empty()).map(|part| (part, way)));
        }
        (inside, taken)
    }

    fn follow(&mut self, from: PageRange, to: u64) {
        let way = to.wrapping_sub(from.start());
        let there = |at: u64| at.wrapping_add(way);
        let (inside, mut parts) = self.take(from);
        // What had not been moved before.
        let mut fresh = vec![from];
        for &(part, _) in &parts {
            let rest = |range: PageRange| match range.intersection(part) {
                Some(both) => <[PageRange; 2]>::from(range.without(both)),
                None => [range, PageRange::from_aligned(range.end(), range.end())],
            };
            fresh = fresh.into_iter().flat_map(rest).filter(|range| !range.is_empty()).collect();
        }
        parts.extend(fresh.into_iter().map(|part| (part, 0)));
        let target = PageRange::from_aligned(to, there(from.end()));
        self.take(target);
        self.at.extend(inside.into_iter().chain([from.start(), from.end()]).map(there));
        for (part, before) in parts {
            let far = before.wrapping_add(way);
            if far != 0 {
                self.moved.push((PageRange::from_aligned(there(part.start()), there(part.end())), far));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    fn pages(first: u64, last: u64) -> PageRange {
        PageRange::from_aligned(first * PAGE, last * PAGE)
    }

    fn all(cuts: &Cuts) -> Vec<u64> {
        cuts.at.iter().filter(|&&at| cuts.has(at)).map(|at| at / PAGE).collect()
    }

    #[test]
    fn cuts_follow_their_memory() {
        let mut cuts = Cuts { at: BTreeSet::new(), moved: Vec::new(), told: 7 };
        let tell = |cuts: &mut Cuts, event: Event| {
            let next = cuts.told + 1;
            cuts.note(&[event], next);
            // What was noted already changes nothing when somebody hears of it late.
            cuts.note(&[Event::Unmapped(pages(1, 64))], next);
        };
        // Two ranges, and one where the first will be moved to.
        cuts.at.extend([4, 8, 12, 32, 40].map(|page| page * PAGE));
        tell(&mut cuts, Event::Unmapped(pages(5, 7)));
        assert_eq!(all(&cuts), [4, 5, 7, 8, 12, 32, 40], "new memory joins what is left");
        tell(&mut cuts, Event::Moved { from: pages(4, 12), to: 32 * PAGE });
        assert_eq!(all(&cuts), [4, 12, 33, 35, 36], "the kernel keeps moved memory apart");
        tell(&mut cuts, Event::Unmapped(pages(34, 36)));
        assert_eq!(all(&cuts), [4, 12, 33], "also from new memory in its middle");
        tell(&mut cuts, Event::Moved { from: pages(32, 40), to: 4 * PAGE });
        assert_eq!(all(&cuts), [4, 5, 12, 32, 40], "until it is back, and what is new has come another way");
        tell(&mut cuts, Event::Discarded(pages(1, 64)));
        tell(&mut cuts, Event::Unmapped(pages(1, 64)));
        assert_eq!((all(&cuts), cuts.moved), (vec![1, 64], Vec::new()));
    }
}
