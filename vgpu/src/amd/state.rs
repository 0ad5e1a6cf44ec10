//! What changes under the device's lock, and how registers become queues.

use std::collections::{BTreeMap, HashMap};

use super::asic::Asic;
use super::faults::Faults;
use super::queue::{EngineId, QueueId, Ring, Run, Slot};
use super::registers::{self, Hook, at};
use super::scheduler::Scheduler;
use super::stream::qword;
use super::vm::{HubId, Owner};
use crate::regs::RegisterFile;

/// The banked registers of one queue of the command processor.
pub type Bank = [u32; at::CP_HQD_COUNT as usize];

/// Everything behind the lock.
#[derive(Debug)]
pub struct State {
    asic: &'static Asic,
    /// Registers of the register BAR.
    pub registers: RegisterFile<Hook>,
    /// Registers of the system management network.
    pub network: HashMap<u32, u32>,
    /// Banked registers.
    pub banks: BTreeMap<Slot, Bank>,
    /// Queues that the scheduler placed.
    pub scheduler: Scheduler,
    /// How engines handle the queues.
    pub runs: BTreeMap<QueueId, Run>,
    /// Low halves of doorbells that are written in two pieces.
    pub half_doorbells: HashMap<u64, u32>,
    /// Page faults that wait for the driver.
    pub faults: Faults,
    /// Packets that the model does not know, with how often they came.
    pub unknown_packets: BTreeMap<String, u64>,
}

/// Size of a ring of the command processor in dwords, from the size field of its control register.
fn cp_ring_size(control: u32) -> u64 {
    2 << (control & 0x3f).min(28)
}

impl State {
    /// The state after power-on.
    pub fn new(asic: &'static Asic) -> State {
        State {
            asic,
            registers: RegisterFile::new(registers::table(asic)),
            network: HashMap::new(),
            banks: BTreeMap::new(),
            scheduler: Scheduler::default(),
            runs: BTreeMap::new(),
            half_doorbells: HashMap::new(),
            faults: Faults::default(),
            unknown_packets: BTreeMap::new(),
        }
    }

    /// Back to the state after power-on; what was recorded stays.
    pub fn reset(&mut self) {
        self.registers.reset();
        self.banks.clear();
        self.scheduler = Scheduler::default();
        self.runs.clear();
        self.half_doorbells.clear();
        self.faults = Faults::default();
    }

    /// The queue that banked registers belong to now.
    pub fn selected_slot(&self) -> Slot {
        let select = self.registers.get(at::GRBM_GFX_CNTL);
        ((select >> 2) & 3, select & 3, (select >> 8) & 7)
    }

    /// The process of a VMID.
    pub fn pasid(&self, owner: Owner) -> u32 {
        if let Some(pasid) = self.scheduler.pasid(owner.slot) {
            return pasid;
        }
        let table = if owner.hub == HubId::Mm { at::IH_VMID_0_LUT_MM } else { at::IH_VMID_0_LUT };
        if owner.slot == 0 { 0 } else { self.registers.get(table + owner.vmid()) & 0xffff }
    }

    fn low_high(&self, low: u32) -> u64 {
        qword(self.registers.get(low), self.registers.get(low + 1))
    }

    /// A queue as it stands; `None` when it is off.
    pub fn ring(&self, id: QueueId) -> Option<Ring> {
        match id {
            QueueId::Sdma { engine, ring } => self.sdma_ring(engine, ring),
            QueueId::Graphics => self.graphics_ring(),
            QueueId::Slot(slot) => self.slot_ring(slot),
            QueueId::Scheduled(number) => self.scheduler.queue(number).map(|q| q.ring),
        }
    }

    fn sdma_ring(&self, engine: usize, ring: u32) -> Option<Ring> {
        use at::sdma as s;
        let base = self.asic.sdma_ring(engine, ring);
        let control = self.registers.get(base + s::RB_CNTL);
        if control & 1 == 0 {
            return None;
        }
        // The rings of the driver work in VMID 0, those of processes in the one of the control register.
        let slot = if ring < 2 { 0 } else { (control >> 24) & 0xf };
        let owner = Owner { hub: HubId::Mm, slot };
        let report = qword(
            self.registers.get(base + s::RB_RPTR_ADDR_LO) & !3,
            self.registers.get(base + s::RB_RPTR_ADDR_HI),
        );
        Some(Ring {
            base: self.low_high(base + s::RB_BASE) << 8,
            size: 1 << ((control >> 1) & 0x1f),
            read: self.low_high(base + s::RB_RPTR) / 4,
            write: self.low_high(base + s::RB_WPTR) / 4,
            owner,
            pasid: self.pasid(owner),
            report,
            retry_disabled: false,
        })
    }

