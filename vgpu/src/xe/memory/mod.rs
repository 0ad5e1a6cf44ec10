//! Memory as the engines and the firmware see it: two translations, a cache of translations, and the gate.

mod context;
mod ggtt;
mod ppgtt;
mod tlb;

use std::sync::Arc;

pub use context::{ContextMemory, MemoryStop, PageFault, Va};
pub use ggtt::{Ggtt, GgttAddr, GgttError, GgttSpace};
pub use ppgtt::{Cause, Leaf, PpgttVa, WalkFault, walk};
pub use tlb::{Owner, Tlb};

use crate::board::Board;
use crate::engine::Gate;
use crate::mem::Vram;

/// Everything that an address can lead to.
#[derive(Debug)]
pub struct XeMemory {
    /// The device's memory.
    pub vram: Vram,
    /// The global table.
    pub ggtt: Ggtt,
    /// Guest memory and other devices.
    pub board: Arc<Board>,
    /// Cached translations.
    pub tlb: Tlb,
    /// Who is in memory right now.
    pub gate: Gate,
}

#[cfg(test)]
pub(crate) use ggtt::GgttPage;
#[cfg(test)]
pub(crate) use ppgtt::testing as page_tables;

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::mem::{Dma, Mapping};
    use crate::pci::Peers;

    /// 8 MiB of device memory, and guest memory from 0 to 1 MiB.
    pub(crate) fn memory() -> XeMemory {
        let board = Arc::new(Board::new(0, 1, Arc::new(Peers::default())));
        board.dma.insert(Dma(0), Mapping::new("guest", 1 << 20).unwrap());
        let bar = Arc::new(Mapping::new("bar0", 16 << 20).unwrap());
        XeMemory {
            vram: Vram::new(8 << 20).unwrap(),
            ggtt: Ggtt::new(bar, 8 << 20),
            board,
            tlb: Tlb::new(true),
            gate: Gate::default(),
        }
    }
}
