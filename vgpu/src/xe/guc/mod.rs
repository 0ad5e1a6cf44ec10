//! The firmware ("GuC") of a unit: requests, channels, contexts, scheduling.
//!
//! No firmware runs here; this is what the driver sees of one (`abi/guc_*_abi.h`, `xe_guc*.c`).

mod action;
mod context;
mod ctb;
mod mmio;
mod outbox;
mod pagefault;
mod schedule;
mod slpc;

use std::collections::{BTreeMap, HashMap, VecDeque};

pub use context::{Context, Doing, Lease, Verdict};
pub use ctb::{Ctb, CtbError, Message};
pub use schedule::Next;

use super::core::{Core, State};
use super::memory::GgttAddr;
use super::topology::ENGINES;
use outbox::Outbox;
use pagefault::PendingFault;
use schedule::Blocked;

/// State of the firmware of one unit.
#[derive(Debug)]
pub struct Guc {
    /// The unit it belongs to.
    pub unit: usize,
    running: bool,
    /// A request was put into the registers since the last doorbell.
    requested: bool,
    /// Configuration given by the driver, by key.
    config: HashMap<u16, u64>,
    channels: bool,
    contexts: BTreeMap<u32, Context>,
    /// Contexts that want to run, by engine.
    ready: Vec<VecDeque<u32>>,
    /// Engines that a hanging context holds.
    blocked: Vec<Option<Blocked>>,
    /// Counts registrations, so that a context is not mistaken for an older one of the same number.
    generation: u64,
    faults: Vec<PendingFault>,
    next_fault: u16,
    outbox: Outbox,
    unknown: BTreeMap<u32, u64>,
}

impl Guc {
    /// Firmware that has not been loaded.
    pub fn new(unit: usize) -> Guc {
        Guc {
            unit,
            running: false,
            requested: false,
            config: HashMap::new(),
            channels: false,
            contexts: BTreeMap::new(),
            ready: vec![VecDeque::new(); ENGINES.len()],
            blocked: vec![None; ENGINES.len()],
            generation: 0,
            faults: Vec::new(),
            next_fault: 0,
            outbox: Outbox::default(),
            unknown: BTreeMap::new(),
        }
    }

    /// The firmware was loaded and started.
    pub fn start(&mut self) {
        self.running = true;
    }

    /// A request was written into the registers.
    pub fn note_request(&mut self) {
        self.requested = true;
    }

    /// A context, if registered.
    #[cfg(test)]
    pub(crate) fn context(&self, id: u32) -> Option<&Context> {
        self.contexts.get(&id)
    }

    /// What the driver asked for that the model does not know.
    pub fn unknown_lines(&self) -> Vec<String> {
        self.unknown
            .iter()
            .map(|(code, n)| format!("unit {} action {code:#06x} requests {n}", self.unit))
            .collect()
    }
}

/// The firmware of one unit at work, with everything it can reach.
#[derive(Debug)]
pub struct Firmware<'a> {
    /// The device.
    pub core: &'a Core,
    /// Its state.
    pub state: &'a mut State,
    /// Which unit.
    pub unit: usize,
}

impl<'a> Firmware<'a> {
    /// The firmware of `unit`.
    pub fn of(core: &'a Core, state: &'a mut State, unit: usize) -> Firmware<'a> {
        Firmware { core, state, unit }
    }

    fn guc(&mut self) -> &mut Guc {
        &mut self.state.gucs[self.unit]
    }

    /// The doorbell rang: a request in the registers, messages in the channel, or both.
    pub fn doorbell(&mut self) {
        if !self.guc().running {
            tracing::warn!(target: "guc", unit = self.unit, "doorbell, but no firmware runs");
            return;
        }
        if std::mem::take(&mut self.guc().requested) {
            self.serve_registers();
        }
        if self.guc().channels {
            self.serve_channel();
        }
        self.deliver();
    }

    /// A reset of the unit: everything stops, the firmware has to be loaded again.
    pub fn reset(&mut self) {
        for context in self.guc().contexts.values() {
            context.token.cancel();
        }
        // From here on no run that was cancelled touches memory.
        self.core.memory.gate.drain();
        self.core.memory.tlb.invalidate_all();
        let fresh = Guc::new(self.unit);
        let old = std::mem::replace(self.guc(), fresh);
        let guc = self.guc();
        guc.generation = old.generation;
        guc.next_fault = old.next_fault;
        guc.unknown = old.unknown;
        tracing::info!(target: "guc", unit = self.unit, contexts = old.contexts.len(), "reset");
    }

    fn config_address(&mut self, key: u16) -> GgttAddr {
        GgttAddr(self.guc().config.get(&key).copied().unwrap_or(0))
    }

    fn channel(&mut self, keys: [u16; 3]) -> Option<Ctb> {
        let size = self.guc().config.get(&keys[2]).copied().unwrap_or(0) / 4;
        let ctb = Ctb {
            buffer: self.config_address(keys[0]),
            descriptor: self.config_address(keys[1]),
            size: u32::try_from(size).ok()?,
        };
        (ctb.size > 1).then_some(ctb)
    }

    /// Channel from the driver: keys of buffer, descriptor and size.
    fn host_to_guc(&mut self) -> Option<Ctb> {
        self.channel([0x902, 0x903, 0x904])
    }

    /// Channel to the driver.
    fn guc_to_host(&mut self) -> Option<Ctb> {
        self.channel([0x905, 0x906, 0x907])
    }
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests;
