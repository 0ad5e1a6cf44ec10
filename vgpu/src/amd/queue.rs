//! Queues: where their packets lie, how far they are, and what holds them up.

use std::time::{Duration, Instant};

use super::vm::Owner;
use crate::engine::RunToken;

/// A slot of the command processor: micro engine, pipe, queue.
pub type Slot = (u32, u32, u32);

/// A queue of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueId {
    /// A register ring of an SDMA engine.
    Sdma {
        /// Engine.
        engine: usize,
        /// Ring.
        ring: u32,
    },
    /// The graphics ring.
    Graphics,
    /// A slot of the command processor.
    Slot(Slot),
    /// A queue that the scheduler placed.
    Scheduled(u32),
}

/// What executes queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineId {
    /// The command processor.
    Cp,
    /// An SDMA engine.
    Sdma(usize),
}

/// Where a queue's packets lie and how far it is; positions in dwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ring {
    /// First byte.
    pub base: u64,
    /// Dwords.
    pub size: u64,
    /// Position of the engine.
    pub read: u64,
    /// Position of the producer.
    pub write: u64,
    /// Address space.
    pub owner: Owner,
    /// Process, for interrupts.
    pub pasid: u32,
    /// Where the read pointer is reported; 0 for nowhere.
    pub report: u64,
    /// A failed access is final, whatever the context says.
    pub retry_disabled: bool,
}

impl Ring {
    /// Dwords that wait.
    pub fn pending(&self) -> u64 {
        if self.write >= self.read && self.write - self.read <= self.size {
            self.write - self.read
        } else {
            (self.write % self.size + self.size - self.read % self.size) % self.size
        }
    }

    /// The position `count` dwords further on; follows the producer when it has started to count anew.
    pub fn advanced(&self, count: u64) -> u64 {
        let left = self.pending().saturating_sub(count);
        if self.write >= left { self.write - left } else { (self.read + count) % self.size }
    }
}

/// An indirect buffer that is being executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// First byte.
    pub base: u64,
    /// Dwords.
    pub size: u64,
    /// Position.
    pub at: u64,
    /// Address space.
    pub owner: Owner,
}

/// How far the packet at the head of a queue has got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Indirect buffers inside each other, the innermost last.
    pub buffers: Vec<Buffer>,
    /// Bytes that the packet has done.
    pub done: u64,
    /// Whether trouble on purpose has been asked about the packet.
    pub asked: bool,
    /// Whether the queue is in the middle of a batch.
    pub busy: bool,
    /// The packet has faulted and is being repeated.
    pub faulted: bool,
    /// A delay on purpose, until then.
    pub until: Option<Instant>,
}

impl Cursor {
    /// The packet is done.
    pub fn next_packet(&mut self) {
        self.done = 0;
        self.asked = false;
        self.until = None;
    }
}

/// Why a queue does not go on by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hung {
    /// Something it cannot go on from; the scheduler can still take it off.
    Soft(String),
    /// Not even that.
    Hard(String),
}

/// A queue as an engine handles it.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Tells the engine to stop.
    pub token: RunToken,
    /// An engine works on it right now.
    pub running: bool,
    /// Goes on no more.
    pub hung: Option<Hung>,
    /// Not before this time.
    pub wait_until: Option<Instant>,
    /// Inside the packet.
    pub cursor: Cursor,
}

/// Work that an engine has taken.
#[derive(Debug)]
pub struct Job {
    /// The queue.
    pub id: QueueId,
    /// Its state; `read` advances while the engine works.
    pub ring: Ring,
    /// Inside the packet.
    pub cursor: Cursor,
    /// Tells to stop.
    pub token: RunToken,
}

impl Job {
    /// Address space of what is being executed.
    pub fn owner(&self) -> Owner {
        self.cursor.buffers.last().map_or(self.ring.owner, |b| b.owner)
    }

    /// Goes on by `count` dwords.
    pub fn advance(&mut self, count: u64) {
        match self.cursor.buffers.last_mut() {
            Some(buffer) => buffer.at += count,
            None => self.ring.read = self.ring.advanced(count),
        }
        self.cursor.next_packet();
    }

    /// Leaves indirect buffers that have ended.
    pub fn leave_buffers(&mut self) {
        while self.cursor.buffers.last().is_some_and(|b| b.at >= b.size) {
            self.cursor.buffers.pop();
        }
    }

    /// Whether nothing is left.
    pub fn drained(&self) -> bool {
        self.cursor.buffers.is_empty() && self.ring.pending() == 0
    }
}

/// How a piece of work ended.
#[derive(Debug)]
pub enum End {
    /// Nothing is left.
    Drained,
    /// There is more.
    More,
    /// Somebody wants the queue to stop.
    Stopped,
    /// Look again after a while.
    Wait(Duration),
    /// A page fault.
    Fault(super::vm::PageFault),
    /// It cannot go on.
    Hung(Hung),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amd::vm::HubId;

    fn ring(size: u64, read: u64, write: u64) -> Ring {
        let owner = Owner { hub: HubId::Mm, slot: 0 };
        Ring { base: 0, size, read, write, owner, pasid: 0, report: 0, retry_disabled: false }
    }

    #[test]
    fn pointers_that_count_on() {
        let r = ring(16, 100, 110);
        assert_eq!((r.pending(), r.advanced(4)), (10, 104));
        assert_eq!(ring(16, 110, 110).pending(), 0);
        assert_eq!(ring(16, 94, 110).pending(), 16, "full");
    }

    #[test]
    fn pointers_that_wrap() {
        let r = ring(16, 14, 2);
        assert_eq!((r.pending(), r.advanced(1)), (4, 15));
        assert_eq!(r.advanced(4), 2);
        assert_eq!(Ring { read: r.advanced(2), ..r }.pending(), 2);
    }

    #[test]
    fn producer_that_starts_anew() {
        // The descriptor was loaded with an old position while the producer counts on.
        let r = ring(16, 3, 1003);
        assert_eq!(r.pending(), 8, "as far as the ring can tell");
        assert_eq!(Ring { read: r.advanced(8), ..r }.pending(), 0);
    }

    #[test]
    fn buffers_are_left_at_their_end() {
        let owner = Owner::kernel(HubId::Mm);
        let mut job = Job {
            id: QueueId::Graphics,
            ring: ring(16, 0, 0),
            cursor: Cursor { buffers: vec![Buffer { base: 0, size: 4, at: 0, owner }], ..Cursor::default() },
            token: RunToken::new(),
        };
        assert!(!job.drained());
        job.advance(4);
        job.leave_buffers();
        assert!(job.drained());
    }
}
