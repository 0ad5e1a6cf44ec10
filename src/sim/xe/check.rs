//! The checks of `VM_BIND` on one operation, in the driver's order (`vm_bind_ioctl_check_args`).

use super::address_space::AddressSpace;
use super::config::{KernelVersion, XeConfig};
use crate::error::Errno;
use crate::range::SIZE_4K;
use crate::uapi::xe::*;
use crate::xe::{Coherency, PatIndex};

fn flags(config: &XeConfig) -> u32 {
    let mut flags = DRM_XE_VM_BIND_FLAG_READONLY
        | DRM_XE_VM_BIND_FLAG_IMMEDIATE
        | DRM_XE_VM_BIND_FLAG_NULL
        | DRM_XE_VM_BIND_FLAG_DUMPABLE
        | DRM_XE_VM_BIND_FLAG_CHECK_PXP
        | DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR;
    if config.since(KernelVersion::V6_18) {
        flags |= DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET;
    }
    if config.since(KernelVersion::V7_1) {
        flags |= DRM_XE_VM_BIND_FLAG_DECOMPRESS;
    }
    flags
}

/// Checks one operation. Fields that the driver does not look at (`extensions`, `pad`, `pad2`, `reserved`) are not looked at.
pub(super) fn operation(vm: &AddressSpace, op: &VmBindOp) -> Result<(), Errno> {
    let config = vm.gpu.config();
    let facts = config.facts();
    let pat = config.pat();
    let has = |flag| op.flags & flag != 0;
    let null = has(DRM_XE_VM_BIND_FLAG_NULL);
    let mirror = has(DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR);
    let decompress = has(DRM_XE_VM_BIND_FLAG_DECOMPRESS);
    let index = PatIndex(op.pat_index);
    if mirror && !vm.is_faulting() {
        return Err(Errno::EINVAL);
    }
    let Some(coherency) = pat.coherency(index) else { return Err(Errno::EINVAL) };
    let incoherent = coherency == Coherency::None;
    let compressed = pat.is_compressed(index);
    let userptr = op.op == DRM_XE_VM_BIND_OP_MAP_USERPTR;
    let map = op.op == DRM_XE_VM_BIND_OP_MAP;
    let unmap_all = op.op == DRM_XE_VM_BIND_OP_UNMAP_ALL;
    let prefetch = op.op == DRM_XE_VM_BIND_OP_PREFETCH;
    let region = op.prefetch_mem_region_instance;
    let advised = region == DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC && config.since(KernelVersion::V6_18);
    let no_region = !advised && (region >= 32 || config.region_mask() >> region & 1 == 0);
    // Integrated Xe3p: what the CPU shares must be coherent both ways, or index 19.
    let xe3p_integrated = facts.graphics.major >= 35 && !facts.discrete;
    let refused = op.op > DRM_XE_VM_BIND_OP_PREFETCH
        || op.flags & !flags(config) != 0
        || (op.obj != 0 && (null || mirror))
        || (op.obj_offset != 0 && (null || mirror))
        || ((decompress || null || mirror) && !map)
        || (decompress && compressed)
        || (map && op.obj == 0 && !null && !mirror)
        || (unmap_all && (op.obj == 0 || op.addr != 0 || op.range != 0))
        || (userptr && op.obj != 0)
        || (userptr && incoherent)
        || (!facts.discrete && incoherent && mirror && config.since(KernelVersion::V7_3))
        || (xe3p_integrated && (userptr || mirror) && op.pat_index != 19 && coherency != Coherency::TwoWay)
        || (userptr && compressed)
        || (prefetch && op.obj != 0)
        || (region != 0 && !prefetch)
        || no_region
        || (op.op == DRM_XE_VM_BIND_OP_UNMAP && op.obj != 0)
        || (has(DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET) && (!mirror || !map))
        || op.obj_offset % SIZE_4K != 0
        || op.addr % SIZE_4K != 0
        || op.range % SIZE_4K != 0
        || (op.range == 0 && !unmap_all);
    if refused {
        return Err(Errno::EINVAL);
    }
    // Decompression in place is a matter of flat CCS on discrete Xe2.
    if decompress && !(facts.xe2_or_newer && facts.discrete && config.compresses) {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(())
}
