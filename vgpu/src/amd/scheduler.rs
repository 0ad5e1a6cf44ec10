//! The scheduler that the firmware of the command processor is: processes, their VMIDs, and their queues.

use std::collections::BTreeMap;

use super::cp::Process;
use super::cp::packet::MapQueues;
use super::queue::{Buffer, Cursor, Ring};
use super::registers::at;
use super::stream::qword;
use super::vm::{HubId, Owner, VMIDS};

/// Dwords of a queue descriptor that the scheduler reads.
pub const DESCRIPTOR: usize = 192;

/// Positions in the descriptor of an SDMA queue (`v9_structs.h`, `v9_sdma_mqd`).
mod sdma_descriptor {
    pub(super) const RB_CNTL: usize = 0;
    pub(super) const RB_BASE: usize = 1;
    pub(super) const RB_RPTR: usize = 3;
    pub(super) const RB_WPTR: usize = 5;
    pub(super) const RB_RPTR_ADDR_HI: usize = 8;
    pub(super) const RB_RPTR_ADDR_LO: usize = 9;
    pub(super) const IB_RPTR: usize = 11;
    pub(super) const IB_BASE: usize = 13;
    pub(super) const IB_SIZE: usize = 15;
    pub(super) const MIDCMD_DATA0: usize = 32;
}

/// Position of the banked registers in the descriptor of a compute queue (`v9_mqd`).
const BANK: usize = 128;

/// A queue that the scheduler placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// SDMA engine; `None` for a compute queue.
    pub sdma: Option<usize>,
    /// Where its descriptor lies, in VMID 0.
    pub descriptor: u64,
    /// Byte offset of its doorbell.
    pub doorbell: u32,
    /// Packets and positions.
    pub ring: Ring,
}

impl Scheduled {
    /// A queue as its descriptor left it; the producer may be further than the descriptor knows.
    pub fn load(
        map: &MapQueues,
        words: &[u32; DESCRIPTOR],
        slot: u32,
        process: &Process,
        write: Option<u64>,
    ) -> (Scheduled, Cursor) {
        let sdma = map.sdma().map(|engine| engine as usize);
        let hub = if sdma.is_some() { HubId::Mm } else { HubId::Gc };
        let owner = Owner { hub, slot };
        let pair = |low: usize| qword(words[low], words[low + 1]);
        let mut cursor = Cursor::default();
        let ring = if sdma.is_some() {
            use sdma_descriptor as d;
            // A preempted queue left the position inside its packet here.
            cursor.done = pair(d::MIDCMD_DATA0);
            if words[d::IB_SIZE] > 0 {
                let (base, size, at) = (pair(d::IB_BASE), words[d::IB_SIZE], words[d::IB_RPTR]);
                cursor.buffers.push(Buffer { base, size: size.into(), at: at.into(), owner });
            }
            cursor.busy = cursor.done > 0 || !cursor.buffers.is_empty();
            Ring {
                base: pair(d::RB_BASE) << 8,
                size: 1 << ((words[d::RB_CNTL] >> 1) & 0x1f),
                read: pair(d::RB_RPTR) / 4,
                write: write.unwrap_or_else(|| pair(d::RB_WPTR)) / 4,
                owner,
                pasid: process.pasid,
                report: qword(words[d::RB_RPTR_ADDR_LO] & !3, words[d::RB_RPTR_ADDR_HI]),
                retry_disabled: process.retry_disabled(),
            }
        } else {
            use at::hqd as h;
            let bank = |register: usize| words[BANK + register];
            let size = 2 << (bank(h::PQ_CONTROL) & 0x3f).min(28);
            Ring {
                base: pair(BANK + h::PQ_BASE) << 8,
                size,
                read: u64::from(bank(h::PQ_RPTR)) % size,
                write: write.unwrap_or_else(|| pair(BANK + h::PQ_WPTR)) % size,
                owner,
                pasid: process.pasid,
                report: qword(bank(h::PQ_RPTR_REPORT_ADDR) & !3, bank(h::PQ_RPTR_REPORT_ADDR + 1) & 0xffff),
                retry_disabled: process.retry_disabled(),
            }
        };
        let queue = Scheduled { sdma, descriptor: map.descriptor, doorbell: map.doorbell, ring };
        (queue, cursor)
    }

    /// What has to be written into the descriptor when the queue is taken off: position and dword.
    pub fn save(&self, cursor: &Cursor) -> Vec<(usize, u32)> {
        let split = |at: usize, value: u64| [(at, value as u32), (at + 1, (value >> 32) as u32)];
        let mut words = Vec::new();
        if self.sdma.is_none() {
            words.push((BANK + at::hqd::PQ_RPTR, (self.ring.read % self.ring.size) as u32));
            words.extend(split(BANK + at::hqd::PQ_WPTR, self.ring.write));
            return words;
        }
        use sdma_descriptor as d;
        words.extend(split(d::RB_RPTR, self.ring.read * 4));
        words.extend(split(d::RB_WPTR, self.ring.write * 4));
        words.extend(split(d::MIDCMD_DATA0, cursor.done));
        let buffer = cursor.buffers.last();
        words.extend(split(d::IB_BASE, buffer.map_or(0, |b| b.base)));
        words.push((d::IB_SIZE, buffer.map_or(0, |b| b.size as u32)));
        words.push((d::IB_RPTR, buffer.map_or(0, |b| b.at as u32)));
        words
    }
}

