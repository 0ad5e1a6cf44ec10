//! Buffer objects.

abi! {
    header "drm/xe_drm.h";

    /// Creates a buffer object. Since 6.8.
    struct GemCreate("drm_xe_gem_create", 56) for DRM_IOCTL_XE_GEM_CREATE = iowr(b'd', 0x41) 0xC038_6441 {
        /// Chain of extensions, or zero.
        extensions: u64 => 0;
        /// Bytes, a multiple of the largest minimum page size of the chosen regions.
        size: u64 => 8;
        /// Bit mask of the allowed regions, bit [`MemRegion::instance`](super::MemRegion::instance).
        placement: u32 => 16;
        /// `DRM_XE_GEM_CREATE_FLAG_*`.
        flags: u32 => 20;
        /// VM the object will only ever be bound in, or zero.
        vm_id: u32 => 24;
        /// Out: the handle. Must be zero on input.
        handle: u32 => 28;
        /// `DRM_XE_GEM_CPU_CACHING_*`; objects that may be in VRAM need write-combining.
        cpu_caching: u16 => 32;
        /// Must be zero.
        pad: [u16; 3] => 34;
        /// Must be zero.
        reserved: [u64; 2] => 40;
    }

    /// Asks for the offset at which `mmap` of the render node maps a buffer object. Since 6.8.
    struct GemMmapOffset("drm_xe_gem_mmap_offset", 40)
        for DRM_IOCTL_XE_GEM_MMAP_OFFSET = iowr(b'd', 0x42) 0xC028_6442 {
        /// No extension is defined: zero.
        extensions: u64 => 0;
        /// The buffer object.
        handle: u32 => 8;
        /// `DRM_XE_MMAP_OFFSET_FLAG_*`.
        flags: u32 => 12;
        /// Out: the offset for `mmap`.
        offset: u64 => 16;
        /// Must be zero.
        reserved: [u64; 2] => 24;
    }

    constants {
        /// Allocate memory on first use, not now.
        DRM_XE_GEM_CREATE_FLAG_DEFER_BACKING: u32 = 1 << 0;
        /// The object will be scanned out by a display.
        DRM_XE_GEM_CREATE_FLAG_SCANOUT: u32 = 1 << 1;
        /// VRAM must come from the part the CPU can reach.
        DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM: u32 = 1 << 2;
        /// The object will not be compressed. `EOPNOTSUPP` before Xe2. Since 7.0.
        DRM_XE_GEM_CREATE_FLAG_NO_COMPRESSION: u32 = 1 << 3;
        /// CPU mappings are cached.
        DRM_XE_GEM_CPU_CACHING_WB: u16 = 1;
        /// CPU mappings are write-combining.
        DRM_XE_GEM_CPU_CACHING_WC: u16 = 2;
        /// The offset maps a page whose writes order earlier writes to the device, not an object.
        DRM_XE_MMAP_OFFSET_FLAG_PCI_BARRIER: u32 = 1 << 0;
    }
}