    fn graphics_ring(&self) -> Option<Ring> {
        let control = self.registers.get(at::CP_RB0_CNTL);
        let base =
            qword(self.registers.get(at::CP_RB0_BASE), self.registers.get(at::CP_RB0_BASE_HI) & 0xff) << 8;
        if base == 0 {
            return None;
        }
        let report = qword(
            self.registers.get(at::CP_RB0_RPTR_ADDR) & !3,
            self.registers.get(at::CP_RB0_RPTR_ADDR_HI) & 0xffff,
        );
        let size = cp_ring_size(control);
        Some(Ring {
            base,
            size,
            read: u64::from(self.registers.get(at::CP_RB0_RPTR)) % size,
            // The read pointer does not count on; neither may this one, or a full round would look like work.
            write: self.low_high(at::CP_RB0_WPTR) % size,
            owner: Owner::kernel(HubId::Gc),
            pasid: 0,
            report,
            retry_disabled: false,
        })
    }

    fn slot_ring(&self, slot: Slot) -> Option<Ring> {
        use at::hqd as h;
        let bank = self.banks.get(&slot)?;
        if bank[h::ACTIVE] & 1 == 0 {
            return None;
        }
        let owner = Owner { hub: HubId::Gc, slot: bank[h::VMID] & 0xf };
        let size = cp_ring_size(bank[h::PQ_CONTROL]);
        Some(Ring {
            base: qword(bank[h::PQ_BASE], bank[h::PQ_BASE + 1]) << 8,
            size,
            read: u64::from(bank[h::PQ_RPTR]) % size,
            write: qword(bank[h::PQ_WPTR], bank[h::PQ_WPTR + 1]) % size,
            owner,
            pasid: self.pasid(owner),
            report: qword(bank[h::PQ_RPTR_REPORT_ADDR] & !3, bank[h::PQ_RPTR_REPORT_ADDR + 1] & 0xffff),
            retry_disabled: false,
        })
    }

    /// Notes how far a queue is.
    pub fn set_read(&mut self, id: QueueId, read: u64) {
        match id {
            QueueId::Sdma { engine, ring } => {
                let base = self.asic.sdma_ring(engine, ring) + at::sdma::RB_RPTR;
                self.registers.set(base, (read * 4) as u32);
                self.registers.set(base + 1, ((read * 4) >> 32) as u32);
            }
            QueueId::Graphics => {
                let size = cp_ring_size(self.registers.get(at::CP_RB0_CNTL));
                self.registers.set(at::CP_RB0_RPTR, (read % size) as u32);
            }
            QueueId::Slot(slot) => {
                if let Some(bank) = self.banks.get_mut(&slot) {
                    bank[at::hqd::PQ_RPTR] = (read % cp_ring_size(bank[at::hqd::PQ_CONTROL])) as u32;
                }
            }
            QueueId::Scheduled(number) => {
                if let Some(queue) = self.scheduler.queue_mut(number) {
                    queue.ring.read = read;
                }
            }
        }
    }

    /// What the producer wrote to a queue's doorbell.
    pub fn set_write(&mut self, id: QueueId, value: u64) {
        let (low, high) = (value as u32, (value >> 32) as u32);
        match id {
            QueueId::Sdma { engine, ring } => {
                let base = self.asic.sdma_ring(engine, ring) + at::sdma::RB_WPTR;
                self.registers.set(base, low);
                self.registers.set(base + 1, high);
            }
            QueueId::Graphics => {
                self.registers.set(at::CP_RB0_WPTR, low);
                self.registers.set(at::CP_RB0_WPTR_HI, high);
            }
            QueueId::Slot(slot) => {
                if let Some(bank) = self.banks.get_mut(&slot) {
                    bank[at::hqd::PQ_WPTR] = low;
                    bank[at::hqd::PQ_WPTR + 1] = high;
                }
            }
            QueueId::Scheduled(number) => {
                if let Some(queue) = self.scheduler.queue_mut(number) {
                    queue.ring.write = if queue.sdma.is_some() { value / 4 } else { value % queue.ring.size };
                }
            }
        }
    }

    /// The engine that executes a queue.
    pub fn engine_of(&self, id: QueueId) -> Option<EngineId> {
        Some(match id {
            QueueId::Sdma { engine, .. } => EngineId::Sdma(engine),
            QueueId::Graphics | QueueId::Slot(_) => EngineId::Cp,
            QueueId::Scheduled(number) => {
                self.scheduler.queue(number)?.sdma.map_or(EngineId::Cp, EngineId::Sdma)
            }
        })
    }

