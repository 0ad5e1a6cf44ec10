//! The simulated machines that the suite runs on.

use drm_pagemap::sim::Machine;
use drm_pagemap::sim::kfd::{GpuConfig, Kfd, KfdConfig};
use drm_pagemap::sim::xe::{Platform, XeConfig, XeGpu};
use drm_pagemap::{Device, Driver, Gpu, Result};

use drm_pagemap::kfd::Xnack;

/// Small enough to be filled by a test.
const VRAM: u64 = 64 << 20;

type Build = fn() -> Result<Vec<Gpu>>;

/// Label, driver and maker of each.
pub(crate) fn machines() -> Vec<(&'static str, Driver, Build)> {
    vec![
        ("xe", Driver::Xe, xe),
        ("amdgpu", Driver::Kfd, || kfd(Xnack::Off)),
        ("amdgpu-xnack", Driver::Kfd, || kfd(Xnack::On)),
    ]
}

fn gpus(machine: &Machine) -> Vec<Gpu> {
    let found = Gpu::discover_in(machine);
    assert_eq!(found.passed_over(), []);
    found.into_iter().collect()
}

fn xe() -> Result<Vec<Gpu>> {
    let device = || XeGpu::new(XeConfig::new(Platform::Battlemage).vram(VRAM));
    Ok(gpus(&Machine::new().with_xe(device()?).with_xe(device()?)))
}

fn kfd(xnack: Xnack) -> Result<Vec<Gpu>> {
    let second = GpuConfig { render_minor: 129, device: 1, ..GpuConfig::mi200(0x5b40, VRAM) };
    let config = KfdConfig::with_gpus(vec![GpuConfig::mi200(0x4a3f, VRAM), second]);
    let gpus = gpus(&Machine::new().with_kfd(Kfd::new(config)?));
    if let Some(Device::Kfd(gpu)) = gpus.first().map(Gpu::device) {
        gpu.process().set_xnack(xnack)?;
    }
    Ok(gpus)
}
