//! Explicit copies into memory that stays in VRAM.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use drm_pagemap::channel::DeviceMapping;
use drm_pagemap::kfd::{MemoryKind, MemoryObject, SdmaPackets, SdmaQueue, SvmAttribute};
use drm_pagemap::xe::{Bo, BoOptions, MemoryClass, RegionMask};
use drm_pagemap::{Device, Gpu};

use super::Data;

/// A hang guard, not a measure.
const LIMIT: Duration = Duration::from_secs(120);

/// A place in VRAM, and a way to write there.
pub(crate) enum Copier {
    /// The CPU writes through the mapping of a buffer object.
    Bo(DeviceMapping),
    /// A copy engine writes to a memory object.
    Sdma(Box<(SdmaQueue, SdmaPackets, MemoryObject)>),
}

impl Copier {
    pub(crate) fn new(gpu: &Gpu, data: &Data) -> Result<Self> {
        let bytes = data.range().len();
        match gpu.device() {
            Device::Xe(device) => {
                let regions = device.memory_regions()?;
                let vram = regions.iter().find(|region| region.class == MemoryClass::Vram);
                let place = RegionMask::from_bits(0).with(vram.context("no VRAM")?.instance);
                // Objects are made of pages of 64 KiB, and the CPU sees them through the BAR.
                let size = bytes.next_multiple_of(64 << 10);
                let bo = Bo::create(device, size, BoOptions::new().placed_in(place).cpu_visible())?;
                Ok(Self::Bo(bo.map()?))
            }
            Device::Kfd(kfd) => {
                let process = kfd.process();
                kfd.acquire()?;
                let object = process.allocate(kfd.id(), bytes as usize, MemoryKind::Vram)?;
                process.set_attributes(data.range(), &[SvmAttribute::Access(kfd.id())])?;
                let gfx = kfd.node()?.gfx_version().context("the topology tells no generation")?;
                let mut packets = SdmaPackets::new(gfx);
                packets.copy(data.range().start(), object.gpu_range().start(), bytes);
                Ok(Self::Sdma(Box::new((process.create_sdma_queue(kfd.id(), 64 << 10)?, packets, object))))
            }
            other => bail!("no way to copy to {other:?}"),
        }
    }

    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Bo(_) => "copy by the CPU (BO)",
            Self::Sdma(_) => "copy by the GPU (SDMA)",
        }
    }

    pub(crate) fn copy(&mut self, data: &Data) -> Result<()> {
        match self {
            Self::Bo(mapping) => {
                let bytes: &[u8] = bytemuck::cast_slice(data);
                anyhow::ensure!(bytes.len() <= mapping.len(), "the object is too small");
                // SAFETY: the mapping is at least as long, and apart from the buffer; no GPU command uses the object.
                unsafe { mapping.as_ptr().as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            }
            Self::Sdma(parts) => {
                let (queue, packets, _object) = &mut **parts;
                // SAFETY: the engine reads the buffer, which lives and is not written until the wait is over or the queue is
                // gone, and writes to the object, which lives as long as the queue.
                unsafe { queue.submit(packets) }?;
                queue.wait(LIMIT)?;
            }
        }
        Ok(())
    }
}
