//! Which pieces of VRAM are allocated for ranges.

use std::collections::BTreeMap;

/// Number of a piece of VRAM that was allocated for a range, and is shared by what the range was split into.
pub(super) type VramId = u64;

#[derive(Clone, Copy, Debug)]
struct Piece {
    device: usize,
    bytes: u64,
    last_used: u64,
}

/// VRAM allocated for ranges: one piece for each range when it first moves, shared by what the range is split into later.
#[derive(Debug, Default)]
pub(super) struct Vram {
    pieces: BTreeMap<VramId, Piece>,
    clock: u64,
}

impl Vram {
    pub(super) fn allocate(&mut self, device: usize, bytes: u64) -> VramId {
        self.clock += 1;
        self.pieces.insert(self.clock, Piece { device, bytes, last_used: self.clock });
        self.clock
    }

    pub(super) fn free(&mut self, id: VramId) {
        self.pieces.remove(&id);
    }

    /// Notes a use: what was used longest ago is evicted first.
    pub(super) fn touch(&mut self, id: VramId) {
        self.clock += 1;
        if let Some(piece) = self.pieces.get_mut(&id) {
            piece.last_used = self.clock;
        }
    }

    pub(super) fn used(&self, device: usize) -> u64 {
        self.pieces.values().filter(|piece| piece.device == device).map(|piece| piece.bytes).sum()
    }

    pub(super) fn oldest(&self, device: usize) -> Option<VramId> {
        let on_device = self.pieces.iter().filter(|(_, piece)| piece.device == device);
        on_device.min_by_key(|(_, piece)| piece.last_used).map(|(&id, _)| id)
    }
}
