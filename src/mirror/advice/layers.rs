//! Advice for ranges that overlap: which of it is in force where.

use std::collections::BTreeMap;
use std::iter;

use crate::error::Result;
use crate::range::PageRange;

use super::{Advisee, Kinds, Settings};

/// Tells layers apart; a younger one has a greater number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::mirror) struct LayerId(u64);

impl LayerId {
    /// Younger than every layer.
    pub(super) const NEWEST: Self = Self(u64::MAX);
}

/// Pieces of advice on top of each other: where they overlap, what the youngest says is in force, kind by kind.
///
/// Each operation takes time that grows with the logarithm of the number of layers, and with the number of those that overlap.
#[derive(Debug, Default)]
pub(super) struct Layers {
    last: LayerId,
    /// The youngest layer, until it is removed. Most guards end in the reverse order in which they began, and never enter the map.
    top: Option<Top>,
    others: BTreeMap<Place, Layer>,
    /// A bit for each [`Place::size`] that is in the map, or was since it was empty.
    sizes: u64,
}

#[derive(Debug)]
struct Top {
    range: PageRange,
    id: LayerId,
    layer: Layer,
}

#[derive(Debug)]
struct Layer {
    settings: Settings,
    /// No guard will remove it.
    kept: bool,
}

/// Where a layer is found. Ranges of about one size stand together: where they begin then tells nearly which of them overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Bits of the range's length, from 1.
    size: u32,
    start: u64,
    id: LayerId,
    end: u64,
}

impl Place {
    const fn new(range: PageRange, id: LayerId) -> Self {
        let size = u64::BITS - range.len().leading_zeros();
        Self { size, start: range.start(), id, end: range.end() }
    }

    const fn size_bit(self) -> u64 {
        1 << (self.size - 1)
    }

    const fn range(self) -> PageRange {
        PageRange::from_aligned(self.start, self.end)
    }
}

impl Layers {
    #[inline]
    pub(super) fn insert(&mut self, range: PageRange, settings: Settings) -> LayerId {
        let id = LayerId(self.last.0 + 1);
        self.last = id;
        let top = Top { range, id, layer: Layer { settings, kept: false } };
        if let Some(covered) = self.top.replace(top) {
            self.insert_other(covered);
        }
        id
    }

    #[inline(never)]
    fn insert_other(&mut self, other: Top) {
        let place = Place::new(other.range, other.id);
        self.others.insert(place, other.layer);
        self.sizes |= place.size_bit();
    }

    /// Takes a layer out, if it is there, and says what it spoke of.
    #[inline]
    pub(super) fn remove(&mut self, range: PageRange, id: LayerId) -> Option<Kinds> {
        match self.top.take_if(|top| top.id == id) {
            Some(top) => Some(top.layer.settings.kinds()),
            None => self.remove_other(range, id),
        }
    }

    #[inline(never)]
    fn remove_other(&mut self, range: PageRange, id: LayerId) -> Option<Kinds> {
        let layer = self.others.remove(&Place::new(range, id))?;
        if self.others.is_empty() {
            self.sizes = 0;
        }
        Some(layer.settings.kinds())
    }

    /// Takes the layers out that lie inside `range`.
    pub(super) fn remove_inside(&mut self, range: PageRange) -> Vec<(LayerId, PageRange, Kinds)> {
        let inside = self.overlapping(range).filter(|(_, layer, _)| range.contains_range(*layer));
        let inside: Vec<_> = inside.map(|(id, range, layer)| (id, range, layer.settings.kinds())).collect();
        for &(id, range, _) in &inside {
            self.remove(range, id);
        }
        inside
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        usize::from(self.top.is_some()) + self.others.len()
    }

    /// Leaves a layer where it is for good, so that layers that can never be seen again need not be remembered.
    pub(super) fn keep(&mut self, range: PageRange, id: LayerId) {
        let layer = match &mut self.top {
            Some(top) if top.id == id => Some(&mut top.layer),
            _ => self.others.get_mut(&Place::new(range, id)),
        };
        let Some(layer) = layer else { return };
        layer.kept = true;
        let kinds = layer.settings.kinds();
        let mut hidden = Vec::new();
        for (other, place, layer) in
            self.overlapping(range).filter(|(other, _, layer)| layer.kept && *other != id)
        {
            if other > id && place.contains_range(range) && layer.settings.kinds().contains(kinds) {
                hidden.push((range, id));
            }
            if other < id && range.contains_range(place) && kinds.contains(layer.settings.kinds()) {
                hidden.push((place, other));
            }
        }
        for (range, id) in hidden {
            self.remove(range, id);
        }
    }

