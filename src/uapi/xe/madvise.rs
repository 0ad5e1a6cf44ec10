//! Memory attributes of ranges: setting and listing them.

abi! {
    header "drm/xe_drm.h";

    /// Sets one memory attribute over a range. `EINVAL` for an unknown VM; 0 without effect where the range holds no
    /// mapping. Since 6.18 (`EINVAL` before).
    struct Madvise("drm_xe_madvise", 64) for DRM_IOCTL_XE_MADVISE = iow(b'd', 0x4C) 0x4040_644C {
        /// Not checked by the kernel: zero.
        extensions: u64 => 0;
        /// First address, a multiple of 4 KiB.
        start: u64 => 8;
        /// Bytes, a multiple of 4 KiB, at least 4 KiB.
        range: u64 => 16;
        /// The address space.
        vm_id: u32 => 24;
        /// Which attribute; decides how [`value`](Self::value) is read.
        attribute: u32 => 28 as "type";
        /// The attribute's value.
        value: MadviseValue => 32
            as "preferred_mem_loc" | "atomic" | "pat_index" | "purge_state_val";
        /// Must be zero.
        reserved: [u64; 2] => 48;
    }

    /// Value of [`DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC`].
    struct MadvisePreferredLoc("drm_xe_madvise.preferred_mem_loc", 16) {
        /// A file descriptor of the device whose VRAM is preferred, [`DRM_XE_PREFERRED_LOC_DEFAULT_DEVICE`] or
        /// [`DRM_XE_PREFERRED_LOC_DEFAULT_SYSTEM`].
        devmem_fd: u32 => 0;
        /// `DRM_XE_MIGRATE_*`; stored and reported, without effect up to 7.3.
        migration_policy: u16 => 4;
        /// Which VRAM region of that device. Since 7.0 (must be zero before).
        region_instance: u16 => 6;
        /// Must be zero.
        reserved: u64 => 8;
    }

    /// Value of [`DRM_XE_MEM_RANGE_ATTR_ATOMIC`].
    struct MadviseAtomic("drm_xe_madvise.atomic", 16) {
        /// `DRM_XE_ATOMIC_*`.
        val: u32 => 0;
        /// Must be zero.
        pad: u32 => 4;
        /// Must be zero.
        reserved: u64 => 8;
    }

    /// Value of [`DRM_XE_MEM_RANGE_ATTR_PAT`].
    struct MadvisePat("drm_xe_madvise.pat_index", 16) {
        /// Index into the device's table of memory attributes.
        val: u32 => 0;
        /// Must be zero.
        pad: u32 => 4;
        /// Must be zero.
        reserved: u64 => 8;
    }

    /// Value of [`DRM_XE_VMA_ATTR_PURGEABLE_STATE`].
    struct MadvisePurgeable("drm_xe_madvise.purge_state_val", 16) {
        /// `DRM_XE_VMA_PURGEABLE_STATE_*`.
        val: u32 => 0;
        /// Must be zero.
        pad: u32 => 4;
        /// Address of a `u32` that must hold 0 and receives 1 unless memory was already purged; or zero.
        retained_ptr: u64 => 8;
    }

    /// Lists the mappings of a range with their attributes: first a call with `num_mem_ranges`, `sizeof_mem_range_attr` and
    /// `vector_of_mem_attr` zero for the count, then one with room for that many. `ENOSPC` if there are more by then.
    /// Since 6.18 (`EINVAL` before).
    struct VmQueryMemRangeAttrs("drm_xe_vm_query_mem_range_attr", 64)
        for DRM_IOCTL_XE_VM_QUERY_MEM_RANGE_ATTRS = iowr(b'd', 0x4D) 0xC040_644D {
        /// Not checked by the kernel: zero.
        extensions: u64 => 0;
        /// The address space; `EINVAL` if unknown.
        vm_id: u32 => 8;
        /// In: room for elements. Out: how many there are.
        num_mem_ranges: u32 => 12;
        /// First address.
        start: u64 => 16;
        /// Bytes.
        range: u64 => 24;
        /// In: bytes of one element (64), or zero in the counting call, which writes it.
        sizeof_mem_range_attr: u64 => 32;
        /// Address of an array of [`MemRangeAttr`].
        vector_of_mem_attr: u64 => 40;
        /// Zero.
        reserved: [u64; 2] => 48;
    }

    /// One mapping and its attributes. Not clipped to the range that was asked for; equal neighbours are not merged.
    struct MemRangeAttr("drm_xe_mem_range_attr", 64) {
        /// Zero.
        extensions: u64 => 0;
        /// First address.
        start: u64 => 8;
        /// First address behind.
        end: u64 => 16;
        /// Preferred location.
        preferred_mem_loc: MemRangePreferredLoc => 24;
        /// Atomic operations.
        atomic: MemRangeAtomic => 32;
        /// Memory attributes.
        pat_index: MemRangePat => 40;
        /// Zero.
        reserved: [u64; 2] => 48;
    }

    /// Preferred location in a [`MemRangeAttr`]. Unlike in [`MadvisePreferredLoc`] the policy has 32 bits.
    struct MemRangePreferredLoc("drm_xe_mem_range_attr.preferred_mem_loc", 8) {
        /// The number given to [`Madvise`] (the descriptor may have been closed since), or a `DRM_XE_PREFERRED_LOC_*`.
        devmem_fd: u32 => 0;
        /// `DRM_XE_MIGRATE_*`.
        migration_policy: u32 => 4;
    }

    /// Atomic operations in a [`MemRangeAttr`].
    struct MemRangeAtomic("drm_xe_mem_range_attr.atomic", 8) {
        /// `DRM_XE_ATOMIC_*`.
        val: u32 => 0;
        /// Zero.
        reserved: u32 => 4;
    }

    /// Memory attributes in a [`MemRangeAttr`].
    struct MemRangePat("drm_xe_mem_range_attr.pat_index", 8) {
        /// Index into the device's table.
        val: u32 => 0;
        /// Zero.
        reserved: u32 => 4;
    }

    constants {
        /// [`MadvisePreferredLoc`].
        DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC: u32 = 0;
        /// [`MadviseAtomic`].
        DRM_XE_MEM_RANGE_ATTR_ATOMIC: u32 = 1;
        /// [`MadvisePat`].
        DRM_XE_MEM_RANGE_ATTR_PAT: u32 = 2;
        /// [`MadvisePurgeable`]. Since 7.1.
        DRM_XE_VMA_ATTR_PURGEABLE_STATE: u32 = 3;

        /// VRAM of the faulting tile; the default.
        DRM_XE_PREFERRED_LOC_DEFAULT_DEVICE: u32 = 0;
        /// System memory (C says -1).
        DRM_XE_PREFERRED_LOC_DEFAULT_SYSTEM: u32 = 0xFFFF_FFFF;
        /// Migrate pages wherever they are; the default.
        DRM_XE_MIGRATE_ALL_PAGES: u32 = 0;
        /// Migrate pages out of system memory only.
        DRM_XE_MIGRATE_ONLY_SYSTEM_PAGES: u32 = 1;

        /// The driver decides; the default.
        DRM_XE_ATOMIC_UNDEFINED: u32 = 0;
        /// The GPU does atomics.
        DRM_XE_ATOMIC_DEVICE: u32 = 1;
        /// GPU and CPU do atomics on the same data.
        DRM_XE_ATOMIC_GLOBAL: u32 = 2;
        /// The CPU does atomics; those of the GPU fail.
        DRM_XE_ATOMIC_CPU: u32 = 3;

        /// The content is needed.
        DRM_XE_VMA_PURGEABLE_STATE_WILLNEED: u32 = 0;
        /// The content may be dropped under pressure.
        DRM_XE_VMA_PURGEABLE_STATE_DONTNEED: u32 = 1;
    }
}

