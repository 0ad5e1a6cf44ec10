//! Memory of other devices, reached by bus address (peer-to-peer).

use std::sync::{Arc, PoisonError, RwLock};

use crate::mem::{Dma, Mapping, Place, Span};

#[derive(Debug)]
struct Window {
    device: usize,
    base: u64,
    mapping: Arc<Mapping>,
}

/// The memory BARs of all devices of this process, where the guest has placed them.
///
/// QEMU does not pass descriptors for BARs of other devices, so devices that shall reach each other must be served
/// by one process and share one registry.
#[derive(Debug, Default)]
pub struct Peers {
    windows: RwLock<Vec<Window>>,
}

impl Peers {
    /// Notes where the memory BAR of `device` lies now; `None` when it lies nowhere.
    pub fn place(&self, device: usize, base: Option<u64>, mapping: &Arc<Mapping>) {
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        windows.retain(|w| w.device != device);
        if let Some(base) = base {
            windows.push(Window { device, base, mapping: mapping.clone() });
        }
    }

    /// The memory at a bus address, as `device` sees it; its own BAR counts as its own memory.
    pub fn resolve(&self, device: usize, at: Dma) -> Option<Span> {
        let windows = self.windows.read().unwrap_or_else(PoisonError::into_inner);
        windows.iter().find_map(|w| {
            let offset = at.0.checked_sub(w.base)?;
            let len = w.mapping.size().checked_sub(offset).filter(|len| *len > 0)?;
            let place = if w.device == device { Place::Vram } else { Place::Peer };
            Some(Span::Memory { place, mapping: w.mapping.clone(), offset, len })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_bar() {
        let peers = Peers::default();
        let memory = Arc::new(Mapping::new("vram", 0x4000).unwrap());
        peers.place(1, Some(0x70_0000_0000), &memory);
        let span = peers.resolve(0, Dma(0x70_0000_1000)).unwrap();
        assert_eq!((span.place(), span.len()), (Some(Place::Peer), 0x3000));
        let Span::Memory { offset, .. } = span else { panic!("no memory") };
        assert_eq!(offset, 0x1000);
        assert_eq!(peers.resolve(1, Dma(0x70_0000_1000)).unwrap().place(), Some(Place::Vram));
        assert!(peers.resolve(0, Dma(0x70_0000_4000)).is_none());
        peers.place(1, Some(0x80_0000_0000), &memory);
        assert!(peers.resolve(0, Dma(0x70_0000_1000)).is_none());
        peers.place(1, None, &memory);
        assert!(peers.resolve(0, Dma(0x80_0000_0000)).is_none());
    }
}
