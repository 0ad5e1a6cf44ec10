//! The parts of a device and who may touch them: memory without a lock, the state behind one.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::guc::Guc;
use super::irq::Interrupts;
use super::memory::{Ggtt, Tlb, XeMemory};
use super::registers::{self, Key};
use super::topology::{ENGINES, MAIN, MEDIA, Source};
use crate::board::Board;
use crate::engine::{Gate, Waker};
use crate::mem::{Mapping, Vram};
use crate::profile::Profile;
use crate::regs::RegisterFile;

/// Size of the register BAR.
pub const BAR0_SIZE: u64 = 16 << 20;
/// Where the global table starts in it.
pub const GGTT_OFFSET: u64 = 8 << 20;
/// Device memory unless the profile says otherwise; 1 GiB is the smallest size the driver can express.
pub const USUAL_VRAM: u64 = 1 << 30;
/// With less, the driver's own objects leave no room for migrated pages.
const SMALLEST_VRAM: u64 = 128 << 20;

/// A device, shared by the message loop and the engine threads.
///
/// Lock order: the state may be locked first and then the gate drained; an engine that holds a permit of the gate
/// must not lock the state.
#[derive(Debug)]
pub struct Core {
    /// Surroundings.
    pub board: Arc<Board>,
    /// Register BAR; the part from [`GGTT_OFFSET`] on is mapped into the guest.
    pub bar0: Arc<Mapping>,
    /// Memory and translations.
    pub memory: XeMemory,
    /// Wakes the engines, by index in [`ENGINES`].
    pub engines: Vec<Waker>,
    /// Wakes the thread that delivers delayed messages of the firmware.
    pub postman: Waker,
    started: Instant,
    state: Mutex<State>,
}

/// What changes under a lock.
#[derive(Debug)]
pub struct State {
    /// Registers.
    pub registers: RegisterFile<Key>,
    /// Interrupts.
    pub irq: Interrupts,
    /// Firmware of the units, main and media.
    pub gucs: [Guc; 2],
    /// Instructions met that the model does not know, by description.
    pub unknown_instructions: BTreeMap<String, u64>,
}

impl Core {
    /// A device after power-on; no thread runs yet.
    pub fn new(board: Arc<Board>, profile: &Profile) -> io::Result<Core> {
        let size = profile.vram.unwrap_or(USUAL_VRAM);
        if size < SMALLEST_VRAM {
            return Err(io::Error::other("an Intel device needs at least 128 MiB of memory"));
        }
        let bar0 = Arc::new(Mapping::new("bar0", BAR0_SIZE)?);
        let memory = XeMemory {
            vram: Vram::new(registers::installed(size))?,
            ggtt: Ggtt::new(bar0.clone(), GGTT_OFFSET),
            board: board.clone(),
            tlb: Tlb::new(profile.tlb),
            gate: Gate::default(),
        };
        let state = State {
            registers: RegisterFile::new(registers::table(profile, size)),
            irq: Interrupts::default(),
            gucs: [Guc::new(MAIN), Guc::new(MEDIA)],
            unknown_instructions: BTreeMap::new(),
        };
        Ok(Core {
            board,
            bar0,
            memory,
            engines: ENGINES.iter().map(|_| Waker::default()).collect(),
            postman: Waker::default(),
            started: Instant::now(),
            state: Mutex::new(state),
        })
    }

    /// Locks the state.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device's clock: 19.2 MHz since power-on.
    pub fn clock(&self) -> u64 {
        ticks(self.started.elapsed())
    }

    /// Raises an interrupt.
    pub fn raise(&self, state: &mut State, source: Source, vector: u16) {
        if state.irq.raise(source, vector) {
            self.board.interrupt();
        }
    }
}

/// A time in ticks of 19.2 MHz.
fn ticks(time: std::time::Duration) -> u64 {
    (time.as_nanos() * 192 / 10_000) as u64
}
