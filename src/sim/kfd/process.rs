//! The state of a process: its GPUs, ranges, memory objects, queues and events.

use std::sync::Arc;
use std::time::Instant;

use crate::error::Errno;
use crate::range::SIZE_2M;
use crate::sim::kfd::Shared;
use crate::sim::kfd::config::{GpuConfig, KfdConfig};
use crate::sim::kfd::events::Events;
use crate::sim::kfd::intervals::Intervals;
use crate::sim::kfd::objects::Objects;
use crate::sim::kfd::queue::Queues;
use crate::sim::kfd::render::RenderFile;
use crate::sim::kfd::smi::Line;
use crate::sim::kfd::svm::Ranges;
use crate::sim::kfd::svm::migrate::Trigger;
use crate::sim::kfd::vram::Vram;
use crate::uapi::kfd as abi;

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
    registered: u64,
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

    /// `SET_XNACK_MODE`.
    pub(super) fn set_xnack(&mut self, kfd: &Shared, arg: &mut abi::SetXnackMode) -> Result<(), Errno> {
        if !kfd.config.kernel.svm {
            return Err(Errno::EPERM);
        }
        if arg.xnack_enabled < 0 {
            arg.xnack_enabled = self.xnack.into();
            return Ok(());
        }
        if !self.queues.is_empty() || kfd.faults.pretends_queue() {
            return Err(Errno::EBUSY);
        }
        if arg.xnack_enabled == i32::from(self.xnack) {
            return Ok(());
        }
        if arg.xnack_enabled != 0 {
            if !kfd.config.xnack_is_supported() {
                return Err(Errno::EPERM);
            }
            self.registered = 0;
            self.xnack = true;
            return Ok(());
        }
        let all: u64 = self.ranges.iter().map(|range| range.pages.len()).sum();
        self.xnack = false;
        self.registered = 0;
        self.register(kfd, all).inspect_err(|_| self.xnack = true)
    }

    /// `ACQUIRE_VM`, with the DRM file that the number stands for.
    pub(super) fn acquire_vm(
        &mut self,
        kfd: &Shared,
        arg: abi::AcquireVm,
        file: Option<Arc<RenderFile>>,
    ) -> Result<(), Errno> {
        let index = match file {
            _ if !is_open(arg.drm_fd) => return Err(Errno::EINVAL),
            _ => self.known(arg.gpu_id)?,
        };
        if let Some(acquired) = &self.devices[index].acquired {
            let same = file.is_some_and(|file| Arc::ptr_eq(acquired, &file));
            return if same { Ok(()) } else { Err(Errno::EBUSY) };
        }
        let file = file.ok_or(Errno::EINVAL)?;
        if !file.become_compute() {
            return Err(Errno::EINVAL);
        }
        self.devices[index].acquired = Some(file);
        kfd.smi.log(&kfd.config.kernel, arg.gpu_id, &Line::ProcessStart);
        Ok(())
    }

    /// `AVAILABLE_MEMORY`. Memory that ranges have in VRAM does not count.
    pub(super) fn available_memory(
        &self,
        kfd: &Shared,
        arg: &mut abi::GetAvailableMemory,
    ) -> Result<(), Errno> {
        let gpu = self.known(arg.gpu_id)?;
        arg.available = self.available_vram_exactly(kfd, gpu) & !(SIZE_2M - 1);
        Ok(())
    }

    /// The same, not rounded: what a range must fit into to be moved.
    pub(super) fn available_vram_exactly(&self, kfd: &Shared, gpu: usize) -> u64 {
        if kfd.faults.vram_is_full() { 0 } else { self.vram_for_ranges(gpu) }
    }

    /// VRAM of the device that memory objects leave over.
    pub(super) fn vram_for_ranges(&self, gpu: usize) -> u64 {
        let config = &self.devices[gpu].config;
        config.vram.saturating_sub(config.reserved).saturating_sub(self.objects.vram_used(config.device))
    }

    /// A GPU is unplugged: what is in its VRAM goes back, its queues end, and calls that name it answer `ENODEV`.
    ///
    /// A real kernel (7.3) also kills the process with `SIGBUS`.
    pub(super) fn unplug(&mut self, kfd: &Shared, index: usize) {
        let id = self.devices[index].gpu_id;
        let there: Vec<_> =
            self.ranges.iter().filter(|range| range.actual == id).map(|range| range.pages).collect();
        for pages in there {
            // What cannot go back is lost with the device.
            let _ = self.migrate_to_system(kfd, pages.start(), pages, Trigger::Eviction);
        }
        for range in self.ranges.iter_mut() {
            range.access.remove(index);
            range.in_place.remove(index);
            range.mapped.remove(index);
        }
        self.devices[index].removed = true;
        self.devices[index].pages = Intervals::default();
        self.queues.remove_gpu(index);
        let device = self.devices[index].config.device;
        if self.devices.iter().all(|other| other.removed || other.config.device != device) {
            kfd.memory.remove_device(device);
        }
        kfd.smi.log(&kfd.config.kernel, id, &Line::ProcessEnd);
    }

    /// `GET_PROCESS_APERTURES_NEW`: one entry for each GPU.
    pub(super) fn apertures(&self) -> Vec<abi::ProcessDeviceApertures> {
        const FOUR_GIB: u64 = 4 << 30;
        self.devices
            .iter()
            .map(|device| {
                let newest = device.config.gc >= crate::sim::kfd::config::GcVersion(12, 1, 0);
                let (lds, scratch) =
                    if newest { (0x2000_0000_0000_0000, 0x1000_0000_0000_0000) } else { (1 << 48, 2 << 48) };
                abi::ProcessDeviceApertures {
                    lds_base: lds,
                    lds_limit: lds + FOUR_GIB - 1,
                    scratch_base: scratch,
                    scratch_limit: scratch + FOUR_GIB - 1,
                    gpuvm_base: 0x1_0000,
                    gpuvm_limit: (1 << 47) - 1,
                    gpu_id: device.gpu_id,
                    pad: 0,
                }
            })
            .collect()
    }
}

/// Whether the number is that of an open file.
fn is_open(number: u32) -> bool {
    i32::try_from(number)
        .is_ok_and(|number| std::path::Path::new(&format!("/proc/self/fd/{number}")).exists())
}
