//! What a device finds on its board: guest memory, other devices, the interrupt line, trouble, counters.

use std::sync::Arc;

use crate::counters::{Counter, Counters};
use crate::inject::{Injector, Kind, Strike};
use crate::mem::{Dma, DmaMap, Span};
use crate::pci::{MsiLine, Peers};

/// The surroundings of one device.
#[derive(Debug)]
pub struct Board {
    /// Which device of the process this is, from 0.
    pub index: usize,
    /// How many devices the process serves.
    pub devices: usize,
    /// Guest memory.
    pub dma: DmaMap,
    /// The memory of all devices of the process.
    pub peers: Arc<Peers>,
    /// The interrupt line.
    pub msi: MsiLine,
    /// Trouble on purpose.
    pub injector: Injector,
    /// What happened so far.
    pub counters: Counters,
}

impl Board {
    /// A board in slot `index` of `devices`.
    pub fn new(index: usize, devices: usize, peers: Arc<Peers>) -> Board {
        Board {
            index,
            devices,
            dma: DmaMap::default(),
            peers,
            msi: MsiLine::default(),
            injector: Injector::default(),
            counters: Counters::default(),
        }
    }

    /// The memory at a bus address: guest memory, or the BAR of a device.
    pub fn resolve(&self, at: Dma) -> Option<Span> {
        self.dma.resolve(at).or_else(|| self.peers.resolve(self.index, at))
    }

    /// Sends an interrupt message, unless it is ordered to get lost.
    pub fn interrupt(&self) {
        if self.strike(&[Kind::InterruptLose], &[]).is_some() {
            return;
        }
        // What was written to memory before must be visible to whoever the message wakes.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.msi.fire() {
            self.counters.add(Counter::Interrupts, 1);
        }
    }

    /// Asks whether something shall go wrong now; see [`Injector::strike`].
    pub fn strike(&self, kinds: &[Kind], classes: &[u32]) -> Option<Strike> {
        let strike = self.injector.strike(kinds, classes)?;
        self.counters.add(Counter::Injections, 1);
        Some(strike)
    }
}
