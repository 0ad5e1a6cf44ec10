//! A simulated AMD KFD: `/dev/kfd` and render nodes that answer with the kernel's order of checks and its semantics.
//!
//! What a GPU has in VRAM really leaves the process's page tables, and comes back when the CPU touches it. Times, caches and
//! shaders are not simulated.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::channel::{Channel, ProcessGuard};
use crate::error::{Errno, Error, Result};
use crate::kfd::TopologySource;

mod config;
mod faults;
mod gpus;
mod ledger;
mod memory;
mod node;
mod objects;
mod process;
mod render;
mod smi;
mod svm;
mod topology;
mod vram;

pub use config::{GcVersion, GpuConfig, Kernel, KfdConfig};
pub use faults::Faults;
pub use node::KfdNode;
pub use render::RenderNode;

use memory::Memory;
use node::Context;
use process::State;
use render::RenderFile;
use smi::Smi;

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
    restore_due: std::sync::atomic::AtomicBool,
}

impl Shared {
    /// A real kernel would crash here.
    fn would_oops(&self, what: String) -> Errno {
        self.hazards.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        WOULD_OOPS
    }

    /// Mappings are stale: a restore is due.
    fn restore_soon(&self) {
        self.restore_due.store(true, std::sync::atomic::Ordering::Release);
    }
}

/// A simulated machine's KFD: its GPUs, and the state that this process has with it.
#[derive(Debug)]
pub struct Kfd {
    shared: Shared,
    primary: Arc<Context>,
    owner: ProcessGuard,
    files: Mutex<Vec<Weak<RenderFile>>>,
    removed: Mutex<Vec<usize>>,
}

impl Kfd {
    /// A machine with these GPUs.
    ///
    /// # Errors
    ///
    /// As [`ProcessGuard::current`].
    pub fn new(config: KfdConfig) -> Result<Arc<Self>> {
        Self::with_memory(config, Arc::new(ledger::Ledger::default()))
    }

    fn with_memory(config: KfdConfig, memory: Arc<dyn Memory>) -> Result<Arc<Self>> {
        let state = State::new(&config);
        let shared = Shared {
            config,
            memory,
            smi: Smi::default(),
            faults: Faults::default(),
            hazards: Mutex::default(),
            restore_due: Default::default(),
        };
        Ok(Arc::new(Self {
            shared,
            primary: Context::new(state, false),
            owner: ProcessGuard::current()?,
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

    /// What was done that would have crashed a real kernel, one sentence each.
    #[must_use]
    pub fn hazards(&self) -> Vec<String> {
        self.shared.hazards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Work that the kernel does by itself, and a call waits for.
    fn catch_up(&self, _context: &Context) {}

    /// The open render node that a file number stands for.
    fn render_file(&self, number: u32) -> Option<Arc<RenderFile>> {
        let number = i32::try_from(number).ok().filter(|&number| number >= 0)?;
        // SAFETY: the descriptor is looked at during this call only; a number that is not open answers EBADF.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let stat = rustix::fs::fstat(descriptor).ok()?;
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.iter().filter_map(Weak::upgrade).find(|file| file.is((stat.st_dev, stat.st_ino)))
    }

    fn map_object(&self, file: &Arc<RenderFile>, offset: u64, len: u64) -> Result<(OwnedFd, u64), Errno> {
        let memory = self.primary.lock().object_memory(file, offset, len)?;
        let descriptor = memory.as_fd().try_clone_to_owned();
        Ok((
            descriptor
                .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EMFILE.raw())))?,
            0,
        ))
    }
}

#[cfg(test)]
mod tests;
