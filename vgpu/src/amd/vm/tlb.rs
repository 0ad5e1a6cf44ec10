//! Translations that stay valid until the driver invalidates them, however the tables change.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{HubId, Leaf};

/// Whose translations: a context of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The hub.
    pub hub: HubId,
    /// VMID, or from [`VMIDS`](super::VMIDS) on the number of a process that the scheduler could give none.
    pub slot: u32,
}

impl Owner {
    /// The driver's own address space.
    pub fn kernel(hub: HubId) -> Owner {
        Owner { hub, slot: 0 }
    }

    /// The VMID, as interrupts report it.
    pub fn vmid(self) -> u32 {
        self.slot.min(super::VMIDS - 1)
    }
}

/// Sizes of pages, as shifts.
const SHIFTS: [u32; 4] = [12, 21, 30, 39];
/// How many translations are kept; when full, all are dropped, as capacity misses would do sooner or later.
const CAPACITY: usize = 8192;

/// The cache of translations of one device.
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
    pub fn get(&self, owner: Owner, address: u64) -> Option<Leaf> {
        if !self.enabled {
            return None;
        }
        let entries = self.entries();
        SHIFTS.iter().find_map(|shift| entries.get(&(owner, *shift, address >> shift)).copied())
    }

    /// Keeps a translation. Those of processes without a VMID are not kept: no register could invalidate them.
    pub fn keep(&self, owner: Owner, address: u64, leaf: Leaf) {
        if !self.enabled || owner.slot >= super::VMIDS || !SHIFTS.contains(&leaf.shift) {
            return;
        }
        let mut entries = self.entries();
        if entries.len() >= CAPACITY {
            entries.clear();
        }
        entries.insert((owner, leaf.shift, address >> leaf.shift), leaf);
    }

    /// Drops everything.
    pub fn invalidate_all(&self) {
        self.entries().clear();
    }

    /// Drops what the given contexts of one hub have.
    pub fn invalidate(&self, hub: HubId, vmids: u16) {
        self.entries().retain(|(owner, _, _), _| owner.hub != hub || (vmids >> owner.slot) & 1 == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_until_invalidated() {
        let leaf = |shift| Leaf { target: None, shift, readable: true, writable: true };
        let a = Owner { hub: HubId::Gc, slot: 3 };
        let b = Owner { hub: HubId::Mm, slot: 3 };
        let tlb = Tlb::new(true);
        tlb.keep(a, 0x20_0000, leaf(21));
        tlb.keep(b, 0x20_0000, leaf(12));
        assert!(tlb.get(a, 0x3f_ffff).is_some());
        assert!(tlb.get(b, 0x3f_ffff).is_none());
        tlb.invalidate(HubId::Gc, !(1 << 3));
        assert!(tlb.get(a, 0x20_0000).is_some(), "other contexts");
        tlb.invalidate(HubId::Gc, 1 << 3);
        assert!(tlb.get(a, 0x20_0000).is_none());
        assert!(tlb.get(b, 0x20_0000).is_some(), "other hub");
        tlb.keep(Owner { hub: HubId::Gc, slot: 16 }, 0, leaf(12));
        assert!(tlb.get(Owner { hub: HubId::Gc, slot: 16 }, 0).is_none());
        let off = Tlb::new(false);
        off.keep(a, 0, leaf(12));
        assert!(off.get(a, 0).is_none());
    }
}
