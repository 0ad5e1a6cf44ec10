//! GPUs of simulated machines.

use std::sync::{Arc, OnceLock};

use super::Gpu;
use super::discover::Discovery;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::sim::Machine;
use crate::sim::kfd::Kfd;
use crate::sim::xe::{Platform, XeConfig, XeGpu};
use crate::xe;

/// VRAM of [`Gpu::simulated`]. Costs addresses only, until pages are there.
const VRAM: u64 = 1 << 30;

impl Gpu {
    /// The simulated GPU: a Battlemage-like xe device with 1 GiB of VRAM in this process, the same one at every call.
    ///
    /// It really moves pages, with `userfaultfd` (Linux 6.8 or newer). Where that is not available, [`mirror`](Self::mirror) and
    /// prefetches say so. [`discover_in`](Self::discover_in) is for devices of other shapes.
    ///
    /// # Panics
    ///
    /// When the process is out of threads or file descriptors.
    #[must_use]
    pub fn simulated() -> Self {
        static DEVICE: OnceLock<Arc<XeGpu>> = OnceLock::new();
        let gpu = DEVICE.get_or_init(|| {
            XeGpu::new(XeConfig::new(Platform::Battlemage).vram(VRAM))
                .expect("the process can start a thread")
        });
        open_xe(gpu).expect("the process can open a file")
    }

    /// The GPUs of a simulated machine, as [`discover`](Self::discover) finds those of the real one.
    #[must_use]
    pub fn discover_in(machine: &Machine) -> Discovery {
        let mut found = Discovery::default();
        for gpu in machine.xe() {
            match gpu.open().and_then(xe::Device::from_channel) {
                Ok(device) => found.add(Device::Xe(device)),
                Err(error) => found.pass_over("simulated xe", &error),
            }
        }
        if let Some(kfd) = machine.kfd() {
            add_kfd(&mut found, kfd);
        }
        found
    }
}

fn open_xe(gpu: &Arc<XeGpu>) -> Result<Gpu> {
    Gpu::of_device(Device::Xe(xe::Device::from_channel(gpu.open()?)?))
}

fn add_kfd(found: &mut Discovery, kfd: &Arc<Kfd>) {
    match kfd.open() {
        Ok(channel) => found.add_kfd(channel, &kfd.topology(), |node| {
            let index = kfd
                .config()
                .gpus
                .iter()
                .position(|gpu| node.gpu_id().is_some_and(|id| id.raw() == gpu.gpu_id));
            let index = index
                .ok_or_else(|| Error::new(ErrorKind::NotFound, "open").because("no such simulated GPU"))?;
            kfd.open_render_node(index)
        }),
        Err(error) => found.pass_over("simulated kfd", &error),
    }
}
