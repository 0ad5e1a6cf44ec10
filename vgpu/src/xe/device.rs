//! The device as the rest of the program sees it.

use std::io;
use std::sync::Arc;

use super::core::{BAR0_SIZE, Core, GGTT_OFFSET};
use super::engine::{EngineRunner, Postman};
use super::mmio;
use super::topology::{ENGINES, MEDIA};
use crate::board::Board;
use crate::coverage::Coverage;
use crate::device::Device;
use crate::engine::Worker;
use crate::pci::{Bar, Capability, Identity, Layout, Window};
use crate::profile::Profile;

/// A GPU of the Battlemage kind.
#[derive(Debug)]
pub struct XeDevice {
    core: Arc<Core>,
    layout: Layout,
    _workers: Vec<Worker>,
}

impl XeDevice {
    /// Powers a device on and starts its engines.
    pub fn new(board: Arc<Board>, profile: &Profile) -> io::Result<XeDevice> {
        let core = Arc::new(Core::new(board, profile)?);
        let mut workers = Vec::new();
        for (i, engine) in ENGINES.iter().enumerate() {
            if engine.unit == MEDIA && !profile.media {
                continue;
            }
            workers.push(Worker::spawn(
                engine.name,
                core.engines[i].clone(),
                EngineRunner::new(core.clone(), i),
            )?);
        }
        workers.push(Worker::spawn("postman", core.postman.clone(), Postman::new(core.clone()))?);
        let layout = layout(&core);
        Ok(XeDevice { core, layout, _workers: workers })
    }
}

fn layout(core: &Core) -> Layout {
    let vram = core.memory.vram.mapping();
    Layout {
        identity: Identity {
            vendor: 0x8086,
            device: 0xe20b,
            subsystem_vendor: 0x8086,
            subsystem: 0x1100,
            revision: 0,
            // Display controller, other: no VGA arbitration.
            class: 0x03_8000,
        },
        bars: vec![
            Bar { index: 0, size: BAR0_SIZE, wide: true, prefetchable: false },
            Bar { index: 2, size: vram.size(), wide: true, prefetchable: true },
        ],
        windows: vec![
            Window { bar: 0, offset: GGTT_OFFSET, size: BAR0_SIZE - GGTT_OFFSET, mapping: core.bar0.clone() },
            Window { bar: 2, offset: 0, size: vram.size(), mapping: vram.clone() },
        ],
        memory_bar: 2,
        rom: Vec::new(),
        capabilities: vec![Capability::power_management(0xd0), Capability::msi(0xac)],
        // Graphics control of older parts, which Linux 6.16 still reads: 8 MiB for the global table.
        presets: vec![(0x50, vec![0xc0, 0x00])],
    }
}

impl Device for XeDevice {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn read(&self, bar: u8, offset: u64, into: &mut [u8]) {
        into.fill(0);
        let Ok(offset) = u32::try_from(offset) else { return };
        if bar != 0 {
            return;
        }
        let mut state = self.core.lock();
        // Registers are dwords; smaller reads take a part, larger ones several.
        let mut dword = (u32::MAX, 0);
        for (i, byte) in into.iter_mut().enumerate() {
            let at = offset + i as u32;
            if dword.0 != at & !3 {
                dword = (at & !3, mmio::read(&self.core, &mut state, at & !3));
                tracing::trace!(target: "mmio", name = %state.registers.table().name(dword.0), at = format_args!("{:#x}", dword.0), value = format_args!("{:#x}", dword.1), "read");
            }
            *byte = dword.1.to_le_bytes()[(at & 3) as usize];
        }
    }

    fn write(&self, bar: u8, offset: u64, from: &[u8]) {
        let Ok(offset) = u32::try_from(offset) else { return };
        if bar != 0 || offset & 3 != 0 || from.len() % 4 != 0 {
            tracing::warn!(target: "mmio", bar, offset, len = from.len(), "write of an odd size");
            return;
        }
        let mut state = self.core.lock();
        for (i, bytes) in from.chunks_exact(4).enumerate() {
            let at = offset + i as u32 * 4;
            let value = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            tracing::trace!(
                target: "mmio",
                name = %state.registers.table().name(at),
                at = format_args!("{at:#x}"),
                value = format_args!("{value:#x}"),
                "write"
            );
            mmio::write(&self.core, &mut state, at, value);
        }
    }

    fn reset(&self) {
        let mut state = self.core.lock();
        mmio::reset_units(&self.core, &mut state);
        state.registers.reset();
        state.irq = Default::default();
    }

    fn halt(&self) {
        mmio::reset_units(&self.core, &mut self.core.lock());
    }

    fn coverage(&self) -> Coverage {
        let state = self.core.lock();
        let mut coverage = Coverage::default();
        coverage.section("unknown registers", state.registers.unknown_lines());
        coverage.section(
            "unknown firmware actions",
            state.gucs.iter().flat_map(|guc| guc.unknown_lines()).collect(),
        );
        let instructions = state.unknown_instructions.iter().map(|(what, n)| format!("{what} times {n}"));
        coverage.section("unknown instructions", instructions.collect());
        coverage.section("counters", self.core.board.counters.lines());
        coverage
    }
}

impl Drop for XeDevice {
    /// Ends what runs, so that the engine threads can end.
    fn drop(&mut self) {
        self.halt();
    }
}
