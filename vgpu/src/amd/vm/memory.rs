//! Memory as one run of a queue sees it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::entry::{Entry, Target};
use super::hub::Place;
use super::walk::{Tables, walk};
use super::{Cause, Hive, Hub, HubId, Leaf, Owner, Tlb};
use crate::amd::address::{FrameAddr, GpuVa, McAddr, Va};
use crate::board::Board;
use crate::engine::{Cancelled, Gate, Permit, RunToken};
use crate::mem::{Access, Dma, Space, Span};

/// Everything that an address can lead to.
#[derive(Debug)]
pub struct Memory {
    /// The device's memory, alone or in a hive.
    pub hive: Hive,
    /// Guest memory and other devices.
    pub board: Arc<Board>,
    /// Cached translations.
    pub tlb: Tlb,
    /// Who is in memory right now.
    pub gate: Gate,
    hubs: [RwLock<Hub>; 2],
}

impl Memory {
    /// Memory whose hubs are in their state after power-on.
    pub fn new(hive: Hive, board: Arc<Board>, tlb: bool) -> Memory {
        Memory { hive, board, tlb: Tlb::new(tlb), gate: Gate::default(), hubs: Default::default() }
    }

    /// A hub, to look at. Nothing may be locked while it is held.
    pub fn hub(&self, hub: HubId) -> RwLockReadGuard<'_, Hub> {
        self.hubs[hub.index()].read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A hub, to change. Nothing may be locked while it is held.
    pub fn hub_mut(&self, hub: HubId) -> RwLockWriteGuard<'_, Hub> {
        self.hubs[hub.index()].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops kept translations when no access uses them any more. Not earlier: an access that is under way could keep what it
    /// found in the tables before they changed.
    pub fn invalidate(&self, hub: HubId, vmids: u16) {
        self.gate.exclusive(|| self.tlb.invalidate(hub, vmids));
    }

    /// The memory that a page table entry points to.
    pub fn resolve(&self, target: Target) -> Option<Span> {
        match target {
            Target::System(at) => self.board.resolve(at),
            Target::Frame(at) => self.hive.resolve(at),
        }
    }
}

impl Tables for Memory {
    fn load(&self, at: Target) -> Option<Entry> {
        match self.resolve(at)? {
            Span::Memory { mapping, offset, .. } => mapping.load64(offset).ok().map(Entry),
            Span::Null { .. } => None,
        }
    }
}

/// An access that the page tables refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFault {
    /// Whose access.
    pub owner: Owner,
    /// The address.
    pub va: Va,
    /// What the access wanted.
    pub access: Access,
    /// What the tables said.
    pub cause: Cause,
}

/// Why an access stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryStop {
    /// The driver may be able to help.
    Fault(PageFault),
    /// Nobody can: the tables lead nowhere.
    Broken(String),
    /// The run was cancelled.
    Cancelled,
}

impl From<Cancelled> for MemoryStop {
    fn from(_: Cancelled) -> Self {
        MemoryStop::Cancelled
    }
}

/// Memory as one run sees it.
#[derive(Debug, Clone, Copy)]
pub struct RunMemory<'a> {
    /// All memory.
    pub memory: &'a Memory,
    /// Whose address space.
    pub owner: Owner,
    /// The run that accesses.
    pub token: &'a RunToken,
}

impl RunMemory<'_> {
    /// An address of a packet in the space of this run.
    pub fn at(&self, address: u64) -> Va {
        Va::new(self.owner.slot == 0, address)
    }

    /// The page of the GART that holds an address.
    fn gart_leaf(&self, at: McAddr) -> Result<Leaf, Cause> {
        let (place, root) = {
            let hub = self.memory.hub(self.owner.hub);
            (hub.place(at.0), hub.context(0).root())
        };
        let Some(Place::Gart(offset)) = place else { return Err(Cause::NotValid) };
        let entry = self.memory.load(root.target().plus((offset >> 12) * 8));
        // The driver's own pages carry no access rights.
        let leaf = Leaf::new(entry.ok_or(Cause::NotValid)?, 12)?;
        Ok(Leaf { readable: true, writable: true, ..leaf })
    }

    /// Where an address of the apertures without page tables leads.
    fn aperture(&self, at: McAddr) -> Option<Target> {
        match self.memory.hub(self.owner.hub).place(at.0)? {
            Place::Frame(offset) => Some(Target::Frame(FrameAddr(offset))),
            Place::Agp(bus) => Some(Target::System(Dma(bus))),
            Place::Gart(_) => None,
        }
    }

    fn process_leaf(&self, va: GpuVa) -> Result<Leaf, Cause> {
        let context = self.memory.hub(self.owner.hub).context(self.owner.slot);
        walk(self.memory, context.root(), context.shape(), va)
    }

    fn leaf(&self, at: Va, access: Access) -> Result<Leaf, Cause> {
        let address = at.get();
        let kept = self.memory.tlb.get(self.owner, address).filter(|leaf| leaf.check(access).is_ok());
        if let Some(leaf) = kept {
            return Ok(leaf);
        }
        // A kept translation that forbids the access is walked again before it counts as a fault.
        let leaf = match at {
            Va::Mc(at) => self.gart_leaf(at)?,
            Va::Process(va) => self.process_leaf(va)?,
        };
        leaf.check(access)?;
        tracing::trace!(target: "vm", owner = ?self.owner, at = address, ?leaf, "walked");
        self.memory.tlb.keep(self.owner, address, leaf);
        Ok(leaf)
    }
}

