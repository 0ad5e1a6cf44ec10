//! A simulated AMD KFD: `/dev/kfd` and render nodes that answer with the kernel's order of checks and its semantics.
//!
//! What a GPU has in VRAM really leaves the process's page tables, and comes back when the CPU touches it. Times, caches and
//! shaders are not simulated.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use crate::channel::{Channel, ProcessGuard};
use crate::error::{Errno, Error, Result};
use crate::kfd::TopologySource;
use crate::pagemap::Space;

mod config;
mod events;
mod faults;
mod gpus;
mod intervals;
mod memory;
mod node;
mod object_calls;
mod objects;
mod process;
mod process_memory;
mod queue;
mod queues;
mod render;
mod sdma;
mod smi;
mod state;
mod svm;
mod topology;
mod vram;
mod worker;

pub use config::{GcVersion, GpuConfig, Kernel, KfdConfig};
pub use faults::Faults;
pub use node::KfdNode;
pub use render::RenderNode;

use memory::Memory;
use node::Context;
use process_memory::ProcessMemory;
use render::RenderFile;
use smi::{Line, Smi};
use state::State;
use worker::{Duties, Worker};

/// What a simulated call answers where a real kernel would dereference NULL or leave a buffer: a number that no kernel gives.
/// [`Kfd::hazards`] says what happened.
pub const WOULD_OOPS: Errno = Errno::from_raw(4095);

/// What every call of a simulated KFD can reach without a lock.
#[derive(Debug)]
pub(crate) struct Shared {
    config: KfdConfig,
    memory: Arc<dyn Memory>,
    smi: Smi,
    faults: Faults,
    hazards: Mutex<Vec<String>>,
    worker: Arc<Worker>,
    machine: Weak<Kfd>,
}

impl Shared {
    /// A real kernel would crash here.
    fn would_oops(&self, what: String) -> Errno {
        self.hazard(what);
        WOULD_OOPS
    }

    /// A mistake of the real driver would show itself here; the simulation goes on.
    fn hazard(&self, what: String) {
        let mut hazards = self.hazards.lock().unwrap_or_else(PoisonError::into_inner);
        if hazards.last() != Some(&what) {
            hazards.push(what);
        }
    }

    /// There is work that the driver or an engine does by itself.
    fn wake_worker(&self) {
        self.worker.wake(&self.machine);
    }
}

/// A simulated machine's KFD: its GPUs, and the state that this process has with it.
#[derive(Debug)]
pub struct Kfd {
    shared: Shared,
    primary: Arc<Context>,
    secondary: Mutex<Vec<Weak<Context>>>,
    owner: ProcessGuard,
    files: Mutex<Vec<Weak<RenderFile>>>,
    removed: Mutex<Vec<usize>>,
}

impl Kfd {
    /// A machine with these GPUs, over the memory of this process.
    ///
    /// # Errors
    ///
    /// As [`Space::of_process`]; [`OutOfMemory`](crate::ErrorKind::OutOfMemory) when addresses for the VRAM cannot be had.
    pub fn new(config: KfdConfig) -> Result<Arc<Self>> {
        Self::in_space(config, crate::sim::space::of_process()?)
    }

    /// A machine with these GPUs, over a space that other simulated devices share.
    ///
    /// # Errors
    ///
    /// As [`VramRegion::new`](crate::pagemap::VramRegion::new).
    pub fn in_space(config: KfdConfig, space: Space) -> Result<Arc<Self>> {
        let memory = ProcessMemory::new(&config, space)?;
        Self::with_memory(config, Arc::new(memory))
    }

    fn with_memory(config: KfdConfig, memory: Arc<dyn Memory>) -> Result<Arc<Self>> {
        let owner = ProcessGuard::current()?;
        let state = State::new(&config);
        Ok(Arc::new_cyclic(|machine| Self {
            shared: Shared {
                config,
                memory,
                smi: Smi::default(),
                faults: Faults::default(),
                hazards: Mutex::default(),
                worker: Arc::default(),
                machine: machine.clone(),
            },
            primary: Context::new(state, false),
            secondary: Mutex::default(),
            owner,
            files: Mutex::default(),
            removed: Mutex::default(),
        }))
    }

    /// Opens `/dev/kfd`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when no GPU is visible (kernels that look), or a GPU is being reset.
    pub fn open(self: &Arc<Self>) -> Result<Channel> {
        let blind = self.shared.config.kernel.open_needs_gpu && self.shared.config.visible().next().is_none();
        if blind || self.shared.faults.is_locked() {
            return Err(
                Error::from_errno("open", Errno::EINVAL).because("the simulated kfd cannot be opened")
            );
        }
        let node = KfdNode::new(self.clone(), self.primary.clone(), self.owner);
        Ok(Channel::to_virtual(Arc::new(node)))
    }

