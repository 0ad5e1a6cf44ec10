//! Exec queues: where work is submitted.

abi! {
    header "drm/xe_drm.h";

    /// Creates a queue of work for an engine, or for the choice between several. Since 6.8.
    struct ExecQueueCreate("drm_xe_exec_queue_create", 48)
        for DRM_IOCTL_XE_EXEC_QUEUE_CREATE = iowr(b'd', 0x46) 0xC030_6446 {
        /// Chain of [`ExtSetProperty`](super::ExtSetProperty) with name [`DRM_XE_EXEC_QUEUE_EXTENSION_SET_PROPERTY`], or zero.
        extensions: u64 => 0;
        /// Batches that run in parallel on each submission; 1 unless parallel.
        width: u16 => 8;
        /// Engines each of them may run on.
        num_placements: u16 => 10;
        /// The address space; `ENOENT` if unknown.
        vm_id: u32 => 12;
        /// `DRM_XE_EXEC_QUEUE_*` hints.
        flags: u32 => 16;
        /// Out: the id, valid on this file.
        exec_queue_id: u32 => 20;
        /// Address of `width` × `num_placements` [`EngineClassInstance`](super::EngineClassInstance)s.
        instances: u64 => 24;
        /// Must be zero.
        reserved: [u64; 2] => 32;
    }

    /// Destroys a queue; `ENOENT` if unknown. Since 6.8.
    struct ExecQueueDestroy("drm_xe_exec_queue_destroy", 24)
        for DRM_IOCTL_XE_EXEC_QUEUE_DESTROY = iow(b'd', 0x47) 0x4018_6447 {
        /// The queue.
        exec_queue_id: u32 => 0;
        /// Must be zero.
        pad: u32 => 4;
        /// Must be zero.
        reserved: [u64; 2] => 8;
    }

    /// Reads a property of a queue. Since 6.8.
    struct ExecQueueGetProperty("drm_xe_exec_queue_get_property", 40)
        for DRM_IOCTL_XE_EXEC_QUEUE_GET_PROPERTY = iowr(b'd', 0x48) 0xC028_6448 {
        /// Not checked by the kernel: zero.
        extensions: u64 => 0;
        /// The queue; `ENOENT` if unknown.
        exec_queue_id: u32 => 8;
        /// `DRM_XE_EXEC_QUEUE_GET_PROPERTY_*`.
        property: u32 => 12;
        /// Out: the value.
        value: u64 => 16;
        /// Must be zero.
        reserved: [u64; 2] => 24;
    }

    /// Sets a property of a queue that exists. Since 7.0 (`EINVAL` before).
    struct ExecQueueSetProperty("drm_xe_exec_queue_set_property", 40)
        for DRM_IOCTL_XE_EXEC_QUEUE_SET_PROPERTY = iow(b'd', 0x4E) 0x4028_644E {
        /// Not checked by the kernel: zero.
        extensions: u64 => 0;
        /// The queue.
        exec_queue_id: u32 => 8;
        /// `DRM_XE_EXEC_QUEUE_SET_*`.
        property: u32 => 12;
        /// The new value.
        value: u64 => 16;
        /// Must be zero.
        reserved: [u64; 2] => 24;
    }

    constants {
        /// Name of the extension that sets a property at creation.
        DRM_XE_EXEC_QUEUE_EXTENSION_SET_PROPERTY: u32 = 0;
        /// Priority, 0 low, 1 normal, 2 high (with `CAP_SYS_NICE`, otherwise `EPERM`).
        DRM_XE_EXEC_QUEUE_SET_PROPERTY_PRIORITY: u32 = 0;
        /// Time slice, in µs.
        DRM_XE_EXEC_QUEUE_SET_PROPERTY_TIMESLICE: u32 = 1;
        /// Protected-content session type.
        DRM_XE_EXEC_QUEUE_SET_PROPERTY_PXP_TYPE: u32 = 2;
        /// State to replay after a hang.
        DRM_XE_EXEC_QUEUE_SET_HANG_REPLAY_STATE: u32 = 3;
        /// Group of queues: the id of its first queue, or [`DRM_XE_MULTI_GROUP_CREATE`]. Since 7.0.
        DRM_XE_EXEC_QUEUE_SET_PROPERTY_MULTI_GROUP: u32 = 4;
        /// Priority within the group. Since 7.0.
        DRM_XE_EXEC_QUEUE_SET_PROPERTY_MULTI_QUEUE_PRIORITY: u32 = 5;
        /// Turns a state-cache workaround off. Since 7.1.
        DRM_XE_EXEC_QUEUE_SET_DISABLE_STATE_CACHE_PERF_FIX: u32 = 6;
        /// Makes the new queue the first of a group. Since 7.0.
        DRM_XE_MULTI_GROUP_CREATE: u64 = 1 << 63;

        /// Hint: raise the frequency for short work.
        DRM_XE_EXEC_QUEUE_LOW_LATENCY_HINT: u32 = 1 << 0;
        /// Whether the queue was banned, after a hang or an unserved page fault: 0 or 1.
        DRM_XE_EXEC_QUEUE_GET_PROPERTY_BAN: u32 = 0;
    }
}
