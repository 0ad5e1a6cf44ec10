//! User queues.

abi! {
    header "linux/kfd_ioctl.h";

    /// Creates a queue. `ESRCH` before [`AcquireVm`](super::AcquireVm). Older kernels know shorter forms of the argument
    /// under smaller request numbers, and accept this one: they go by number, not size.
    struct CreateQueue("kfd_ioctl_create_queue_args", 96)
        for AMDKFD_IOC_CREATE_QUEUE = iowr(b'K', 0x02) 0xC060_4B02 {
        /// GPU address of the ring.
        ring_base_address: u64 => 0;
        /// GPU address of the write pointer.
        write_pointer_address: u64 => 8;
        /// GPU address of the read pointer.
        read_pointer_address: u64 => 16;
        /// Out: offset of the doorbell for `mmap` of `/dev/kfd`.
        doorbell_offset: u64 => 24;
        /// Bytes of the ring, a power of two.
        ring_size: u32 => 32;
        /// The GPU.
        gpu_id: u32 => 36;
        /// `KFD_IOC_QUEUE_TYPE_*`.
        queue_type: u32 => 40;
        /// Share, at most [`KFD_MAX_QUEUE_PERCENTAGE`], in bits 7..0.
        queue_percentage: u32 => 44;
        /// At most [`KFD_MAX_QUEUE_PRIORITY`].
        queue_priority: u32 => 48;
        /// Out: the id.
        queue_id: u32 => 52;
        /// GPU address of the end-of-pipe buffer; compute only.
        eop_buffer_address: u64 => 56;
        /// Bytes of it.
        eop_buffer_size: u64 => 64;
        /// Address of the area that preempted waves are saved to; compute only.
        ctx_save_restore_address: u64 => 72;
        /// Bytes of it.
        ctx_save_restore_size: u32 => 80;
        /// Bytes of the control stack in it.
        ctl_stack_size: u32 => 84;
        /// Engine, for [`KFD_IOC_QUEUE_TYPE_SDMA_BY_ENG_ID`]. KFD 1.17.
        sdma_engine_id: u32 => 88;
        /// Bytes of the metadata ring, a power of two or 0. KFD 1.22 (padding before).
        metadata_ring_size: u32 => 92;
    }

    /// Changes a queue; size 0 stops it.
    struct UpdateQueue("kfd_ioctl_update_queue_args", 24)
        for AMDKFD_IOC_UPDATE_QUEUE = iow(b'K', 0x07) 0x4018_4B07 {
        /// GPU address of the ring.
        ring_base_address: u64 => 0;
        /// The queue.
        queue_id: u32 => 8;
        /// Bytes of the ring.
        ring_size: u32 => 12;
        /// Share.
        queue_percentage: u32 => 16;
        /// Priority.
        queue_priority: u32 => 20;
    }

    /// Destroys a queue; `EINVAL` if unknown.
    struct DestroyQueue("kfd_ioctl_destroy_queue_args", 8)
        for AMDKFD_IOC_DESTROY_QUEUE = iowr(b'K', 0x03) 0xC008_4B03 {
        /// The queue.
        queue_id: u32 => 0;
        /// Must be zero.
        pad: u32 => 4;
    }

    constants {
        /// Compute, PM4 packets.
        KFD_IOC_QUEUE_TYPE_COMPUTE: u32 = 0;
        /// Copies.
        KFD_IOC_QUEUE_TYPE_SDMA: u32 = 1;
        /// Compute, AQL packets.
        KFD_IOC_QUEUE_TYPE_COMPUTE_AQL: u32 = 2;
        /// Copies over XGMI.
        KFD_IOC_QUEUE_TYPE_SDMA_XGMI: u32 = 3;
        /// Copies on a chosen engine. KFD 1.17.
        KFD_IOC_QUEUE_TYPE_SDMA_BY_ENG_ID: u32 = 4;
        /// Highest share.
        KFD_MAX_QUEUE_PERCENTAGE: u32 = 100;
        /// Highest priority.
        KFD_MAX_QUEUE_PRIORITY: u32 = 15;
    }
}