/// The 16 bytes of [`Madvise::value`], which C declares as a union: build one from the struct of the attribute, and read it
/// back with the `as_` method that fits [`Madvise::attribute`].
///
/// ```
/// use drm_pagemap::uapi::xe::*;
///
/// let advice = Madvise {
///     vm_id: 1,
///     start: 0x7f00_0000_0000,
///     range: 0x20_0000,
///     attribute: DRM_XE_MEM_RANGE_ATTR_ATOMIC,
///     value: MadviseAtomic { val: DRM_XE_ATOMIC_GLOBAL, ..Default::default() }.into(),
///     ..Default::default()
/// };
/// assert_eq!(advice.value.as_atomic().val, DRM_XE_ATOMIC_GLOBAL);
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MadviseValue([u64; 2]);

// SAFETY: transparent around plain data.
unsafe impl bytemuck::Zeroable for MadviseValue {}
// SAFETY: transparent around plain data.
unsafe impl bytemuck::Pod for MadviseValue {}

impl MadviseValue {
    /// Read as the value of [`DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC`].
    #[must_use]
    pub fn as_preferred_loc(self) -> MadvisePreferredLoc {
        bytemuck::cast(self)
    }

    /// Read as the value of [`DRM_XE_MEM_RANGE_ATTR_ATOMIC`].
    #[must_use]
    pub fn as_atomic(self) -> MadviseAtomic {
        bytemuck::cast(self)
    }

