//! A simulated computer: which simulated devices are in it.

use std::sync::Arc;

use super::kfd::Kfd;
use super::xe::XeGpu;

/// A simulated computer. What [`Gpu::discover`](crate::Gpu::discover) is for the real one,
/// [`Gpu::discover_in`](crate::Gpu::discover_in) is for this.
///
/// ```
/// use drm_pagemap::Gpu;
/// use drm_pagemap::sim::Machine;
/// use drm_pagemap::sim::xe::{Platform, XeConfig, XeGpu};
///
/// let machine = Machine::new().with_xe(XeGpu::new(XeConfig::new(Platform::Battlemage).vram(64 << 20))?);
/// let gpus: Vec<Gpu> = Gpu::discover_in(&machine).into_iter().collect();
/// assert_eq!(gpus.len(), 1);
/// # Ok::<(), drm_pagemap::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Machine {
    xe: Vec<Arc<XeGpu>>,
    kfd: Option<Arc<Kfd>>,
}

impl Machine {
    /// Without any device.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more xe device.
    #[must_use]
    pub fn with_xe(mut self, gpu: Arc<XeGpu>) -> Self {
        self.xe.push(gpu);
        self
    }

    /// With a KFD and its GPUs. A computer has one KFD: a second replaces the first.
    #[must_use]
    pub fn with_kfd(mut self, kfd: Arc<Kfd>) -> Self {
        self.kfd = Some(kfd);
        self
    }

    /// The xe devices.
    #[must_use]
    pub fn xe(&self) -> &[Arc<XeGpu>] {
        &self.xe
    }

    /// The KFD.
    #[must_use]
    pub fn kfd(&self) -> Option<&Arc<Kfd>> {
        self.kfd.as_ref()
    }
}
