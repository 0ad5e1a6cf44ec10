//! The threads of a device: one per engine, and one for messages of the firmware that are late.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::guc::{Firmware, Next};
use super::topology::{ENGINES, MAIN, MEDIA};
use crate::engine::{Engine, Progress};

/// Runs contexts on one engine.
#[derive(Debug)]
pub struct EngineRunner {
    core: Arc<Core>,
    engine: usize,
}

impl EngineRunner {
    /// The runner of engine number `engine` in [`ENGINES`].
    pub fn new(core: Arc<Core>, engine: usize) -> EngineRunner {
        EngineRunner { core, engine }
    }
}

impl Engine for EngineRunner {
    fn step(&mut self) -> Progress {
        let unit = ENGINES[self.engine].unit;
        let next = Firmware::of(&self.core, &mut self.core.lock(), unit).next(self.engine);
        let mut lease = match next {
            Next::Run(lease) => lease,
            Next::Wait(time) => return Progress::After(time),
            Next::Sleep => return Progress::Idle,
        };
        let token = lease.token.clone();
        let verdict = lease.exec.run(&self.core, &token);
        tracing::debug!(target: "job", engine = ENGINES[self.engine].name, id = lease.id, ?verdict, "run ended");
        Firmware::of(&self.core, &mut self.core.lock(), unit).settle(self.engine, lease, verdict);
        Progress::More
    }
}

/// Delivers messages of the firmware that wait for room or for their time.
#[derive(Debug)]
pub struct Postman {
    core: Arc<Core>,
}

impl Postman {
    /// The postman of a device.
    pub fn new(core: Arc<Core>) -> Postman {
        Postman { core }
    }
}

impl Engine for Postman {
    fn step(&mut self) -> Progress {
        let mut state = self.core.lock();
        let next: Option<Duration> =
            [MAIN, MEDIA].into_iter().filter_map(|u| Firmware::of(&self.core, &mut state, u).deliver()).min();
        next.map_or(Progress::Idle, Progress::After)
    }
}
