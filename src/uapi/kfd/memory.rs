//! Memory objects of KFD: allocation, mapping, sharing.

abi! {
    header "linux/kfd_ioctl.h";

    /// How much VRAM can still be allocated. SVM residency is not counted. KFD 1.9.
    struct GetAvailableMemory("kfd_ioctl_get_available_memory_args", 16)
        for AMDKFD_IOC_AVAILABLE_MEMORY = iowr(b'K', 0x23) 0xC010_4B23 {
        /// Out: bytes.
        available: u64 => 0;
        /// The GPU.
        gpu_id: u32 => 8;
        /// Must be zero.
        pad: u32 => 12;
    }

    /// Allocates a memory object at an address. `EADDRINUSE` over an SVM range, `ENODEV` before [`AcquireVm`](super::AcquireVm).
    struct AllocMemoryOfGpu("kfd_ioctl_alloc_memory_of_gpu_args", 40)
        for AMDKFD_IOC_ALLOC_MEMORY_OF_GPU = iowr(b'K', 0x16) 0xC028_4B16 {
        /// GPU address.
        va_addr: u64 => 0;
        /// Bytes.
        size: u64 => 8;
        /// Out: the handle.
        handle: u64 => 16;
        /// In: CPU address of user memory. Out: offset for `mmap` of the render node, or of `/dev/kfd` for doorbells.
        mmap_offset: u64 => 24;
        /// The GPU.
        gpu_id: u32 => 32;
        /// `KFD_IOC_ALLOC_MEM_FLAGS_*`.
        flags: u32 => 36;
    }

    /// Frees a memory object; `EBUSY` while mapped.
    struct FreeMemoryOfGpu("kfd_ioctl_free_memory_of_gpu_args", 8)
        for AMDKFD_IOC_FREE_MEMORY_OF_GPU = iow(b'K', 0x17) 0x4008_4B17 {
        /// The handle.
        handle: u64 => 0;
    }

    /// Maps a memory object on GPUs.
    struct MapMemoryToGpu("kfd_ioctl_map_memory_to_gpu_args", 24)
        for AMDKFD_IOC_MAP_MEMORY_TO_GPU = iowr(b'K', 0x18) 0xC018_4B18 {
        /// The handle.
        handle: u64 => 0;
        /// Address of an array of `gpu_id` (`u32`).
        device_ids_array_ptr: u64 => 8;
        /// Elements there.
        n_devices: u32 => 16;
        /// In: how many to skip. Out: how many are done; on error, repeat with this value.
        n_success: u32 => 20;
    }

    /// Takes the mappings of a memory object away.
    struct UnmapMemoryFromGpu("kfd_ioctl_unmap_memory_from_gpu_args", 24)
        for AMDKFD_IOC_UNMAP_MEMORY_FROM_GPU = iowr(b'K', 0x19) 0xC018_4B19 {
        /// The handle.
        handle: u64 => 0;
        /// Address of an array of `gpu_id` (`u32`).
        device_ids_array_ptr: u64 => 8;
        /// Elements there.
        n_devices: u32 => 16;
        /// In: how many to skip. Out: how many are done; on error, repeat with this value.
        n_success: u32 => 20;
    }

    /// Describes a dma-buf of an AMD GPU.
    struct GetDmabufInfo("kfd_ioctl_get_dmabuf_info_args", 32)
        for AMDKFD_IOC_GET_DMABUF_INFO = iowr(b'K', 0x1C) 0xC020_4B1C {
        /// Out: bytes.
        size: u64 => 0;
        /// Address the metadata is written to.
        metadata_ptr: u64 => 8;
        /// In: room. Out: bytes of metadata.
        metadata_size: u32 => 16;
        /// Out: the GPU.
        gpu_id: u32 => 20;
        /// Out: `KFD_IOC_ALLOC_MEM_FLAGS_*`.
        flags: u32 => 24;
        /// In: the dma-buf.
        dmabuf_fd: u32 => 28;
    }

    /// Makes a memory object of a dma-buf.
    struct ImportDmabuf("kfd_ioctl_import_dmabuf_args", 24)
        for AMDKFD_IOC_IMPORT_DMABUF = iowr(b'K', 0x1D) 0xC018_4B1D {
        /// GPU address.
        va_addr: u64 => 0;
        /// Out: the handle.
        handle: u64 => 8;
        /// The GPU.
        gpu_id: u32 => 16;
        /// The dma-buf.
        dmabuf_fd: u32 => 20;
    }

    /// Makes a dma-buf of a memory object. KFD 1.12.
    struct ExportDmabuf("kfd_ioctl_export_dmabuf_args", 16)
        for AMDKFD_IOC_EXPORT_DMABUF = iowr(b'K', 0x24) 0xC010_4B24 {
        /// The handle.
        handle: u64 => 0;
        /// `O_CLOEXEC`, `O_RDWR` and the like.
        flags: u32 => 8;
        /// Out: the dma-buf.
        dmabuf_fd: u32 => 12;
    }

    constants {
        /// VRAM.
        KFD_IOC_ALLOC_MEM_FLAGS_VRAM: u32 = 1 << 0;
        /// System memory.
        KFD_IOC_ALLOC_MEM_FLAGS_GTT: u32 = 1 << 1;
        /// Memory of the process.
        KFD_IOC_ALLOC_MEM_FLAGS_USERPTR: u32 = 1 << 2;
        /// The doorbells.
        KFD_IOC_ALLOC_MEM_FLAGS_DOORBELL: u32 = 1 << 3;
        /// The page of registers that user queues may use.
        KFD_IOC_ALLOC_MEM_FLAGS_MMIO_REMAP: u32 = 1 << 4;
        /// GPU may write.
        KFD_IOC_ALLOC_MEM_FLAGS_WRITABLE: u32 = 1 << 31;
        /// GPU may execute.
        KFD_IOC_ALLOC_MEM_FLAGS_EXECUTABLE: u32 = 1 << 30;
        /// CPU may access; `EINVAL` for VRAM that the CPU cannot reach.
        KFD_IOC_ALLOC_MEM_FLAGS_PUBLIC: u32 = 1 << 29;
        /// No other kind of memory will do.
        KFD_IOC_ALLOC_MEM_FLAGS_NO_SUBSTITUTE: u32 = 1 << 28;
        /// Ring of an AQL queue.
        KFD_IOC_ALLOC_MEM_FLAGS_AQL_QUEUE_MEM: u32 = 1 << 27;
        /// Coherent.
        KFD_IOC_ALLOC_MEM_FLAGS_COHERENT: u32 = 1 << 26;
        /// Not cached.
        KFD_IOC_ALLOC_MEM_FLAGS_UNCACHED: u32 = 1 << 25;
        /// Coherent with everything, at instruction granularity.
        KFD_IOC_ALLOC_MEM_FLAGS_EXT_COHERENT: u32 = 1 << 24;
        /// Physically contiguous VRAM. KFD 1.16.
        KFD_IOC_ALLOC_MEM_FLAGS_CONTIGUOUS: u32 = 1 << 23;
    }
}

/// Kind of an `mmap` of `/dev/kfd`, in bits 63..62 of its offset: doorbells (`kfd_priv.h` in the driver; not in the header).
/// The `gpu_id` is in bits 61..46.
pub const KFD_MMAP_TYPE_DOORBELL: u64 = 3 << 62;
/// Kind of an `mmap` of `/dev/kfd`: the page of registers (`kfd_priv.h` in the driver; not in the header).
pub const KFD_MMAP_TYPE_MMIO: u64 = 0;
/// First bit of the `gpu_id` in an `mmap` offset of `/dev/kfd` (`kfd_priv.h` in the driver; not in the header).
pub const KFD_MMAP_GPU_ID_SHIFT: u32 = 46;