    /// All queues of an engine that are on.
    pub fn queues(&self, engine: EngineId) -> Vec<QueueId> {
        let scheduled = self.scheduler.queues().map(|(number, _)| QueueId::Scheduled(number));
        let mut ids: Vec<QueueId> = match engine {
            EngineId::Sdma(engine) => {
                (0..self.asic.sdma_rings).map(|ring| QueueId::Sdma { engine, ring }).collect()
            }
            EngineId::Cp => {
                let slots = self.banks.keys().map(|slot| QueueId::Slot(*slot));
                let graphics = self.asic.graphics.then_some(QueueId::Graphics);
                slots.chain(graphics).collect()
            }
        };
        ids.extend(scheduled.filter(|id| self.engine_of(*id) == Some(engine)));
        ids
    }

    /// The queue that listens to a doorbell, by its byte offset.
    pub fn listener(&self, offset: u32) -> Option<QueueId> {
        const ADDRESS: u32 = 0x0fff_fffc;
        for engine in 0..self.asic.sdma.len() {
            for ring in 0..self.asic.sdma_rings {
                let base = self.asic.sdma_ring(engine, ring);
                let enabled = self.registers.get(base + at::sdma::DOORBELL) >> 28 & 1 == 1;
                if enabled && self.registers.get(base + at::sdma::DOORBELL_OFFSET) & ADDRESS == offset {
                    return Some(QueueId::Sdma { engine, ring });
                }
            }
        }
        let graphics = self.registers.get(at::CP_RB_DOORBELL_CONTROL);
        if self.asic.graphics && graphics >> 30 & 1 == 1 && graphics & ADDRESS == offset {
            return Some(QueueId::Graphics);
        }
        let mut banks = self.banks.iter();
        let bank = banks.find(|(_, b)| {
            b[at::hqd::ACTIVE] & 1 == 1 && b[at::hqd::PQ_DOORBELL_CONTROL] & ADDRESS == offset
        });
        if let Some((slot, _)) = bank {
            return Some(QueueId::Slot(*slot));
        }
        self.scheduler.listener(offset).map(QueueId::Scheduled)
    }

    /// Whether a queue belongs to the driver itself.
    pub fn is_kernel(ring: &Ring) -> bool {
        ring.owner.slot == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amd::asic::{MI200, VEGA10};

    #[test]
    fn sdma_registers_become_a_ring() {
        let mut s = State::new(&MI200);
        let base = MI200.sdma_ring(4, 3);
        assert_eq!(base, 0x1e800 + 0x80 + 3 * 0x60);
        s.registers.set(base + 1, 0x1000);
        s.registers.set(base + 2, 1);
        s.registers.set(base + 5, 0x40);
        s.registers.set(base + 0x12, 1 << 28);
        s.registers.set(base + 0x2b, 0x800);
        let id = QueueId::Sdma { engine: 4, ring: 3 };
        assert_eq!(s.ring(id), None, "off");
        s.registers.set(base, 1 | 10 << 1 | 9 << 24);
        s.registers.set(at::IH_VMID_0_LUT_MM + 9, 1 << 31 | 0x8005);
        let ring = s.ring(id).unwrap();
        assert_eq!((ring.base, ring.size, ring.pending()), (0x100_0010_0000, 1024, 16));
        assert_eq!((ring.owner.slot, ring.pasid), (9, 0x8005));
        assert_eq!(s.listener(0x800), Some(id));
        s.set_write(id, 0x80);
        s.set_read(id, 8);
        assert_eq!(s.ring(id).unwrap().pending(), 24);
    }

    #[test]
    fn banked_registers_become_a_ring() {
        let mut s = State::new(&VEGA10);
        s.registers.set(at::GRBM_GFX_CNTL, 2 << 8 | 1 << 2 | 3);
        assert_eq!(s.selected_slot(), (1, 3, 2));
        let mut bank = [0; at::CP_HQD_COUNT as usize];
        bank[at::hqd::ACTIVE] = 1;
        bank[at::hqd::PQ_BASE] = 0x100;
        bank[at::hqd::PQ_CONTROL] = 9;
        bank[at::hqd::PQ_DOORBELL_CONTROL] = 1 << 30 | 0x20;
        s.banks.insert((1, 3, 2), bank);
        let id = QueueId::Slot((1, 3, 2));
        assert_eq!(s.listener(0x20), Some(id));
        s.set_write(id, 1030);
        let ring = s.ring(id).unwrap();
        assert_eq!((ring.base, ring.size, ring.pending()), (0x10000, 1024, 6));
        assert_eq!(s.queues(EngineId::Cp), [id, QueueId::Graphics]);
        assert_eq!(s.queues(EngineId::Sdma(1)).len(), 4);
    }
}
