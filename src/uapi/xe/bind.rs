//! Binding: what a GPU address means, and prefetching.

abi! {
    header "drm/xe_drm.h";

    /// One bind operation. The kernel does not check `extensions`, `pad`, `pad2` and `reserved`: keep them zero.
    struct VmBindOp("drm_xe_vm_bind_op", 80) {
        /// Zero.
        extensions: u64 => 0;
        /// GEM handle of the buffer object to map; zero for mirrors, null mappings, user pointers, unmap and prefetch.
        obj: u32 => 8;
        /// Index into the device's table of memory attributes. Checked for every operation, even unmap. 2 (write-back,
        /// coherent) is valid on every part since Xe2.
        pat_index: u16 => 12;
        /// Zero.
        pad: u16 => 14;
        /// Offset into the buffer object, or the CPU address of a user pointer; zero for a mirror.
        obj_offset: u64 => 16 as "obj_offset" | "userptr" | "cpu_addr_mirror_offset";
        /// Bytes, a multiple of 4 KiB; zero only for unmap-all.
        range: u64 => 24;
        /// GPU address, a multiple of 4 KiB, zero-extended (not canonical).
        addr: u64 => 32;
        /// `DRM_XE_VM_BIND_OP_*`.
        op: u32 => 40;
        /// `DRM_XE_VM_BIND_FLAG_*`.
        flags: u32 => 44;
        /// For prefetch: the target region's [instance](super::MemRegion::instance), or
        /// [`DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC`]. Zero otherwise.
        prefetch_mem_region_instance: u32 => 48;
        /// Zero.
        pad2: u32 => 52;
        /// Zero.
        reserved: [u64; 3] => 56;
    }

    /// Changes mappings of an address space: one operation stored inline, or an array of them. All operations are
    /// checked first, then applied in order, and taken back together on error. Since 6.8.
    struct VmBind("drm_xe_vm_bind", 136) for DRM_IOCTL_XE_VM_BIND = iow(b'd', 0x45) 0x4088_6445 {
        /// No extension is defined: zero.
        extensions: u64 => 0;
        /// The address space; `EINVAL` if unknown.
        vm_id: u32 => 8;
        /// Queue of class [`DRM_XE_ENGINE_CLASS_VM_BIND`](super::DRM_XE_ENGINE_CLASS_VM_BIND) to order the bind on, or zero.
        exec_queue_id: u32 => 12;
        /// Must be zero.
        pad: u32 => 16;
        /// Number of operations; decides how [`binds`](Self::binds) is read.
        num_binds: u32 => 20;
        /// The operation, or the address of the array.
        binds: VmBindOps => 24 as "bind" | "vector_of_binds";
        /// Must be zero.
        pad2: u32 => 104;
        /// Elements at [`syncs`](Self::syncs), at most [`DRM_XE_MAX_SYNCS`](super::DRM_XE_MAX_SYNCS).
        num_syncs: u32 => 108;
        /// Address of an array of [`SyncEntry`](super::SyncEntry).
        syncs: u64 => 112;
        /// Must be zero.
        reserved: [u64; 2] => 120;
    }

    constants {
        /// Map a buffer object, or with flags a mirror or a null mapping.
        DRM_XE_VM_BIND_OP_MAP: u32 = 0;
        /// Unmap whatever the range holds.
        DRM_XE_VM_BIND_OP_UNMAP: u32 = 1;
        /// Map memory of the process at an address of choice.
        DRM_XE_VM_BIND_OP_MAP_USERPTR: u32 = 2;
        /// Unmap all mappings of one buffer object.
        DRM_XE_VM_BIND_OP_UNMAP_ALL: u32 = 3;
        /// Migrate and map now. On mirrors since 6.17 at the latest.
        DRM_XE_VM_BIND_OP_PREFETCH: u32 = 4;

        /// GPU writes fault.
        DRM_XE_VM_BIND_FLAG_READONLY: u32 = 1 << 0;
        /// Map at once even in a faulting address space.
        DRM_XE_VM_BIND_FLAG_IMMEDIATE: u32 = 1 << 1;
        /// Reads give zero, writes vanish.
        DRM_XE_VM_BIND_FLAG_NULL: u32 = 1 << 2;
        /// Include in core dumps of the device.
        DRM_XE_VM_BIND_FLAG_DUMPABLE: u32 = 1 << 3;
        /// Refuse objects whose protected-content key is stale.
        DRM_XE_VM_BIND_FLAG_CHECK_PXP: u32 = 1 << 4;
        /// The range mirrors the CPU address space: same addresses, filled in by faults and prefetch. Since 6.15.
        DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR: u32 = 1 << 5;
        /// Memory attributes of the mirror return to their defaults when the CPU memory is unmapped. Since 6.18.
        DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET: u32 = 1 << 6;
        /// Decompress the object in place. Since 7.1.
        DRM_XE_VM_BIND_FLAG_DECOMPRESS: u32 = 1 << 7;

        /// Prefetch target: wherever the memory attributes prefer (C says -1). Since 6.18.
        DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC: u32 = 0xFFFF_FFFF;
    }
}

