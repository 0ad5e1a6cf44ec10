//! Guest memory, as QEMU announces it region by region.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{Dma, Mapping, Place, Span};

/// The regions of guest memory that a device may reach; without an IOMMU the bus address is the guest's physical
/// address.
#[derive(Debug, Default)]
pub struct DmaMap {
    regions: RwLock<BTreeMap<u64, Arc<Mapping>>>,
}

impl DmaMap {
    /// Makes a mapping reachable from `at` on; replaces one that started at the same address.
    pub fn insert(&self, at: Dma, mapping: Mapping) {
        self.regions.write().unwrap_or_else(PoisonError::into_inner).insert(at.0, Arc::new(mapping));
    }

    /// Forgets every region that lies inside `[at, at + size)`; tells how many there were.
    pub fn remove(&self, at: Dma, size: u64) -> usize {
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        let before = regions.len();
        let end = at.0.saturating_add(size);
        regions.retain(|start, m| !(*start >= at.0 && start.saturating_add(m.size()) <= end));
        before - regions.len()
    }

    /// The memory at `at`, up to the end of its region.
    pub fn resolve(&self, at: Dma) -> Option<Span> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        let (start, mapping) = regions.range(..=at.0).next_back()?;
        let offset = at.0 - start;
        let len = mapping.size().checked_sub(offset).filter(|len| *len > 0)?;
        Some(Span::Memory { place: Place::System, mapping: mapping.clone(), offset, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_found_and_forgotten() {
        let map = DmaMap::default();
        map.insert(Dma(0x1000), Mapping::new("a", 0x2000).unwrap());
        map.insert(Dma(0x8000), Mapping::new("b", 0x1000).unwrap());
        assert!(map.resolve(Dma(0xfff)).is_none());
        assert_eq!(map.resolve(Dma(0x2ff8)).unwrap().len(), 8);
        assert!(map.resolve(Dma(0x3000)).is_none());
        assert_eq!(map.remove(Dma(0x1000), 0x2000), 1);
        assert!(map.resolve(Dma(0x1000)).is_none());
        assert!(map.resolve(Dma(0x8000)).is_some());
    }
}
