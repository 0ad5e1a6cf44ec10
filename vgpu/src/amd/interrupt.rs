//! The interrupt ring (`vega10_ih.c`, `vega20_ih.c`, `soc15_ih_clientid.h`).

use super::registers::{Hook, at};
use crate::board::Board;
use crate::mem::{Dma, Span};
use crate::regs::RegisterFile;

/// Bytes of an entry.
const ENTRY: u64 = 32;
/// `IH_RB_WPTR__RB_OVERFLOW`.
const OVERFLOW: u32 = 1;
/// A client that uses the hub of memory clients other than graphics.
const MM_SOURCE: u32 = 1 << 31;

/// Clients, and what they send.
pub mod source {
    /// The hub of memory clients other than graphics: page fault.
    pub const MM_FAULT: (u32, u32) = (0x12, 0);
    /// The hub of graphics and compute: page fault.
    pub const GC_FAULT: (u32, u32) = (0x1b, 0);
    /// The command processor: end of pipe.
    pub const END_OF_PIPE: (u32, u32) = (0x14, 181);
    /// SDMA engines: trap packet.
    pub const SDMA_TRAP: u32 = 224;
}

/// An interrupt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interrupt {
    /// Client and source.
    pub source: (u32, u32),
    /// Ring, or what the client wants to say.
    pub ring: u32,
    /// Address space.
    pub vmid: u32,
    /// Whether the VMID is one of the hub of other memory clients.
    pub mm: bool,
    /// Process.
    pub pasid: u32,
    /// Data.
    pub data: [u32; 3],
}

impl Interrupt {
    /// The entry in the ring.
    fn dwords(&self, clock: u64) -> [u32; 8] {
        let vmid_source = if self.mm { MM_SOURCE } else { 0 };
        let (client, source) = self.source;
        let head = client | source << 8 | (self.ring & 0xff) << 16 | (self.vmid & 0xf) << 24 | vmid_source;
        let [a, b, c] = self.data;
        [head, clock as u32, (clock >> 32) as u32 & 0xffff, self.pasid & 0xffff, a, b, c, 0]
    }
}

/// Puts an interrupt into the ring and sends the message; a full ring loses it and says so.
pub fn deliver(registers: &mut RegisterFile<Hook>, board: &Board, interrupt: &Interrupt, clock: u64) {
    let control = registers.get(at::IH_RB_CNTL);
    if control & 1 == 0 {
        tracing::debug!(target: "irq", ?interrupt, "the ring is off");
        return;
    }
    let base = u64::from(registers.get(at::IH_RB_BASE)) << 8
        | u64::from(registers.get(at::IH_RB_BASE_HI) & 0xff) << 40;
    let size = 4u64 << ((control >> 1) & 0x1f);
    let write = u64::from(registers.get(at::IH_RB_WPTR) & !OVERFLOW) % size;
    let next = (write + ENTRY) % size;
    let read = u64::from(registers.get(at::IH_RB_RPTR)) % size;
    let pointer = if next == read {
        tracing::warn!(target: "irq", ?interrupt, "the ring is full");
        write as u32 | OVERFLOW
    } else {
        for (i, dword) in interrupt.dwords(clock).iter().enumerate() {
            store(board, base + write + 4 * i as u64, *dword);
        }
        next as u32
    };
    registers.set(at::IH_RB_WPTR, pointer);
    // The entry must be there before the pointer says so.
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    let report = u64::from(registers.get(at::IH_RB_WPTR_ADDR_LO))
        | u64::from(registers.get(at::IH_RB_WPTR_ADDR_HI) & 0xffff) << 32;
    store(board, report, pointer);
    tracing::trace!(target: "irq", ?interrupt, pointer, "delivered");
    board.interrupt();
}

fn store(board: &Board, at: u64, value: u32) {
    match board.resolve(Dma(at)) {
        Some(Span::Memory { mapping, offset, .. }) if mapping.store32(offset, value).is_ok() => {}
        _ => tracing::warn!(target: "irq", at, "no memory for the interrupt ring"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::amd::asic::VEGA10;
    use crate::amd::registers::table;
    use crate::mem::Mapping;
    use crate::pci::Peers;

    fn setup() -> (RegisterFile<Hook>, Board) {
        let board = Board::new(0, 1, Arc::new(Peers::default()));
        board.dma.insert(Dma(0), Mapping::new("guest", 1 << 20).unwrap());
        let mut registers = RegisterFile::new(table(&VEGA10));
        registers.set(at::IH_RB_BASE, 0x10000 >> 8);
        registers.set(at::IH_RB_CNTL, 1 | 5 << 1);
        registers.set(at::IH_RB_WPTR_ADDR_LO, 0x8000);
        (registers, board)
    }

    fn load(board: &Board, at: u64) -> u32 {
        match board.resolve(Dma(at)) {
            Some(Span::Memory { mapping, offset, .. }) => mapping.load32(offset).unwrap(),
            _ => panic!(),
        }
    }

    #[test]
    fn entries_and_pointer() {
        let (mut registers, board) = setup();
        let interrupt = Interrupt {
            source: source::MM_FAULT,
            ring: 8,
            vmid: 9,
            mm: true,
            pasid: 0x8001,
            data: [0x1234, 0x80, 0],
        };
        deliver(&mut registers, &board, &interrupt, 0x1_0000_0002);
        let entry: Vec<u32> = (0..7).map(|i| load(&board, 0x10000 + 4 * i)).collect();
        assert_eq!(entry, [0x8908_0012, 2, 1, 0x8001, 0x1234, 0x80, 0]);
        assert_eq!((load(&board, 0x8000), registers.get(at::IH_RB_WPTR)), (32, 32));
    }

    #[test]
    fn full_ring_overflows() {
        let (mut registers, board) = setup();
        for _ in 0..4 {
            deliver(&mut registers, &board, &Interrupt::default(), 0);
        }
        assert_eq!(registers.get(at::IH_RB_WPTR), 96 | OVERFLOW, "128 bytes hold three entries");
        registers.set(at::IH_RB_RPTR, 96);
        deliver(&mut registers, &board, &Interrupt::default(), 0);
        assert_eq!(registers.get(at::IH_RB_WPTR), 0);
        registers.set(at::IH_RB_CNTL, 0);
        deliver(&mut registers, &board, &Interrupt::default(), 0);
        assert_eq!(registers.get(at::IH_RB_WPTR), 0, "off");
    }
}
