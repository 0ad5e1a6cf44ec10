//! Memory with a GART and page tables, for tests.

use std::sync::Arc;

use super::*;
use crate::board::Board;
use crate::engine::RunToken;
use crate::mem::{Dma, Mapping, Span, Vram};
use crate::pci::Peers;

/// Start of the frame buffer aperture.
pub(crate) const FRAME: u64 = 0xf4_0000_0000;
/// Start of the GART aperture.
pub(crate) const GART: u64 = 0x1_0000_0000;

const VRAM: u64 = 16 << 20;
const GART_TABLE: u64 = 0x8000;

/// 16 MiB of device memory, 1 MiB of guest memory from 0, 16 pages of GART.
pub(crate) struct Setup {
    pub(crate) memory: Arc<Memory>,
}

impl Setup {
    pub(crate) fn new() -> Setup {
        let board = Arc::new(Board::new(0, 1, Arc::new(Peers::default())));
        board.dma.insert(Dma(0), Mapping::new("guest", 1 << 20).unwrap());
        let hive = Hive::new(0, Arc::new(vec![Vram::new(VRAM).unwrap()]));
        let setup = Setup { memory: Arc::new(Memory::new(hive, board, true)) };
        for hub in HubId::ALL {
            let mut hub = setup.memory.hub_mut(hub);
            hub.set_aperture(ApertureField::FrameBase, (FRAME >> 24) as u32);
            hub.set_aperture(ApertureField::FrameTop, (FRAME >> 24) as u32);
            hub.set_aperture(ApertureField::AgpBottom, 1);
            hub.set_context(ContextField::Base, 0, GART_TABLE as u32 | 1);
            hub.set_context(ContextField::Start, 0, (GART >> 12) as u32);
            hub.set_context(ContextField::End, 0, (GART >> 12) as u32 + 15);
            for vmid in 1..VMIDS {
                hub.set_context(ContextField::Control, vmid, 1 | 3 << 1);
            }
        }
        setup
    }

    pub(crate) fn vram(&self) -> &Mapping {
        self.memory.hive.own().mapping()
    }

    pub(crate) fn guest32(&self, at: u64) -> u32 {
        match self.memory.board.resolve(Dma(at)) {
            Some(Span::Memory { mapping, offset, .. }) => mapping.load32(offset).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn gart(&self, page: u64, entry: Entry) {
        self.vram().store64(GART_TABLE + page * 8, entry.0).unwrap();
    }

    pub(crate) fn run<'a>(&'a self, vmid: u32, token: &'a RunToken) -> RunMemory<'a> {
        RunMemory { memory: &self.memory, owner: Owner { hub: HubId::Mm, slot: vmid }, token }
    }

    /// Page tables from `at` on, for one process.
    pub(crate) fn process(&self, vmid: u32, at: u64) -> Tables<'_> {
        for hub in HubId::ALL {
            self.memory.hub_mut(hub).assign(vmid, at | 1);
        }
        Tables::new(self.vram(), at)
    }
}

pub(crate) struct Tables<'a> {
    vram: &'a Mapping,
    root: u64,
    next: std::cell::Cell<u64>,
}

impl<'a> Tables<'a> {
    /// Empty tables from `at` on.
    pub(crate) fn new(vram: &'a Mapping, at: u64) -> Tables<'a> {
        Tables { vram, root: at, next: std::cell::Cell::new(at + 0x1000) }
    }

    /// Tables that exist already; new ones come from `next` on.
    pub(crate) fn continued(vram: &'a Mapping, at: u64, next: u64) -> Tables<'a> {
        let mut free = next;
        while vram.load64(free).unwrap() != 0 {
            free += 0x1000;
        }
        Tables { vram, root: at, next: std::cell::Cell::new(free) }
    }

    /// Maps a page of 4 KiB.
    pub(crate) fn map(&self, va: u64, entry: Entry) {
        self.put(&[39, 30, 21], 12, va, entry);
    }

    /// Maps a page of 2 MiB.
    pub(crate) fn map_large(&self, va: u64, entry: Entry) {
        self.put(&[39, 30], 21, va, entry.as_leaf());
    }

    fn put(&self, directories: &[u32], last: u32, va: u64, entry: Entry) {
        let mut table = self.root;
        for shift in directories {
            let at = table + ((va >> shift) & 0x1ff) * 8;
            if self.vram.load64(at).unwrap() == 0 {
                self.vram.store64(at, self.next.get() | 1).unwrap();
                self.next.set(self.next.get() + 0x1000);
            }
            table = self.vram.load64(at).unwrap() & !0xfff;
        }
        self.vram.store64(table + ((va >> last) & 0x1ff) * 8, entry.0).unwrap();
    }
}
