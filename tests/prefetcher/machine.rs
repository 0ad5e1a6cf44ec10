//! The simulated machines, and memory to try them on.

use std::sync::Arc;
use std::time::Duration;

use drm_pagemap::residency::{self, Place};
use drm_pagemap::sim::kfd::{GpuConfig, Kfd, KfdConfig};
use drm_pagemap::sim::xe::{Platform, XeConfig, XeGpu};
use drm_pagemap::sim::{self};
use drm_pagemap::{Buffer, Driver, Gpu, Mirror, PageRange, Result};

/// Nothing here takes this long; what does has hung.
pub(crate) const HANG: Duration = Duration::from_secs(120);

pub(crate) const MIB: u64 = 1 << 20;

/// Small enough to be filled.
pub(crate) const VRAM: u64 = 64 * MIB;

/// A machine with one GPU.
pub(crate) struct Machine {
    pub gpu: Gpu,
    pub mirror: Arc<Mirror>,
    xe: Option<Arc<XeGpu>>,
    kfd: Option<Arc<Kfd>>,
}

impl Machine {
    pub(crate) fn xe() -> Result<Self> {
        let device = XeGpu::new(XeConfig::new(Platform::Battlemage).vram(VRAM))?;
        Self::of(&sim::Machine::new().with_xe(device.clone()), Some(device), None)
    }

    pub(crate) fn kfd() -> Result<Self> {
        let device = Kfd::new(KfdConfig::with_gpus(vec![GpuConfig::mi200(0x4a3f, VRAM)]))?;
        Self::of(&sim::Machine::new().with_kfd(device.clone()), None, Some(device))
    }

    fn of(machine: &sim::Machine, xe: Option<Arc<XeGpu>>, kfd: Option<Arc<Kfd>>) -> Result<Self> {
        let found = Gpu::discover_in(machine);
        assert_eq!(found.passed_over(), []);
        let gpu = found.into_iter().next().expect("one GPU");
        let mirror = Arc::new(gpu.mirror()?);
        Ok(Self { gpu, mirror, xe, kfd })
    }

    pub(crate) fn is_xe(&self) -> bool {
        self.gpu.driver() == Driver::Xe
    }

    /// Takes the GPU away.
    pub(crate) fn unplug(&self) {
        if let Some(xe) = &self.xe {
            xe.unplug();
        }
        if let Some(kfd) = &self.kfd {
            kfd.unplug(0);
        }
    }
}

/// A buffer in which every word tells its own index.
pub(crate) fn filled(bytes: u64) -> Result<Buffer<u64>> {
    let mut data = Buffer::zeroed(bytes as usize / 8)?;
    data.iter_mut().enumerate().for_each(|(index, word)| *word = word_at(index));
    Ok(data)
}

fn word_at(index: usize) -> u64 {
    (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xabcd
}

/// Checks every word, which brings everything back.
pub(crate) fn assert_intact(data: &[u64]) {
    let wrong = data.iter().enumerate().find(|&(index, word)| *word != word_at(index));
    assert_eq!(wrong, None, "first wrong word (index, value)");
}

/// Bytes of the range that are in VRAM.
pub(crate) fn device_bytes(range: PageRange) -> Result<u64> {
    Ok(residency::of_range(range)?.summary().bytes(Place::Device))
}

/// `len` bytes from `start` on.
pub(crate) fn part(data: &Buffer<u64>, start: u64, len: u64) -> PageRange {
    PageRange::new(data.range().start() + start, len).expect("whole pages")
}
