//! Translations that stay valid until somebody invalidates them, however the tables change.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ppgtt::{Leaf, PpgttVa};
use crate::mem::VramOffset;

/// Whose translations: the address space identifier and the root of the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Address space identifier, as in the context image; 0 for the driver's own address spaces.
    pub asid: u32,
    /// Root of the page tables.
    pub root: VramOffset,
}

/// Sizes of pages, as shifts.
const SHIFTS: [u32; 4] = [12, 16, 21, 30];
/// How many translations are kept; when full, all are dropped, as capacity misses would do sooner or later.
const CAPACITY: usize = 8192;

/// The cache of translations of one device.
///
/// Hardware may drop a translation at any time, so a model that keeps every one finds the most missing
/// invalidations.
#[derive(Debug)]
pub struct Tlb {
    enabled: bool,
    entries: Mutex<HashMap<(Owner, u32, u64), Leaf>>,
}

impl Tlb {
    /// An empty cache; a disabled one never keeps anything.
    pub fn new(enabled: bool) -> Tlb {
        Tlb { enabled, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<(Owner, u32, u64), Leaf>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kept translation.
    pub fn get(&self, owner: Owner, va: PpgttVa) -> Option<Leaf> {
        if !self.enabled {
            return None;
        }
        let entries = self.entries();
        SHIFTS.iter().find_map(|shift| entries.get(&(owner, *shift, va.0 >> shift)).copied())
    }

    /// Keeps a translation.
    pub fn keep(&self, owner: Owner, va: PpgttVa, leaf: Leaf) {
        if !self.enabled {
            return;
        }
        let mut entries = self.entries();
        if entries.len() >= CAPACITY {
            entries.clear();
        }
        entries.insert((owner, leaf.shift, va.0 >> leaf.shift), leaf);
    }

    /// Drops everything.
    pub fn invalidate_all(&self) {
        self.entries().clear();
    }

    /// Drops what belongs to one owner.
    pub fn invalidate_owner(&self, owner: Owner) {
        self.entries().retain(|(o, _, _), _| *o != owner);
    }

    /// Drops what one address space has inside a range.
    pub fn invalidate_range(&self, asid: u32, start: PpgttVa, len: u64) {
        let end = start.0.saturating_add(len);
        self.entries().retain(|(owner, shift, page), _| {
            let first = page << shift;
            let last = first + ((1u64 << shift) - 1);
            owner.asid != asid || last < start.0 || first >= end
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Owner = Owner { asid: 1, root: VramOffset(0x1000) };
    const B: Owner = Owner { asid: 2, root: VramOffset(0x2000) };

    fn leaf(shift: u32) -> Leaf {
        Leaf { page: 0, shift, vram: true, writable: true, atomic: true, null: false }
    }

    fn filled() -> Tlb {
        let tlb = Tlb::new(true);
        tlb.keep(A, PpgttVa(0x20_0000), leaf(21));
        tlb.keep(A, PpgttVa(0x40_0000), leaf(12));
        tlb.keep(B, PpgttVa(0x40_0000), leaf(12));
        tlb
    }

    #[test]
    fn translations_are_kept_per_owner_and_size() {
        let tlb = filled();
        assert!(tlb.get(A, PpgttVa(0x3f_ffff)).is_some());
        assert!(tlb.get(B, PpgttVa(0x20_0000)).is_none());
        assert!(tlb.get(A, PpgttVa(0x40_1000)).is_none());
    }

    #[test]
    fn range_invalidation_hits_overlapping_pages_of_its_address_space() {
        let tlb = filled();
        tlb.invalidate_range(1, PpgttVa(0x3f_f000), 0x1000);
        assert!(tlb.get(A, PpgttVa(0x20_0000)).is_none(), "the large page overlaps");
        assert!(tlb.get(A, PpgttVa(0x40_0000)).is_some());
        tlb.invalidate_range(1, PpgttVa(0x40_0000), 0x1000);
        assert!(tlb.get(A, PpgttVa(0x40_0000)).is_none());
        assert!(tlb.get(B, PpgttVa(0x40_0000)).is_some(), "other address space");
        tlb.invalidate_owner(B);
        assert!(tlb.get(B, PpgttVa(0x40_0000)).is_none());
    }

    #[test]
    fn disabled_keeps_nothing() {
        let tlb = Tlb::new(false);
        tlb.keep(A, PpgttVa(0), leaf(12));
        assert!(tlb.get(A, PpgttVa(0)).is_none());
    }
}
