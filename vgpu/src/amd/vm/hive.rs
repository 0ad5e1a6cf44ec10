//! Device memory as page tables address it: one device's own, or that of all devices of a hive in a row.

use std::sync::Arc;

use crate::amd::address::FrameAddr;
use crate::mem::{Place, Span, Vram};

/// The memories that a device reaches without the PCI bus.
#[derive(Debug, Clone)]
pub struct Hive {
    node: usize,
    memories: Arc<Vec<Vram>>,
}

impl Hive {
    /// The view of one node. All memories have the same size.
    ///
    /// # Panics
    ///
    /// When there is no such node, or the sizes differ.
    pub fn new(node: usize, memories: Arc<Vec<Vram>>) -> Hive {
        assert!(node < memories.len(), "no memory for node {node}");
        assert!(memories.iter().all(|m| m.size() == memories[0].size()), "a hive has segments of one size");
        Hive { node, memories }
    }

    /// The device's own memory.
    pub fn own(&self) -> &Vram {
        &self.memories[self.node]
    }

    /// Number of this device in the hive.
    pub fn node(&self) -> usize {
        self.node
    }

    /// How many devices share their memory.
    pub fn nodes(&self) -> usize {
        self.memories.len()
    }

    /// The memory at an address, up to the end of its segment.
    pub fn resolve(&self, at: FrameAddr) -> Option<Span> {
        let segment = self.own().size();
        let node = usize::try_from(at.0 / segment).ok()?;
        let span = self.memories.get(node)?.resolve(crate::mem::VramOffset(at.0 % segment))?;
        Some(match span {
            Span::Memory { mapping, offset, len, .. } if node != self.node => {
                Span::Memory { place: Place::Peer, mapping, offset, len }
            }
            own => own,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_lie_in_a_row() {
        let memories = Arc::new(vec![Vram::new(1 << 20).unwrap(), Vram::new(1 << 20).unwrap()]);
        let hive = Hive::new(1, memories.clone());
        memories[0].mapping().store32(0x40, 7).unwrap();
        memories[1].mapping().store32(0x40, 8).unwrap();
        for (address, value, place) in [(0x40, 7, Place::Peer), (0x10_0040, 8, Place::Vram)] {
            let span = hive.resolve(FrameAddr(address)).unwrap();
            assert_eq!((span.place(), span.len()), (Some(place), 0x10_0000 - 0x40));
            let Span::Memory { mapping, offset, .. } = span else { panic!() };
            assert_eq!(mapping.load32(offset), Ok(value));
        }
        assert!(hive.resolve(FrameAddr(0x20_0000)).is_none());
    }
}
