//! The memory a GPU has of its own.

use crate::device::Device;
use crate::error::Result;
use crate::location::VramRegion;
use crate::xe;

/// The VRAM regions of a GPU, or one of size 0 for a GPU that has none.
pub(super) fn regions(device: &Device) -> Result<Vec<VramRegion>> {
    let sizes: Vec<(u16, u64)> = match device {
        Device::Xe(xe_device) => xe_device
            .memory_regions()?
            .into_iter()
            .filter(|region| region.class == xe::MemoryClass::Vram)
            .map(|region| (region.instance, region.total))
            .collect(),
        Device::Kfd(gpu) => vec![(0, gpu.node()?.vram_bytes())],
    };
    let sizes = if sizes.is_empty() { vec![(1, 0)] } else { sizes };
    Ok(sizes.into_iter().map(|(instance, size)| VramRegion::new(device.clone(), instance, size)).collect())
}
