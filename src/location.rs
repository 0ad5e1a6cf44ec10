//! Where pages can be asked to be.

use std::fmt;

use crate::device::Device;

/// A place for pages: system memory, or a region of a GPU's own memory.
///
/// Made by [`Gpu::vram`](crate::Gpu::vram) and [`Gpu::vram_regions`](crate::Gpu::vram_regions); cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// The machine's ordinary memory.
    System,
    /// Memory of a GPU.
    Vram(VramRegion),
}

/// What a prefetch does that is asked for memory of another GPU to which no fast link leads; see
/// [`Prefetch::fallback`](crate::mirror::Prefetch::fallback).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Fallback {
    /// Nothing: the answer is [`ErrorKind::NoInterconnect`](crate::ErrorKind::NoInterconnect).
    #[default]
    Refuse,
    /// It brings the pages into the memory of the mirror's own GPU; into system memory, if that has none.
    OwnVram,
    /// It brings the pages into system memory.
    System,
}

/// One region of a GPU's own memory. Most GPUs have one; an xe device has one for each tile.
#[derive(Clone, PartialEq, Eq)]
pub struct VramRegion {
    device: Device,
    /// The driver's number where it has one, otherwise 1: never 0, which stands for system memory.
    number: u16,
    size: u64,
}

impl VramRegion {
    pub(crate) const fn new(device: Device, instance: u16, size: u64) -> Self {
        Self { device, number: if instance == 0 { 1 } else { instance }, size }
    }

    /// The GPU whose memory it is.
    #[must_use]
    #[inline]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// The driver's number for the region: the memory region instance on xe (from 1), 0 on KFD, whose GPUs have one each.
    #[must_use]
    #[inline]
    pub const fn instance(&self) -> u16 {
        match self.device {
            Device::Xe(_) => self.number,
            Device::Kfd(_) => 0,
        }
    }

    /// A number by which a mirror tells the region from the others of the GPU and from system memory, which is 0.
    #[inline]
    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    /// Size in bytes, as the driver reports it; 0 for a GPU without memory of its own.
    #[must_use]
    #[inline]
    pub const fn size(&self) -> u64 {
        self.size
    }
}

impl fmt::Debug for VramRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VramRegion({} of {})", self.instance(), self.device.node())
    }
}