/// The 80 bytes of [`VmBind::binds`], which C declares as a union: one [`VmBindOp`] in place (`num_binds` 1), or the
/// address of an array of them in the first 8 bytes and zeroes behind (`num_binds` above 1).
///
/// ```
/// use drm_pagemap::uapi::xe::{DRM_XE_VM_BIND_OP_UNMAP, VmBind, VmBindOp, VmBindOps};
///
/// let op = VmBindOp { addr: 0x20_0000, range: 0x1000, op: DRM_XE_VM_BIND_OP_UNMAP, ..Default::default() };
/// let single = VmBind { vm_id: 1, num_binds: 1, binds: VmBindOps::inline(op), ..Default::default() };
/// assert_eq!(single.binds.as_inline(), op);
///
/// let ops = [op, op];
/// let many = VmBind { num_binds: 2, binds: VmBindOps::vector(ops.as_ptr() as u64), ..single };
/// assert_eq!(many.binds.as_vector(), ops.as_ptr() as u64);
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmBindOps(VmBindOp);

// SAFETY: transparent around plain data.
unsafe impl bytemuck::Zeroable for VmBindOps {}
// SAFETY: transparent around plain data.
unsafe impl bytemuck::Pod for VmBindOps {}

impl VmBindOps {
    /// One operation, in place.
    #[must_use]
    pub const fn inline(op: VmBindOp) -> Self {
        Self(op)
    }

    /// The address of an array of [`VmBindOp`]; all other bytes are zero.
    #[must_use]
    pub fn vector(address: u64) -> Self {
        // The first field shares its place with the address.
        Self(VmBindOp { extensions: address, ..VmBindOp::default() })
    }

    /// Moves one operation in place to another range, in bytes.
    pub const fn set_inline_range(&mut self, addr: u64, range: u64) {
        self.0.addr = addr;
        self.0.range = range;
    }

    /// The bytes read as one operation.
    #[must_use]
    pub const fn as_inline(self) -> VmBindOp {
        self.0
    }

    /// The bytes read as the address of an array.
    #[must_use]
    pub const fn as_vector(self) -> u64 {
        self.0.extensions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inline_operation_sits_at_byte_24() {
        let op = VmBindOp {
            addr: 0x1111_0000,
            range: 0x2000,
            op: DRM_XE_VM_BIND_OP_PREFETCH,
            prefetch_mem_region_instance: DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC,
            pat_index: 2,
            ..Default::default()
        };
        let bind = VmBind { num_binds: 1, binds: VmBindOps::inline(op), ..Default::default() };
        assert_eq!(&bytemuck::bytes_of(&bind)[24..104], bytemuck::bytes_of(&op));
        assert_eq!(bind.binds.as_inline(), op);
    }

    #[test]
    fn an_address_sits_at_byte_24_with_zeroes_behind() {
        let bind = VmBind { num_binds: 2, binds: VmBindOps::vector(0x7fff_1234_5678), ..Default::default() };
        let bytes = bytemuck::bytes_of(&bind);
        assert_eq!(&bytes[24..32], &0x7fff_1234_5678u64.to_ne_bytes());
        assert!(bytes[32..].iter().all(|&byte| byte == 0));
        assert_eq!(bind.binds.as_vector(), 0x7fff_1234_5678);
    }
}