/// VMIDs that belong to the scheduler until the driver says otherwise.
const USUAL_VMIDS: u16 = 0xff00;

/// Processes and queues.
#[derive(Debug)]
pub struct Scheduler {
    vmids: u16,
    processes: BTreeMap<u32, u32>,
    queues: BTreeMap<u32, Scheduled>,
    next: u32,
}

impl Default for Scheduler {
    fn default() -> Self {
        Scheduler { vmids: USUAL_VMIDS, processes: BTreeMap::new(), queues: BTreeMap::new(), next: 0 }
    }
}

impl Scheduler {
    /// The driver says which VMIDs are ours.
    pub fn set_vmids(&mut self, vmids: u16) {
        self.vmids = vmids;
    }

    /// A slot for a process: a free VMID, or a number behind them.
    pub fn admit(&mut self, pasid: u32) -> u32 {
        let free = |slot: &u32| !self.processes.contains_key(slot);
        let slot = (1..VMIDS).filter(|v| self.vmids >> v & 1 == 1).find(free);
        let slot = slot.unwrap_or_else(|| (VMIDS..).find(free).unwrap_or(u32::MAX));
        self.processes.insert(slot, pasid);
        slot
    }

    /// The process in a slot.
    pub fn pasid(&self, slot: u32) -> Option<u32> {
        self.processes.get(&slot).copied()
    }

    /// Slots of a process.
    pub fn slots(&self, pasid: u32) -> Vec<u32> {
        self.processes.iter().filter(|(_, p)| **p == pasid).map(|(slot, _)| *slot).collect()
    }

    /// Forgets all processes and tells their slots.
    pub fn clear_processes(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.processes).into_keys().collect()
    }

    /// Adds a queue.
    pub fn add(&mut self, queue: Scheduled) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.queues.insert(number, queue);
        number
    }

    /// A queue.
    pub fn queue(&self, number: u32) -> Option<&Scheduled> {
        self.queues.get(&number)
    }

    /// A queue, to change.
    pub fn queue_mut(&mut self, number: u32) -> Option<&mut Scheduled> {
        self.queues.get_mut(&number)
    }

    /// All queues.
    pub fn queues(&self) -> impl Iterator<Item = (u32, &Scheduled)> {
        self.queues.iter().map(|(number, queue)| (*number, queue))
    }

    /// Takes a queue off.
    pub fn remove(&mut self, number: u32) -> Option<Scheduled> {
        self.queues.remove(&number)
    }

    /// The queue that listens to a doorbell.
    pub fn listener(&self, offset: u32) -> Option<u32> {
        self.queues.iter().find(|(_, q)| q.doorbell == offset).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        Process { pasid: 0x8001, root: 1, memory_config: 0, queues: vec![] }
    }

    fn map(engine: u32) -> MapQueues {
        MapQueues {
            engine,
            extended: 0,
            slot: (1, 0, 0),
            doorbell: 0x40,
            descriptor: 0x1000,
            write_pointer: 0,
        }
    }

    #[test]
    fn vmids_first_then_beyond() {
        let mut s = Scheduler::default();
        s.set_vmids(0x0c00);
        assert_eq!([s.admit(1), s.admit(2), s.admit(3), s.admit(4)], [10, 11, 16, 17]);
        assert_eq!((s.pasid(16), s.slots(2)), (Some(3), vec![11]));
        assert_eq!(s.clear_processes(), [10, 11, 16, 17]);
        assert_eq!(s.admit(5), 10);
    }

    #[test]
    fn sdma_queue_survives_being_taken_off() {
        let mut words = [0; DESCRIPTOR];
        words[0] = 12 << 1;
        words[1] = 0x7f00;
        words[8] = 0x7f;
        words[9] = 0x1234;
        let (mut queue, mut cursor) = Scheduled::load(&map(2), &words, 9, &process(), Some(0x80));
        assert_eq!((queue.sdma, queue.ring.size, queue.ring.base), (Some(0), 4096, 0x7f_0000));
        assert_eq!((queue.ring.pending(), queue.ring.report), (32, 0x7f_0000_1234));
        queue.ring.read = 7;
        cursor.done = 0x1_0000_1000;
        cursor.buffers = vec![Buffer { base: 0x5000, size: 64, at: 6, owner: queue.ring.owner }];
        for (at, word) in queue.save(&cursor) {
            words[at] = word;
        }
        let (again, back) = Scheduled::load(&map(2), &words, 9, &process(), None);
        assert_eq!(again, queue);
        assert_eq!((back.done, &back.buffers), (cursor.done, &cursor.buffers));
    }

    #[test]
    fn compute_queue_survives_being_taken_off() {
        let mut words = [0; DESCRIPTOR];
        words[136] = 0x100;
        words[145] = 9;
        words[139] = 0x2000;
        let (mut queue, cursor) = Scheduled::load(&map(0), &words, 9, &process(), Some(5));
        assert_eq!((queue.ring.size, queue.ring.base, queue.ring.report), (1024, 0x1_0000, 0x2000));
        queue.ring.read = 3;
        for (at, word) in queue.save(&cursor) {
            words[at] = word;
        }
        assert_eq!(Scheduled::load(&map(0), &words, 9, &process(), None).0, queue);
    }
}