impl Space for RunMemory<'_> {
    type Addr = Va;
    type Error = MemoryStop;

    fn translate(&self, at: Va, access: Access) -> Result<Span, MemoryStop> {
        let nowhere =
            |target: Target| MemoryStop::Broken(format!("{at:?} leads to {target:?}: no memory there"));
        if let Va::Mc(mc) = at {
            if let Some(target) = self.aperture(mc) {
                return self.memory.resolve(target).ok_or_else(|| nowhere(target));
            }
        }
        let leaf = self
            .leaf(at, access)
            .map_err(|cause| MemoryStop::Fault(PageFault { owner: self.owner, va: at, access, cause }))?;
        let size = 1u64 << leaf.shift;
        let inside = at.get() & (size - 1);
        let Some(target) = leaf.target else { return Ok(Span::Null { len: size - inside }) };
        let target = target.plus(inside);
        let span = self.memory.resolve(target).ok_or_else(|| nowhere(target))?;
        Ok(span.cut(size - inside))
    }

    fn enter(&self) -> Result<Permit<'_>, MemoryStop> {
        Ok(self.memory.gate.enter(self.token)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amd::vm::testing::{FRAME, GART, Setup};
    use crate::mem;

    const VA: u64 = 0x7f00_0000_0000;

    #[test]
    fn kernel_apertures() {
        let setup = Setup::new();
        let token = RunToken::new();
        let run = setup.run(0, &token);
        mem::write32(&run, run.at(FRAME + 0x5000), 0x1234).unwrap();
        assert_eq!(setup.vram().load32(0x5000), Ok(0x1234));
        setup.gart(3, Entry::system(0x8000, false));
        mem::write32(&run, run.at(GART + 0x3010), 77).unwrap();
        assert_eq!(setup.guest32(0x8010), 77);
        let stop = mem::read32(&run, run.at(GART + 0x4000)).unwrap_err();
        assert!(matches!(stop, MemoryStop::Fault(PageFault { cause: Cause::NotValid, .. })), "{stop:?}");
        assert!(mem::read32(&run, run.at(0x10)).is_err(), "outside every aperture");
    }

    #[test]
    fn processes_and_their_faults() {
        let setup = Setup::new();
        let token = RunToken::new();
        let run = setup.run(8, &token);
        let tables = setup.process(8, 0x10_0000);
        tables.map(VA, Entry::system(0x4000, false));
        tables.map(VA + 0x1000, Entry::frame(0x9000, true));
        let mut traffic = mem::Traffic::default();
        mem::copy(&run, run.at(VA + 0x800), &run, run.at(VA + 0x1000), 0x800, &mut traffic).unwrap();
        assert_eq!(traffic.to_vram, 0x800);
        let stop = mem::write32(&run, run.at(VA), 1).unwrap_err();
        let MemoryStop::Fault(fault) = stop else { panic!("{stop:?}") };
        assert_eq!((fault.cause, fault.owner.vmid()), (Cause::NoWrite, 8));
        // More rights need no invalidation, fewer do.
        tables.map(VA, Entry::system(0x4000, true));
        assert_eq!(mem::write32(&run, run.at(VA), 1), Ok(()));
        tables.map(VA, Entry::default());
        assert_eq!(mem::read32(&run, run.at(VA)), Ok(1), "kept");
        setup.memory.invalidate(HubId::Mm, 1 << 8);
        assert!(mem::read32(&run, run.at(VA)).is_err());
    }

    /// The driver makes a large page of any memory without a gap.
    #[test]
    fn large_pages_begin_at_any_small_one() {
        let setup = Setup::new();
        let token = RunToken::new();
        let run = setup.run(8, &token);
        let tables = setup.process(8, 0x10_0000);
        tables.map_large(VA, Entry::frame(0x5000, true));
        setup.vram().store32(0x5010, 1).unwrap();
        setup.vram().store32(0x5000 + 0x12_3450, 2).unwrap();
        assert_eq!(mem::read32(&run, run.at(VA + 0x10)), Ok(1));
        assert_eq!(mem::read32(&run, run.at(VA + 0x12_3450)), Ok(2), "also when the translation is kept");
    }

    #[test]
    fn an_access_under_way_keeps_nothing_past_an_invalidation() {
        let setup = Setup::new();
        let token = RunToken::new();
        let run = setup.run(8, &token);
        let tables = setup.process(8, 0x10_0000);
        tables.map(VA, Entry::frame(0x9000, true));
        setup.vram().store32(0x9000, 1).unwrap();
        setup.vram().store32(0xa000, 2).unwrap();
        let permit = run.enter().unwrap();
        std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::channel();
            let invalidation = scope.spawn({
                let memory = &setup.memory;
                move || {
                    sender.send(()).unwrap();
                    memory.invalidate(HubId::Mm, 1 << 8);
                }
            });
            receiver.recv().unwrap();
            // Time for the mistake this is about; the order is right whenever the invalidation begins.
            std::thread::sleep(std::time::Duration::from_millis(50));
            run.translate(run.at(VA), Access::Read).unwrap();
            tables.map(VA, Entry::frame(0xa000, true));
            drop(permit);
            invalidation.join().unwrap();
        });
        assert_eq!(mem::read32(&run, run.at(VA)), Ok(2));
    }

    #[test]
    fn cancelled_run_touches_nothing() {
        let setup = Setup::new();
        let token = RunToken::new();
        token.cancel();
        let run = setup.run(0, &token);
        assert_eq!(mem::write32(&run, run.at(FRAME), 1), Err(MemoryStop::Cancelled));
    }
}