    /// Read as the value of [`DRM_XE_MEM_RANGE_ATTR_PAT`].
    #[must_use]
    pub fn as_pat(self) -> MadvisePat {
        bytemuck::cast(self)
    }

    /// Read as the value of [`DRM_XE_VMA_ATTR_PURGEABLE_STATE`].
    #[must_use]
    pub fn as_purgeable(self) -> MadvisePurgeable {
        bytemuck::cast(self)
    }
}

impl From<MadvisePreferredLoc> for MadviseValue {
    fn from(value: MadvisePreferredLoc) -> Self {
        bytemuck::cast(value)
    }
}

impl From<MadviseAtomic> for MadviseValue {
    fn from(value: MadviseAtomic) -> Self {
        bytemuck::cast(value)
    }
}

impl From<MadvisePat> for MadviseValue {
    fn from(value: MadvisePat) -> Self {
        bytemuck::cast(value)
    }
}

impl From<MadvisePurgeable> for MadviseValue {
    fn from(value: MadvisePurgeable) -> Self {
        bytemuck::cast(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_sits_where_c_reads_it() {
        let loc = MadvisePreferredLoc {
            devmem_fd: 0x1122_3344,
            migration_policy: 0x5566,
            region_instance: 0x7788,
            reserved: 0,
        };
        let madvise = Madvise { value: loc.into(), ..Default::default() };
        let bytes = bytemuck::bytes_of(&madvise);
        assert_eq!(&bytes[32..36], &0x1122_3344u32.to_ne_bytes());
        assert_eq!(&bytes[36..38], &0x5566u16.to_ne_bytes());
        assert_eq!(&bytes[38..40], &0x7788u16.to_ne_bytes());
        assert_eq!(madvise.value.as_preferred_loc(), loc);

        let purge = MadvisePurgeable { val: 1, pad: 0, retained_ptr: 0xdead_beef };
        let madvise = Madvise { value: purge.into(), ..Default::default() };
        assert_eq!(&bytemuck::bytes_of(&madvise)[40..48], &0xdead_beefu64.to_ne_bytes());
        assert_eq!(madvise.value.as_purgeable(), purge);

        let atomic = MadviseAtomic { val: 3, ..Default::default() };
        assert_eq!(MadviseValue::from(atomic).as_atomic(), atomic);
        let pat = MadvisePat { val: 7, ..Default::default() };
        assert_eq!(MadviseValue::from(pat).as_pat(), pat);
    }
}