    /// Tells the driver what is in force in `range` of those kinds of advice that a layer spoke of which is gone: nothing, where a
    /// younger layer hid it. Goes on after a failure, and answers with the first.
    #[inline]
    pub(super) fn uncover(
        &self,
        range: PageRange,
        kinds: Kinds,
        gone: LayerId,
        advisee: &impl Advisee,
    ) -> Result<()> {
        let alone = self.top.is_none() && self.sizes == 0;
        if alone || self.overlapping(range).next().is_none() {
            return advisee.restore(range, kinds, &Settings::NOTHING);
        }
        self.uncover_parts(range, kinds, gone, advisee)
    }

    #[inline(never)]
    fn uncover_parts(
        &self,
        range: PageRange,
        kinds: Kinds,
        gone: LayerId,
        advisee: &impl Advisee,
    ) -> Result<()> {
        // Where layers begin (with what they say) and end, in order of address.
        let mut edges = vec![(range.end(), LayerId::NEWEST, None)];
        for (id, place, layer) in self.overlapping(range) {
            edges.push((place.start().max(range.start()), id, Some(&layer.settings)));
            edges.push((place.end().min(range.end()), id, None));
        }
        edges.sort_unstable_by_key(|&(at, ..)| at);
        let mut here = BTreeMap::new();
        let mut result = Ok(());
        let mut from = range.start();
        for (at, id, begins) in edges {
            if from < at {
                let part = PageRange::from_aligned(from, at);
                result = result.and(uncover_part(part, kinds, gone, &here, advisee));
                from = at;
            }
            match begins {
                Some(settings) => here.insert(id, settings),
                None => here.remove(&id),
            };
        }
        result
    }

    fn overlapping(&self, range: PageRange) -> impl Iterator<Item = (LayerId, PageRange, &Layer)> {
        let top = self.top.iter().map(|top| (top.id, top.range, &top.layer));
        let others = set_bits(self.sizes).flat_map(move |bit| {
            let size = bit + 1;
            // The longest of this size that ends after `range` begins.
            let first = range.start().saturating_sub((u64::MAX >> (u64::BITS - size)) - 1);
            let place = |start| Place { size, start, id: LayerId::default(), end: 0 };
            self.others.range(place(first)..place(range.end()))
        });
        let others = others.map(|(place, layer)| (place.id, place.range(), layer));
        top.chain(others).filter(move |&(_, place, _)| place.overlaps(range))
    }
}

fn set_bits(mut bits: u64) -> impl Iterator<Item = u32> {
    iter::from_fn(move || {
        let lowest = (bits != 0).then_some(bits.trailing_zeros())?;
        bits &= bits - 1;
        Some(lowest)
    })
}

/// As [`Layers::uncover`], where the same layers lie everywhere: those of `here`.
fn uncover_part(
    part: PageRange,
    mut kinds: Kinds,
    gone: LayerId,
    here: &BTreeMap<LayerId, &Settings>,
    advisee: &impl Advisee,
) -> Result<()> {
    let mut now = Settings::NOTHING;
    for (&id, settings) in here.iter().rev() {
        if id > gone {
            kinds = kinds.difference(settings.kinds());
        } else {
            now.complete_with(settings);
        }
        if now.kinds().contains(kinds) {
            break;
        }
    }
    if kinds.is_empty() { Ok(()) } else { advisee.restore(part, kinds, &now) }
}

impl Settings {
    /// Takes over what is not said yet.
    fn complete_with(&mut self, older: &Self) {
        if self.preferred.is_none() {
            self.preferred.clone_from(&older.preferred);
        }
        self.atomics = self.atomics.or(older.atomics);
        self.granularity = self.granularity.or(older.granularity);
    }
}
