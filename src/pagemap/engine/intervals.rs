//! Ranges that may overlap and repeat, found by what they overlap in logarithmic time.
//!
//! A tree by start and end in which each node knows the highest end below it, in memory of the engine's own.

use super::arena::ArenaVec;
use super::treap::{Link, NIL, Root, Treap};
use crate::error::Errno;

/// A range `[start, end)`; ordered by start, then end.
pub(super) type Interval = (u64, u64);

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Interval,
    /// How often the range is in the set; 0 on the free list.
    count: u32,
    link: Link,
    /// The highest end in this subtree.
    reach: u64,
}

#[derive(Debug)]
pub(super) struct Intervals {
    slab: ArenaVec<Entry>,
    free: u32,
    tree: Root,
}

impl Intervals {
    pub(super) const fn new() -> Self {
        Self { slab: ArenaVec::new(), free: NIL, tree: Root::new() }
    }

    pub(super) fn insert(&mut self, at: Interval) -> Result<(), Errno> {
        if let Some(index) = self.find(at) {
            self.entry(index).count += 1;
            return Ok(());
        }
        let entry = Entry { at, count: 1, link: Link::NONE, reach: at.1 };
        let index = match self.free {
            NIL => {
                let index = u32::try_from(self.slab.len()).ok().filter(|&i| i != NIL).ok_or(Errno::ENOMEM)?;
                self.slab.push(entry)?;
                index
            }
            index => {
                self.free = self.slab[index as usize].link.left;
                self.slab[index as usize] = entry;
                index
            }
        };
        self.enter(index);
        Ok(())
    }

    /// Takes one of the ranges out. `false` if there is none like it.
    pub(super) fn remove(&mut self, at: Interval) -> bool {
        let Some(index) = self.find(at) else { return false };
        self.entry(index).count -= 1;
        if self.entry(index).count == 0 {
            self.leave(index);
            self.entry(index).link = Link::to(self.free);
            self.free = index;
        }
        true
    }

    /// The lowest range, if there is any.
    pub(super) fn first(&self) -> Option<Interval> {
        self.overlapping(0, u64::MAX, (0, 0))
    }

    /// The lowest range from `from` on that shares a byte with `[start, end)`. Go on with [`after`] that one.
    pub(super) fn overlapping(&self, start: u64, end: u64, from: Interval) -> Option<Interval> {
        self.search(self.tree.index, (start, end), from)
    }

    fn search(&self, index: u32, (start, end): Interval, from: Interval) -> Option<Interval> {
        let entry = self.slab.get(index as usize).filter(|entry| entry.reach > start)?;
        if entry.at >= from {
            if let found @ Some(_) = self.search(entry.link.left, (start, end), from) {
                return found;
            }
            if entry.at.0 < end && start < entry.at.1 {
                return Some(entry.at);
            }
        }
        if entry.at.0 >= end {
            return None;
        }
        self.search(entry.link.right, (start, end), from)
    }

    fn find(&self, at: Interval) -> Option<u32> {
        let mut index = self.tree.index;
        while index != NIL && self.slab[index as usize].at != at {
            let entry = &self.slab[index as usize];
            index = if at < entry.at { entry.link.left } else { entry.link.right };
        }
        (index != NIL).then_some(index)
    }

    fn entry(&mut self, index: u32) -> &mut Entry {
        &mut self.slab[index as usize]
    }

    fn reach(&self, index: u32) -> u64 {
        self.slab.get(index as usize).map_or(0, |entry| entry.reach)
    }
}

impl Treap for Intervals {
    type Key = Interval;

    fn root(&mut self) -> &mut Root {
        &mut self.tree
    }

    fn key(&self, index: u32) -> Interval {
        self.slab[index as usize].at
    }

    fn link(&self, index: u32) -> &Link {
        &self.slab[index as usize].link
    }

    fn link_mut(&mut self, index: u32) -> &mut Link {
        &mut self.entry(index).link
    }

    fn renew(&mut self, index: u32) {
        let Entry { at, link, .. } = self.slab[index as usize];
        self.entry(index).reach = at.1.max(self.reach(link.left)).max(self.reach(link.right));
    }
}

/// The least that comes behind a range in the order.
pub(super) fn after(at: Interval) -> Interval {
    (at.0, at.1 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn overlaps(intervals: &Intervals, start: u64, end: u64) -> Vec<Interval> {
        let mut found = Vec::new();
        let mut from = (0, 0);
        while let Some(at) = intervals.overlapping(start, end, from) {
            found.push(at);
            from = after(at);
        }
        found
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(ops in prop::collection::vec((any::<bool>(), 0u64..40, 1u64..12, 0u64..50, 1u64..9), 1..120)) {
            let mut intervals = Intervals::new();
            let mut model: Vec<Interval> = Vec::new();
            for (insert, start, len, probe, width) in ops {
                let at = (start, start + len);
                if insert {
                    intervals.insert(at).unwrap();
                    model.push(at);
                } else {
                    let place = model.iter().position(|&other| other == at);
                    prop_assert_eq!(intervals.remove(at), place.is_some());
                    place.map(|place| model.swap_remove(place));
                }
                let mut expected = model.clone();
                expected.sort_unstable();
                expected.dedup();
                prop_assert_eq!(intervals.first(), expected.first().copied());
                expected.retain(|&(low, high)| low < probe + width && probe < high);
                prop_assert_eq!(overlaps(&intervals, probe, probe + width), expected);
            }
        }
    }

    #[test]
    fn stays_shallow_when_filled_in_order() {
        fn depth(intervals: &Intervals, index: u32) -> u32 {
            intervals.slab.get(index as usize).map_or(0, |entry| {
                1 + depth(intervals, entry.link.left).max(depth(intervals, entry.link.right))
            })
        }
        let mut intervals = Intervals::new();
        (0..20_000).for_each(|n| intervals.insert((n, n + 1)).unwrap());
        assert!(depth(&intervals, intervals.tree.index) < 80);
        assert_eq!(overlaps(&intervals, 777, 779), [(777, 778), (778, 779)]);
        assert!((0..20_000).all(|n| intervals.remove((n, n + 1))));
        assert_eq!((intervals.tree.index, intervals.first()), (NIL, None));
    }

    #[test]
    fn places_are_used_again() {
        let mut intervals = Intervals::new();
        for n in 0..1000 {
            intervals.insert((n, n + 5)).unwrap();
            assert!(intervals.remove((n, n + 5)));
        }
        assert_eq!(intervals.slab.len(), 1);
    }
}
