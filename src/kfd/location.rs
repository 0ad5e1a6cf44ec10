//! Which GPU, and where memory lives, in KFD's own numbers.

use std::fmt;
use std::num::NonZeroU32;

/// The number by which KFD names a GPU (or one partition of it): the `gpu_id` file of its topology node.
///
/// A hash of the device's place and identity, 16 bits wide in today's kernels and never 0. It is neither the number of the
/// topology node, nor the render minor, nor an index, and differs between machines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[doc(alias = "gpu_id")]
pub struct GpuId(NonZeroU32);

impl GpuId {
    /// From the kernel's number, which must be neither 0 (system memory) nor `0xffffffff` (undefined).
    #[must_use]
    pub const fn new(raw: u32) -> Option<Self> {
        match NonZeroU32::new(raw) {
            Some(id) if raw != Location::UNDEFINED => Some(Self(id)),
            _ => None,
        }
    }

    /// The kernel's number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for GpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GPU {:#06x}", self.0)
    }
}

impl fmt::Debug for GpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpuId({:#06x})", self.0)
    }
}

/// A place where SVM memory can be: system memory, or the VRAM of one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// System memory.
    #[doc(alias = "KFD_IOCTL_SVM_LOCATION_SYSMEM")]
    System,
    /// The VRAM of a GPU.
    Gpu(GpuId),
}

impl Location {
    /// What the kernel writes for "no location": unset, or not the same everywhere.
    pub(crate) const UNDEFINED: u32 = u32::MAX;

    /// The kernel's number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        match self {
            Self::System => 0,
            Self::Gpu(gpu) => gpu.raw(),
        }
    }

    /// From the kernel's number; `None` for `0xffffffff`, which stands for no location.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match GpuId::new(raw) {
            Some(gpu) => Some(Self::Gpu(gpu)),
            None if raw == 0 => Some(Self::System),
            None => None,
        }
    }

    /// The GPU, when it is one.
    #[must_use]
    pub const fn gpu(self) -> Option<GpuId> {
        match self {
            Self::System => None,
            Self::Gpu(gpu) => Some(gpu),
        }
    }
}

impl From<GpuId> for Location {
    fn from(gpu: GpuId) -> Self {
        Self::Gpu(gpu)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system memory"),
            Self::Gpu(gpu) => fmt::Display::fmt(gpu, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_reserved_numbers_are_no_gpu() {
        assert_eq!(GpuId::new(0), None);
        assert_eq!(GpuId::new(u32::MAX), None);
        assert_eq!(Location::from_raw(0), Some(Location::System));
        assert_eq!(Location::from_raw(u32::MAX), None);
        for raw in [1, 0x4a3f, 0xffff, u32::MAX - 1] {
            assert_eq!(Location::from_raw(raw).map(Location::raw), Some(raw));
        }
    }
}
