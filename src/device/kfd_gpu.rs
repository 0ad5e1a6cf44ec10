//! The GPUs that one process reaches through KFD.

use std::sync::{Arc, Mutex, PoisonError};

use crate::channel::Channel;
use crate::error::{Error, ErrorKind, Result};
use crate::kfd::{GpuId, Node, Process, Topology};

use super::resets::Resets;

/// What all KFD GPUs of the process share: KFD keeps one state for the whole process.
#[derive(Debug)]
pub struct KfdSystem {
    process: Process,
    topology: Topology,
    renders: Vec<(GpuId, Channel)>,
}

impl KfdSystem {
    /// The process's KFD state, its topology, and the open render nodes of its SVM GPUs.
    #[must_use]
    pub fn new(process: Process, topology: Topology, renders: Vec<(GpuId, Channel)>) -> Arc<Self> {
        Arc::new(Self { process, topology, renders })
    }

    /// The process's KFD state.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The topology as it was at discovery.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The GPUs whose render nodes are open.
    #[must_use]
    pub fn gpus(self: &Arc<Self>) -> Vec<Arc<KfdGpu>> {
        let gpus = self.renders.iter().enumerate();
        gpus.map(|(index, &(id, _))| {
            Arc::new(KfdGpu { system: self.clone(), index, id, resets: Mutex::default() })
        })
        .collect()
    }

    /// Gives every GPU of the process its address space. All of them, because the kernel may map a range for any GPU of the
    /// process, and some kernels dereference NULL for one without an address space.
    fn acquire_all(&self) -> Result<()> {
        for (gpu, render) in &self.renders {
            self.process.acquire_vm(render, *gpu)?;
        }
        Ok(())
    }
}

/// One GPU reached through KFD.
#[derive(Debug)]
pub struct KfdGpu {
    system: Arc<KfdSystem>,
    index: usize,
    id: GpuId,
    resets: Mutex<Resets>,
}

impl KfdGpu {
    /// KFD's number for the GPU.
    #[must_use]
    pub fn id(&self) -> GpuId {
        self.id
    }

    /// What the GPUs of the process share.
    #[must_use]
    pub fn system(&self) -> &Arc<KfdSystem> {
        &self.system
    }

    /// The process's KFD state.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.system.process
    }

    /// The open render node.
    #[must_use]
    pub fn render(&self) -> &Channel {
        &self.system.renders[self.index].1
    }

    /// The GPU's node of the topology.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when the topology does not list it (any more).
    pub fn node(&self) -> Result<&Node> {
        self.system.topology.gpu(self.id).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "KfdGpu::node")
                .because(format!("the topology does not list {}", self.id))
        })
    }

    /// Gives this GPU, and all others of the process, an address space, and begins to listen for resets of the GPU. Needed
    /// before any attribute is set; repeating it is harmless.
    ///
    /// HIP and ROCr fail to initialise on a GPU that somebody else acquired before them: a program that uses either initialises
    /// it first.
    ///
    /// # Errors
    ///
    /// As [`Process::acquire_vm`] and [`Process::smi_events`].
    pub fn acquire(&self) -> Result<()> {
        self.system.acquire_all()?;
        self.lock_resets().open(self.process(), self.id)
    }

    /// How often the driver has reset the GPU since it was [acquired](Self::acquire) here. One `read` of the driver's event log,
    /// which does not wait.
    ///
    /// Memory that was in VRAM during a reset may have lost its contents. amdgpu goes on migrating after a reset, and once the
    /// reset has interrupted a copy of its own, it does so without copying and without an error (seen up to Linux 7.3).
    /// [`Gpu::mirror`](crate::Gpu::mirror) finds that out with a page of its own.
    ///
    /// # Errors
    ///
    /// The errno of `read`; [`ErrorKind::ForeignProcess`] in a forked child.
    pub fn resets(&self) -> Result<u64> {
        self.lock_resets().count()
    }

    /// Has `trial` show that migration works, unless it has shown so since the last of so many resets. A trial that says `false`
    /// has shown nothing.
    pub(crate) fn try_migration(&self, resets: u64, trial: impl FnOnce() -> Result<bool>) -> Result<()> {
        if self.lock_resets().tried_after == Some(resets) {
            return Ok(());
        }
        if trial()? {
            self.lock_resets().tried_after = Some(resets);
        }
        Ok(())
    }

    fn lock_resets(&self) -> std::sync::MutexGuard<'_, Resets> {
        self.resets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
