//! The two machines: the real one as it is, and a simulated one with the same GPUs and the same kernel.

use std::sync::Arc;

use drm_pagemap::channel::Channel;
use drm_pagemap::kfd::{GfxVersion, GpuId, Node, Process, Topology, TopologySource, open_device};
use drm_pagemap::sim::kfd::{GpuConfig, Kernel, Kfd, KfdConfig};

/// Open device files of one side.
pub(super) struct Machine {
    pub(super) kfd: Channel,
    pub(super) gpus: Vec<Gpu>,
    /// Unknown attribute counts and missing address spaces are answered, not followed by a crash.
    pub(super) careful: bool,
    /// The simulated machine, if it is one.
    pub(super) simulated: Option<Arc<Kfd>>,
    /// How many bytes a log of events holds.
    pub(super) log_bytes: usize,
}

/// One GPU, with two opens of its render node.
pub(super) struct Gpu {
    pub(super) id: GpuId,
    pub(super) gfx: GfxVersion,
    pub(super) render: Channel,
    pub(super) second: Channel,
}

/// The SVM GPUs that are here.
pub(super) fn topology() -> Option<Topology> {
    Topology::read(&TopologySource::system()).ok().filter(|topology| topology.svm_gpus().next().is_some())
}

pub(super) fn real() -> Result<Machine, String> {
    let topology = topology().ok_or("there is no GPU of amdgpu with SVM")?;
    let gpus = topology.svm_gpus().map(|node| {
        let (id, gfx) = identity(node)?;
        let path = node.render_node().ok_or("a GPU without a render node")?;
        let open = || Channel::open(&path).map_err(|error| error.to_string());
        Ok(Gpu { id, gfx, render: open()?, second: open()? })
    });
    let kfd = open_device().map_err(|error| error.to_string())?;
    let Kernel { checks_acquired: careful, smi_log_bytes: log_bytes, .. } = kernel();
    Ok(Machine { gpus: gpus.collect::<Result<_, String>>()?, careful, simulated: None, log_bytes, kfd })
}

fn identity(node: &Node) -> Result<(GpuId, GfxVersion), String> {
    let id = node.gpu_id().ok_or("a GPU without a number")?;
    Ok((id, node.gfx_version().ok_or("a GPU without a generation")?))
}

/// A machine like the real one that is here, if one is.
pub(super) fn simulated() -> Result<Machine, String> {
    let failed = |error: drm_pagemap::Error| error.to_string();
    let mut config = match topology() {
        Some(topology) => {
            let gpus = topology.svm_gpus().enumerate();
            let gpus = gpus.map(|(index, node)| likeness(index, node)).collect::<Result<_, _>>()?;
            KfdConfig::with_gpus(gpus)
        }
        None => KfdConfig::with_gpus(vec![GpuConfig::mi200(0x4a3f, 256 << 20)]),
    };
    config.kernel = kernel();
    let ids = config.gpus.iter().map(|gpu| (GpuId::new(gpu.gpu_id).ok_or("a GPU without a number"), gpu.gfx));
    let ids: Vec<_> = ids.collect();
    let (careful, log_bytes) = (config.kernel.checks_acquired, config.kernel.smi_log_bytes);
    let kfd = Kfd::new(config).map_err(failed)?;
    let gpus = ids.into_iter().enumerate().map(|(index, (id, gfx))| {
        let open = || kfd.open_render_node(index).map_err(failed);
        Ok(Gpu { id: id?, gfx, render: open()?, second: open()? })
    });
    let gpus = gpus.collect::<Result<_, String>>()?;
    Ok(Machine { simulated: Some(kfd.clone()), kfd: kfd.open().map_err(failed)?, gpus, careful, log_bytes })
}

fn likeness(index: usize, node: &Node) -> Result<GpuConfig, String> {
    let (id, gfx) = identity(node)?;
    let like = match gfx.major {
        9 if gfx.stepping == 0 => GpuConfig::vega10(id.raw(), node.vram_bytes()),
        9 => GpuConfig::mi200(id.raw(), node.vram_bytes()),
        _ => GpuConfig::navi31(id.raw(), node.vram_bytes()),
    };
    Ok(GpuConfig {
        gfx,
        device: index,
        hive_id: node.hive_id().map_or(0, Into::into),
        render_minor: node.drm_render_minor().unwrap_or(128),
        ..like
    })
}

/// The generation of the kernel that is compared with, or the newest that is simulated.
fn kernel() -> Kernel {
    let release = crate::frame::like();
    let mut numbers = release.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let like = match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
        (6, ..=15) => Kernel::V6_12,
        (6, 16 | 17) => Kernel::V6_16,
        (6, _) => Kernel::V6_18,
        _ => Kernel::V7_3,
    };
    let version = open_device().and_then(Process::open).map(|process| process.version());
    Kernel { minor: version.map_or(like.minor, |version| version.minor), ..like }
}
