//! The queues of a process, and their doorbells.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::sim::id_map::IdMap;
use crate::sim::kfd::objects::DOORBELL_SLICE;
use crate::sim::user_memory::WriteAccess;

/// One queue of a copy engine.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) gpu: usize,
    pub(super) ring: u64,
    pub(super) ring_bytes: u64,
    pub(super) read_pointer: u64,
    pub(super) doorbell: u64,
    /// Bytes done since the queue was made.
    pub(super) done: u64,
    /// Gone wrong; nothing more is done.
    pub(super) halted: bool,
    /// For what its packets write.
    pub(super) access: WriteAccess,
}

/// The queues of a process, and the doorbells of each GPU.
#[derive(Debug, Default)]
pub(super) struct Queues {
    pub(super) all: IdMap<u32, Queue>,
    pub(super) last: u32,
    pub(super) doorbells: IdMap<usize, Arc<OwnedFd>>,
}

impl Queues {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The queues of a GPU that is gone.
    pub(super) fn remove_gpu(&mut self, gpu: usize) {
        self.all.retain(|queue| queue.gpu != gpu);
    }

    pub(super) fn free_doorbell(&self, gpu: usize) -> Option<u64> {
        (0..DOORBELL_SLICE)
            .step_by(8)
            .find(|&slot| !self.all.values().any(|queue| queue.gpu == gpu && queue.doorbell == slot))
    }
}
