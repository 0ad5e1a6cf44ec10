//! What stands in the way of memory that is of a kind that moves, as far as drivers tell.

use std::path::Path;

use super::space::{Space, Target};
use crate::device::KfdGpu;
use crate::kfd::{GpuAccess, GpuId, Xnack};
use crate::range::{PageRange, SIZE_2M, page_size};
use crate::xe;

/// Ranges that are asked about; an explanation need not be complete.
const ASKED: usize = 16;

/// Used to explain, never to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Obstacles {
    /// No block of 2 MiB is to be had any more, or less than what is missing.
    pub(super) vram_full: bool,
    /// Bytes of the smallest block that the driver migrates.
    pub(super) smallest_block: u64,
    /// A GPU without a fast link to the target has access.
    pub(super) unlinked_gpu: bool,
    /// Memory has to be writable. The real amdgpu moves what can be read; a simulated one cannot (`UFFDIO_MOVE`).
    pub(super) needs_writable: bool,
}

impl Obstacles {
    /// For pages that are missing in the target, `movable` bytes of them of a kind that moves, of a range of which `there` bytes
    /// are not missing.
    pub(super) fn of(space: &Space, target: Target, missing: &[PageRange], movable: u64, there: u64) -> Self {
        let needs_writable = match space {
            Space::Xe { .. } => true,
            Space::Kfd { gpu, .. } => gpu.render().is_virtual(),
        };
        let none =
            Self { vram_full: false, smallest_block: page_size(), unlinked_gpu: false, needs_writable };
        match space {
            _ if !target.is_vram() => none,
            // Of a peer's memory nothing is known here.
            Space::Xe { .. } if target == Target::PEER => none,
            Space::Xe { vm, .. } => {
                let region = region(vm, target.region());
                region.map_or(none, |region| Self {
                    vram_full: is_short(region.total.saturating_sub(region.used.max(there)), movable),
                    smallest_block: block(region.min_page_size),
                    ..none
                })
            }
            Space::Kfd { gpu, .. } => {
                let unlinked_gpu = missing.iter().take(ASKED).any(|&range| has_unlinked_gpu(gpu, range));
                Self { vram_full: is_full(gpu, there), unlinked_gpu, ..none }
            }
        }
    }
}

/// Whether the lack of VRAM explains what is missing. The driver evicts whole allocations, so the last one that it made room for can
/// leave a block free although the rest would never fit.
fn is_short(free: u64, missing: u64) -> bool {
    free < SIZE_2M || free < missing
}

fn region(vm: &xe::Vm, instance: u16) -> Option<xe::MemoryRegion> {
    let regions = vm.device().memory_regions().ok()?;
    regions.into_iter().find(|region| region.class == xe::MemoryClass::Vram && region.instance == instance)
}

/// Bytes of the smallest block of a region, whatever the driver says.
fn block(min_page_size: u32) -> u64 {
    let block = u64::from(min_page_size);
    if block.is_power_of_two() { block.max(page_size()) } else { page_size() }
}

/// What amdgpu counts as free when it no longer gives any to ranges: it keeps some for page tables, and the rest is in pieces
/// (16 MiB of 256 MiB were seen).
const NEVER_FILLED: u64 = 32 << 20;

/// KFD's figure knows memory objects and promises, not what shared virtual memory takes; amdgpu's own knows all of VRAM.
fn is_full(gpu: &KfdGpu, there: u64) -> bool {
    gpu.process().available_memory(gpu.id()).is_ok_and(|available| available < SIZE_2M)
        || gpu.node().is_ok_and(|node| node.vram_bytes().saturating_sub(there) < SIZE_2M)
        || (!gpu.render().is_virtual() && amdgpu_free(gpu).is_some_and(|free| free < NEVER_FILLED))
}

/// Bytes of VRAM that nobody uses, as amdgpu counts them in sysfs.
fn amdgpu_free(gpu: &KfdGpu) -> Option<u64> {
    let minor = gpu.node().ok()?.drm_render_minor()?;
    let device = Path::new("/sys/class/drm").join(format!("renderD{minor}")).join("device");
    let number =
        |name| -> Option<u64> { std::fs::read_to_string(device.join(name)).ok()?.trim().parse().ok() };
    Some(number("mem_info_vram_total")?.saturating_sub(number("mem_info_vram_used")?))
}

/// Whether some GPU that has access to the range keeps KFD from putting it into the VRAM of `gpu`: without XNACK it must reach it
/// there (`svm_range_best_prefetch_location`).
fn has_unlinked_gpu(gpu: &KfdGpu, range: PageRange) -> bool {
    let process = gpu.process();
    if !process.xnack().is_ok_and(|mode| mode == Xnack::Off) {
        return false;
    }
    let topology = gpu.system().topology();
    let others: Vec<GpuId> = process.gpus().filter(|&other| !topology.are_linked(other, gpu.id())).collect();
    if others.is_empty() {
        return false;
    }
    process.get_attributes(range, &others).is_ok_and(|attributes| {
        attributes.access.iter().any(|&(_, access)| matches!(access, GpuAccess::Full | GpuAccess::InPlace))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::SIZE_64K;

    #[test]
    fn vram_is_short_when_what_is_missing_would_not_fit() {
        assert!(is_short(0, 1));
        assert!(is_short(SIZE_2M - 1, page_size()), "no block is left");
        assert!(is_short(2 * SIZE_2M, 134 << 20), "a last block free, and far more wanted");
        assert!(!is_short(2 * SIZE_2M, 2 * SIZE_2M), "it would fit: something else keeps it");
    }

    #[test]
    fn a_block_is_a_power_of_two_of_at_least_a_page() {
        for (said, block_size) in
            [(0, page_size()), (3, page_size()), (512, page_size()), (100_000, page_size())]
        {
            assert_eq!(block(said), block_size, "{said}");
        }
        assert_eq!(block(SIZE_64K as u32), SIZE_64K.max(page_size()));
    }
}