    /// Opens the render node of a GPU, by its index in the configuration.
    ///
    /// # Errors
    ///
    /// `ENOENT` without such a GPU, and what `memfd_create` answers.
    pub fn open_render_node(self: &Arc<Self>, gpu: usize) -> Result<Channel> {
        const CALL: &str = "open";
        let config =
            self.shared.config.gpus.get(gpu).ok_or_else(|| Error::from_errno(CALL, Errno::ENOENT))?;
        let file = RenderFile::new(config.render_minor).map_err(|errno| Error::from_errno(CALL, errno))?;
        let file = Arc::new(file);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|file| file.strong_count() > 0);
        files.push(Arc::downgrade(&file));
        Ok(Channel::to_virtual(Arc::new(RenderNode::new(self.clone(), gpu, file))))
    }

    /// The topology as sysfs would show it.
    #[must_use]
    pub fn topology(&self) -> TopologySource {
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        topology::tree(&self.shared.config, &removed, 2 + removed.len() as u64)
    }

    /// What it was made with.
    #[must_use]
    pub fn config(&self) -> &KfdConfig {
        &self.shared.config
    }

    /// Failures on demand.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// What was done that would have crashed a real kernel or hung the process, one sentence each.
    #[must_use]
    pub fn hazards(&self) -> Vec<String> {
        self.shared.hazards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Unplugs a GPU, by its index in the configuration: what is in its VRAM goes back to system memory, it leaves the topology,
    /// and calls that name it answer `ENODEV`. A real kernel (7.3) also kills the process with `SIGBUS`.
    pub fn unplug(&self, gpu: usize) {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(config) = self.shared.config.gpus.get(gpu).filter(|_| !removed.contains(&gpu)) else {
            return;
        };
        removed.push(gpu);
        let mut state = self.primary.lock();
        state.catch_up(&self.shared);
        if let Some(index) = state.index(config.gpu_id) {
            state.unplug(&self.shared, index);
        }
    }

    /// The driver resets a GPU, by its index in the configuration, and says so in the event log. Nothing is lost here; a real
    /// reset may lose what is in VRAM.
    pub fn reset(&self, gpu: usize) {
        let Some(config) = self.shared.config.gpus.get(gpu) else { return };
        let sequence = 1;
        for line in [Line::PreReset { sequence }, Line::PostReset { sequence }] {
            self.shared.smi.log(&self.shared.config.kernel, config.gpu_id, &line);
        }
    }

    fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The open render node that a file number stands for.
    fn render_file(&self, number: u32) -> Option<Arc<RenderFile>> {
        let number = i32::try_from(number).ok().filter(|&number| number >= 0)?;
        // SAFETY: the descriptor is looked at during this call only; a number that is not open answers EBADF.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let stat = rustix::fs::fstat(descriptor).ok()?;
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.iter().filter_map(Weak::upgrade).find(|file| file.is((stat.st_dev, stat.st_ino)))
    }

    /// One round of what the driver and the engines do by themselves. What remains to look after.
    fn work(&self) -> Duties {
        let mut duties = Duties::default();
        let mut secondary = self.secondary.lock().unwrap_or_else(PoisonError::into_inner);
        secondary.retain(|context| context.strong_count() > 0);
        let contexts: Vec<_> = secondary.iter().filter_map(Weak::upgrade).collect();
        drop(secondary);
        for context in contexts.iter().chain([&self.primary]) {
            let mut state = context.lock();
            if state.any_doorbell_rang() || self.shared.smi.is_heard() {
                state.catch_up(&self.shared);
            }
            if state.restore_at.is_some_and(|at| at <= Instant::now()) {
                state.restore(&self.shared);
            }
            state.run_queues(&self.shared);
            duties.queues |= !state.queues.is_empty();
            duties.restore |= state.restore_at.is_some();
            duties.residency |= self.shared.smi.is_heard() && !state.resident.is_empty();
        }
        duties
    }

    fn secondary_context(&self) -> Arc<Context> {
        let context = Context::new(State::new(self.config()), true);
        self.secondary.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&context));
        context
    }

    fn map_object(&self, file: &Arc<RenderFile>, offset: u64, len: u64) -> Result<(OwnedFd, u64), Errno> {
        let memory = self.primary.lock().object_memory(file, offset, len)?;
        Ok((duplicate(&memory)?, 0))
    }
}

impl Drop for Kfd {
    fn drop(&mut self) {
        self.shared.worker.notify();
        if self.owner.is_owner() {
            let state = self.primary.lock();
            for device in state.devices.iter().filter(|device| device.acquired.is_some() && !device.removed) {
                self.shared.smi.log(&self.shared.config.kernel, device.gpu_id, &Line::ProcessEnd);
            }
        }
    }
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 0)?)
}

#[cfg(test)]
mod tests;
