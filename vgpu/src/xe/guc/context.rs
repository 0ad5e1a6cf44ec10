//! A context: a queue of the driver, as the firmware knows it.

use std::sync::Arc;

use crate::engine::RunToken;
use crate::xe::cs::{Exec, RunClock};
use crate::xe::memory::{GgttAddr, PageFault};

/// What a context is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Nothing: its ring is empty, or it is disabled.
    Nothing,
    /// Waiting for its engine.
    Ready,
    /// On its engine.
    Running,
    /// Off its engine until the driver answers the page fault with this number.
    Faulted(u16),
    /// Holding its engine for ever; `stuck` if it cannot even be taken off.
    Hung {
        /// Only a reset of the unit helps.
        stuck: bool,
    },
    /// Reset after an error; never runs again.
    Dead,
}

/// A registered context.
#[derive(Debug)]
pub struct Context {
    /// Tells it from earlier contexts of the same number.
    pub generation: u64,
    /// Index of its engine.
    pub engine: usize,
    /// Its image in memory.
    pub lrca: GgttAddr,
    /// The driver allows it to run.
    pub enabled: bool,
    /// What it does now.
    pub doing: Doing,
    /// Run time.
    pub clock: Arc<RunClock>,
    /// Stops the present run.
    pub token: RunToken,
    /// Execution state while it is off the engine; none before the first run.
    pub(super) exec: Option<Box<Exec>>,
    /// The ring was extended while it ran.
    pub(super) kicked: bool,
    /// The driver waits for it to leave the engine.
    pub(super) disabling: bool,
    /// Its last run ended waiting for a semaphore.
    pub(super) polling: bool,
}

/// The right to run a context on its engine.
#[derive(Debug)]
pub struct Lease {
    /// The context.
    pub id: u32,
    /// Which of that number.
    pub generation: u64,
    /// Stops the run.
    pub token: RunToken,
    /// Its execution state.
    pub exec: Box<Exec>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The ring is empty.
    Idle,
    /// There is more to do; `polling` when a semaphore does not let it go on yet.
    Yielded {
        /// Waiting for a semaphore.
        polling: bool,
    },
    /// A page fault that the driver may resolve.
    Fault(PageFault),
    /// An access that nobody can make work, or an instruction that does not exist.
    Broken(String),
    /// It does not go on, and does not say why.
    Hang {
        /// It cannot be taken off the engine either.
        stuck: bool,
    },
    /// The run was cancelled by a reset.
    Cancelled,
}
