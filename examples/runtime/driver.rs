//! The driver's objects as a runtime has made them for itself, before this crate comes in.

use std::path::Path;

use anyhow::{Context, Result};
use drm_pagemap::channel::Channel;
use drm_pagemap::device::{Device, KfdSystem};
use drm_pagemap::kfd::{self, GpuId, Topology, TopologySource};
use drm_pagemap::sim::kfd::{GpuConfig, Kfd, KfdConfig};
use drm_pagemap::sim::xe::{Platform, XeConfig, XeGpu};
use drm_pagemap::{Gpu, Mirror, xe};

/// VRAM of a simulated GPU.
const VRAM: u64 = 64 << 20;

/// What a runtime owns.
pub(crate) enum Objects {
    /// A VM, in which it has mirrored the process.
    Xe { device: xe::Device, vm: xe::Vm },
    /// The process's GPUs with their render nodes, of which it has acquired every address space.
    Kfd { open: Box<dyn Fn() -> Result<Channel>>, topology: Topology, renders: Vec<(GpuId, Channel)> },
}

impl Objects {
    pub(crate) fn open(device: &str) -> Result<Self> {
        match device {
            "simulated-xe" => {
                let gpu = XeGpu::new(XeConfig::new(Platform::Battlemage).vram(VRAM))?;
                Self::xe(xe::Device::from_channel(gpu.open()?)?)
            }
            "simulated-amdgpu" => {
                let kfd = Kfd::new(KfdConfig::with_gpus(vec![GpuConfig::mi200(0x4a3f, VRAM)]))?;
                let topology = Topology::read(&kfd.topology())?;
                let render = kfd.open_render_node(0)?;
                Self::kfd(move || Ok(kfd.open()?), topology, vec![render])
            }
            "amdgpu" => {
                let topology = Topology::read(&TopologySource::system())?;
                let nodes = topology.svm_gpus().filter_map(|node| node.render_node());
                let renders = nodes.map(|node| Ok(Channel::open(&node)?)).collect::<Result<_>>()?;
                Self::kfd(|| Ok(kfd::open_device()?), topology, renders)
            }
            path => Self::xe(xe::Device::open(Path::new(path))?),
        }
    }

    fn xe(device: xe::Device) -> Result<Self> {
        let vm = xe::Vm::create(&device, xe::VmFlags::SVM)?;
        vm.mirror_all()?;
        Ok(Self::Xe { device, vm })
    }

    fn kfd(
        open: impl Fn() -> Result<Channel> + 'static,
        topology: Topology,
        renders: Vec<Channel>,
    ) -> Result<Self> {
        let process = kfd::Process::open(open()?)?;
        let ids = topology.svm_gpus().filter_map(|node| node.gpu_id());
        let renders: Vec<(GpuId, Channel)> = ids.zip(renders).collect();
        for (gpu, render) in &renders {
            process.acquire_vm(render, *gpu)?;
        }
        Ok(Self::Kfd { open: Box::new(open), topology, renders })
    }

    /// Hands the objects to the crate, which uses them and leaves them as they are.
    pub(crate) fn adopt(&self) -> Result<(Gpu, Mirror)> {
        match self {
            Self::Xe { device, vm } => {
                let gpu = Gpu::of_device(Device::Xe(device.clone()))?;
                // SAFETY: the VM is ours, and what its GPU programs write stays mirrored as long as they run.
                let vm = unsafe { xe::Vm::adopt(device, vm.id()) }?;
                Ok((gpu, Mirror::of_vm(vm)?))
            }
            Self::Kfd { open, topology, renders } => {
                let ids: Vec<GpuId> = renders.iter().map(|(gpu, _)| *gpu).collect();
                let process = kfd::Process::adopt(open()?, &ids)?;
                let renders = renders.iter().map(|(gpu, render)| Ok((*gpu, render.try_clone()?)));
                let renders = renders.collect::<Result<_>>()?;
                let system = KfdSystem::new(process, topology.clone(), renders);
                let first = system.gpus().into_iter().next().context("no GPU with shared virtual memory")?;
                let gpu = Gpu::of_device(Device::Kfd(first))?;
                let mirror = gpu.mirror()?;
                Ok((gpu, mirror))
            }
        }
    }
}
