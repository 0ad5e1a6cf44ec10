//! Calls about the process as a whole: XNACK, address spaces, apertures, and GPUs that go.

use std::sync::Arc;

use crate::error::Errno;
use crate::range::SIZE_2M;
use crate::sim::kfd::Shared;
use crate::sim::kfd::intervals::Intervals;
use crate::sim::kfd::render::RenderFile;
use crate::sim::kfd::smi::Line;
use crate::sim::kfd::state::State;
use crate::sim::kfd::svm::migrate::Trigger;
use crate::uapi::kfd as abi;

impl State {
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
