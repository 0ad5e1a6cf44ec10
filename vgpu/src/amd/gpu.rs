//! The device: BARs, registers, engine threads.

use std::io;
use std::sync::Arc;

use super::asic::Asic;
use super::core::{Core, Work};
use super::queue::{End, EngineId, Job, QueueId};
use super::vm::{Hive, Memory};
use super::{cp, mmio, sdma, vbios};
use crate::board::Board;
use crate::counters::Counter;
use crate::coverage::Coverage;
use crate::device::Device;
use crate::engine::{Engine, Progress, Wish, Worker};
use crate::pci::{Bar, Capability, Identity, Layout, Window};

/// BAR of device memory.
const MEMORY_BAR: u8 = 0;
/// BAR of doorbells.
const DOORBELL_BAR: u8 = 2;
/// BAR of registers.
const REGISTER_BAR: u8 = 5;
const DOORBELL_SIZE: u64 = 2 << 20;
const REGISTER_SIZE: u64 = 512 << 10;

/// A virtual AMD GPU.
#[derive(Debug)]
pub struct Gpu {
    // Ends before anything else is dropped.
    _workers: Vec<Worker>,
    core: Arc<Core>,
    layout: Layout,
}

impl Gpu {
    /// Builds a device on a board and starts its engines.
    pub fn new(asic: &'static Asic, board: Arc<Board>, hive: Hive, tlb: bool) -> io::Result<Gpu> {
        let vram = hive.own().clone();
        let layout = layout(asic, &hive);
        board.peers.place(board.index, None, vram.mapping());
        let core = Arc::new(Core::new(asic, board.clone(), Memory::new(hive, board.clone(), tlb)));
        let mut workers = vec![Worker::spawn("cp", core.cp.clone(), Runner::new(&core, EngineId::Cp))?];
        for (number, waker) in core.sdma.iter().enumerate() {
            let runner = Runner::new(&core, EngineId::Sdma(number));
            workers.push(Worker::spawn(&format!("sdma{number}"), waker.clone(), runner)?);
        }
        Ok(Gpu { _workers: workers, core, layout })
    }
}

/// What PCI and the transport must know.
fn layout(asic: &Asic, hive: &Hive) -> Layout {
    let vram = hive.own();
    let bar = |index, size, wide| Bar { index, size, wide, prefetchable: wide };
    Layout {
        identity: Identity {
            vendor: 0x1002,
            device: asic.device,
            subsystem_vendor: 0x1002,
            subsystem: asic.subsystem,
            revision: 0,
            class: 0x03_8000,
        },
        bars: vec![
            bar(MEMORY_BAR, vram.size(), true),
            bar(DOORBELL_BAR, DOORBELL_SIZE, true),
            bar(REGISTER_BAR, REGISTER_SIZE, false),
        ],
        windows: vec![Window {
            bar: MEMORY_BAR,
            offset: 0,
            size: vram.size(),
            mapping: vram.mapping().clone(),
        }],
        memory_bar: MEMORY_BAR,
        rom: vbios::build(asic, vram.size()),
        capabilities: vec![
            Capability::power_management(0xd0),
            Capability::msi(0xac),
            Capability::function_reset(0x98),
        ],
        presets: Vec::new(),
    }
}

impl Device for Gpu {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn read(&self, bar: u8, offset: u64, into: &mut [u8]) {
        into.fill(0);
        if bar != REGISTER_BAR {
            return;
        }
        let mut state = self.core.lock();
        // Accesses of other widths than a dword touch every dword once.
        let end = offset + into.len() as u64;
        for dword in offset / 4..end.div_ceil(4) {
            let value = mmio::read(&self.core, &mut state, dword as u32);
            tracing::trace!(target: "mmio", at = dword * 4, value, "read");
            for (i, byte) in value.to_le_bytes().into_iter().enumerate() {
                let at = (dword * 4 + i as u64).checked_sub(offset).and_then(|at| into.get_mut(at as usize));
                if let Some(slot) = at {
                    *slot = byte;
                }
            }
        }
    }

    fn write(&self, bar: u8, offset: u64, from: &[u8]) {
        match (bar, from.len()) {
            (DOORBELL_BAR, 8) => {
                let value = from.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
                mmio::doorbell(&self.core, offset, value, true);
            }
            (DOORBELL_BAR, 4) => {
                let value = from.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
                mmio::doorbell(&self.core, offset, value, false);
            }
            (REGISTER_BAR, 4 | 8) if offset & 3 == 0 => {
                for (i, dword) in from.chunks_exact(4).enumerate() {
                    let value = u32::from_le_bytes([dword[0], dword[1], dword[2], dword[3]]);
                    tracing::trace!(target: "mmio", at = offset + 4 * i as u64, value, "write");
                    mmio::write(&self.core, (offset / 4) as u32 + i as u32, value, false);
                }
            }
            _ => tracing::warn!(target: "mmio", bar, offset, len = from.len(), "store of an odd size"),
        }
    }

    fn reset(&self) {
        self.core.reset();
    }

    /// The driver's mode 1 reset is an order to the security processor, which a device whose firmware was not loaded
    /// by it does not have. What remains of the order on the bus is this; the driver expects a reset device.
    fn bus_master_off(&self) {
        tracing::info!(target: "pci", "bus mastering off: reset");
        self.core.board.counters.add(Counter::UnitResets, 1);
        self.core.reset();
    }

    fn halt(&self) {
        self.core.reset();
    }

    fn coverage(&self) -> Coverage {
        let state = self.core.lock();
        let mut coverage = Coverage::default();
        coverage.section("unknown registers", state.registers.unknown_lines());
        let mut network: Vec<_> = state.network.iter().collect();
        network.sort();
        let lines = network.iter().map(|(address, value)| format!("{address:#010x} = {value:#x}")).collect();
        coverage.section("registers of the system management network", lines);
        let packets = state.unknown_packets.iter().map(|(what, count)| format!("{what}: {count}"));
        coverage.section("unknown packets", packets.collect());
        coverage.section("counters", self.core.board.counters.lines());
        coverage
    }
}

/// Runs the queues of one engine.
#[derive(Debug)]
struct Runner {
    core: Arc<Core>,
    engine: EngineId,
    last: Option<QueueId>,
}

/// Packets after which another queue gets its turn.
const TURN: usize = 256;

impl Runner {
    fn new(core: &Arc<Core>, engine: EngineId) -> Runner {
        Runner { core: core.clone(), engine, last: None }
    }

    fn run(&self, job: &mut Job) -> End {
        for _ in 0..TURN {
            if job.token.wish() != Wish::Run {
                return End::Stopped;
            }
            if job.drained() {
                return End::Drained;
            }
            let result = match self.engine {
                EngineId::Cp => cp::step(&self.core, job),
                EngineId::Sdma(engine) => sdma::step(&self.core, engine, job),
            };
            if let Err(end) = result {
                return end;
            }
        }
        End::More
    }
}

impl Engine for Runner {
    fn step(&mut self) -> Progress {
        match self.core.take(self.engine, self.last) {
            Work::Nothing => Progress::Idle,
            Work::Later(time) => Progress::After(time),
            Work::Job(mut job) => {
                self.last = Some(job.id);
                let end = self.run(&mut job);
                self.core.finish(*job, end);
                Progress::More
            }
        }
    }
}
