//! Everything KFD knows of a process: its GPUs, ranges, memory objects, queues and events.

use std::sync::Arc;
use std::time::Instant;

use crate::error::Errno;
use crate::sim::kfd::Shared;
use crate::sim::kfd::config::{GpuConfig, KfdConfig};
use crate::sim::kfd::events::Events;
use crate::sim::kfd::intervals::Intervals;
use crate::sim::kfd::objects::Objects;
use crate::sim::kfd::queues::Queues;
use crate::sim::kfd::render::RenderFile;
use crate::sim::kfd::svm::range::Ranges;
use crate::sim::kfd::vram::Vram;

/// A GPU as the process has it.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) gpu_id: u32,
    pub(super) config: GpuConfig,
    /// Fixed when the process first opens `/dev/kfd`.
    pub(super) svm: bool,
    /// Never gets memory migrated into VRAM.
    pub(super) never_migrates: bool,
    /// The DRM file whose address space the GPU uses for the process.
    pub(super) acquired: Option<Arc<RenderFile>>,
    /// Unplugged.
    pub(super) removed: bool,
    /// What is mapped on it.
    pub(super) pages: Intervals,
}

/// Everything KFD knows of a process.
#[derive(Debug)]
pub(super) struct State {
    pub(super) devices: Vec<Device>,
    pub(super) xnack: bool,
    pub(super) ranges: Ranges,
    pub(super) vram: Vram,
    /// What is in VRAM, as far as the driver knows: a touch of the CPU takes pages away before it hears of it.
    pub(super) resident: Intervals,
    /// How many touches it has heard of.
    pub(super) touches: u64,
    pub(super) objects: Objects,
    /// Stopped until stale mappings are restored.
    pub(super) queues_stopped: bool,
    /// When stale mappings are to be restored.
    pub(super) restore_at: Option<Instant>,
    pub(super) queues: Queues,
    /// Apart, because waiting for them must not hold up other calls.
    pub(super) events: Arc<Events>,
    /// Bytes of registered ranges that count against the limit.
    pub(super) registered: u64,
}

impl State {
    pub(super) fn new(config: &KfdConfig) -> Self {
        let device = |gpu: &GpuConfig| Device {
            gpu_id: gpu.gpu_id,
            svm: gpu.svm,
            never_migrates: gpu.prefers_system_memory || (gpu.apu && config.kernel.apus_never_migrate),
            config: gpu.clone(),
            acquired: None,
            removed: false,
            pages: Intervals::default(),
        };
        Self {
            devices: config.visible().map(device).collect(),
            xnack: config.xnack_at_start(),
            ranges: Ranges::default(),
            vram: Vram::default(),
            resident: Intervals::default(),
            touches: 0,
            objects: Objects::default(),
            queues_stopped: false,
            restore_at: None,
            queues: Queues::default(),
            events: Arc::default(),
            registered: 0,
        }
    }

    /// The index of a GPU of the process.
    pub(super) fn index(&self, gpu_id: u32) -> Option<usize> {
        self.devices.iter().position(|device| device.gpu_id == gpu_id)
    }

    /// The index, or the errno of every call that names an unknown GPU or one that was unplugged.
    pub(super) fn known(&self, gpu_id: u32) -> Result<usize, Errno> {
        let index = self.index(gpu_id).ok_or(Errno::EINVAL)?;
        if self.devices[index].removed { Err(Errno::ENODEV) } else { Ok(index) }
    }

    /// Whether a GPU reaches the VRAM of another: same device, or same hive.
    pub(super) fn are_linked(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.devices[a].config, &self.devices[b].config);
        a.device == b.device || (a.hive_id != 0 && a.hive_id == b.hive_id)
    }

    /// Counts newly registered memory against the system's limit, without XNACK.
    pub(super) fn register(&mut self, kfd: &Shared, bytes: u64) -> Result<(), Errno> {
        if self.xnack {
            return Ok(());
        }
        let registered = self.registered.saturating_add(bytes);
        if kfd.config.system_memory_limit.is_some_and(|limit| registered > limit) {
            return Err(Errno::ENOMEM);
        }
        self.registered = registered;
        Ok(())
    }

    pub(super) fn unregister(&mut self, bytes: u64) {
        if !self.xnack {
            self.registered = self.registered.saturating_sub(bytes);
        }
    }

    /// Bytes that `AVAILABLE_MEMORY` answers, not rounded: what a range must fit into to be moved.
    pub(super) fn available_vram_exactly(&self, kfd: &Shared, gpu: usize) -> u64 {
        if kfd.faults.vram_is_full() { 0 } else { self.vram_for_ranges(gpu) }
    }

    /// VRAM of the device that memory objects leave over.
    pub(super) fn vram_for_ranges(&self, gpu: usize) -> u64 {
        let config = &self.devices[gpu].config;
        config.vram.saturating_sub(config.reserved).saturating_sub(self.objects.vram_used(config.device))
    }
}
