//! One side: its open files, the arena, the queue, and what was heard of migrations.

use std::sync::Arc;

use drm_pagemap::channel::{Channel, Retry};
use drm_pagemap::kfd::{Process, SdmaQueue};
use drm_pagemap::sim::kfd::Kfd;
use drm_pagemap::uapi::IoctlArg;

use super::device::{Gpu, Machine};
use super::log::Log;
use crate::frame::{BadStep, Step, Subject};
use crate::memory::Arena;

/// Begins the answer of the simulation from where the real driver is expected to do harm.
pub(super) const HAZARD: &str = "hazard: ";

/// An open machine.
pub(super) struct Open {
    pub(super) kfd: Channel,
    pub(super) process: Process,
    pub(super) gpus: Vec<Gpu>,
    pub(super) careful: bool,
    pub(super) simulated: Option<Arc<Kfd>>,
    pub(super) arena: Arena,
    pub(super) log: Log,
    pub(super) queue: Option<(usize, SdmaQueue)>,
    /// Handles of memory objects, oldest first.
    pub(super) objects: Vec<u64>,
}

impl Open {
    pub(super) fn new(machine: Machine) -> Result<Self, String> {
        let Machine { kfd, gpus, careful, simulated, log_bytes } = machine;
        let failed = |error: drm_pagemap::Error| error.to_string();
        let process = kfd.try_clone().and_then(Process::open).map_err(failed)?;
        let log = Log::open(&process, &gpus, log_bytes)?;
        Ok(Self {
            kfd,
            process,
            gpus,
            careful,
            simulated,
            arena: Arena::new()?,
            log,
            queue: None,
            objects: Vec::new(),
        })
    }

    /// Makes a call, once more after EINTR and EAGAIN as every client does.
    pub(super) fn call<A: IoctlArg>(&self, arg: &mut A) -> Result<(), String> {
        // SAFETY: what the driver writes to on account of a step is the arena and the control pages, which are read and written
        // through atomics only, and outputs that live until the call returns.
        unsafe { self.kfd.call(arg, Retry::Always) }.map_err(named)
    }
}

/// The name of the errno.
pub(super) fn named(error: drm_pagemap::Error) -> String {
    match error.errno() {
        Some(errno) => errno.name().map_or_else(|| errno.to_string(), str::to_owned),
        None => error.to_string(),
    }
}

/// `ok`, or what went wrong.
pub(super) fn told(answer: Result<(), String>) -> String {
    answer.err().unwrap_or_else(|| "ok".to_owned())
}

impl Subject for Open {
    fn perform(&mut self, step: &Step) -> Result<String, BadStep> {
        let answer = match step.verb.as_str() {
            "set" => self.set(step),
            "get" => self.get(step),
            "xnack" => self.xnack(step),
            "acquire" => self.acquire(step),
            "gpu" => self.gpu(step),
            "end-queue" => self.end_queue(),
            "create-queue" => self.create_queue(step),
            "destroy-queue" => self.destroy_queue(step),
            "object" => self.object(step),
            "map-object" => self.map_object(step),
            "unmap-object" => self.unmap_object(step),
            "free-object" => self.free_object(step),
            "apertures" => self.apertures(step),
            "smi" => self.smi(step),
            "events" => self.events(step),
            "number" => self.number(step),
            _ => self.change_memory(step),
        }?;
        // What the driver does by itself after a step belongs to that step.
        self.settle()?;
        if let Some(hazard) = self.simulated.as_ref().and_then(|kfd| kfd.hazards().pop()) {
            return Ok(format!("{HAZARD}{hazard}"));
        }
        Ok(if step.verb == "events" { self.log.take() } else { answer })
    }
}
