//! Shared virtual memory: attributes of ranges, and retry faults (XNACK).

abi! {
    header "linux/kfd_ioctl.h";

    /// Fixed part of the argument of [`AMDKFD_IOC_SVM`]; `nattr` [`SvmAttribute`]s follow. The size in the request number
    /// must cover them, which is why this type is not an [`IoctlArg`](crate::uapi::IoctlArg): [`SvmArgs`](super::SvmArgs)
    /// builds the whole.
    struct SvmHeader("kfd_ioctl_svm_args", 24) {
        /// First address, a multiple of the page size, not 0.
        start_addr: u64 => 0;
        /// Bytes, a multiple of the page size, not 0.
        size: u64 => 8;
        /// `KFD_IOCTL_SVM_OP_*`.
        op: u32 => 16;
        /// How many attributes follow.
        nattr: u32 => 20;
        .. attrs: SvmAttribute => 24;
    }

    /// One attribute: applied in order by a set, filled in by a get.
    struct SvmAttribute("kfd_ioctl_svm_attribute", 8) {
        /// `KFD_IOCTL_SVM_ATTR_*`. The answer to an access query is in this field.
        attr_type: u32 => 0 as "type";
        /// A `gpu_id`, a `KFD_IOCTL_SVM_LOCATION_*`, flags, or a number, by type.
        value: u32 => 4;
    }

    /// Reads or sets whether GPU page faults are retried (XNACK) in this process. `EPERM` if the GPUs cannot, `EBUSY` once
    /// the process has queues. KFD 1.5.
    struct SetXnackMode("kfd_ioctl_set_xnack_mode_args", 4)
        for AMDKFD_IOC_SET_XNACK_MODE = iowr(b'K', 0x21) 0xC004_4B21 {
        /// In: 0 off, 1 on, negative to read only. Out: the mode.
        xnack_enabled: i32 => 0;
    }

    constants {
        /// The request without attributes. Each attribute adds 8 to the size field: use
        /// [`SvmArgs::request`](super::SvmArgs::request). KFD 1.5, kernel 5.14.
        AMDKFD_IOC_SVM: u32 = 0xC018_4B20;

        /// Apply the attributes.
        KFD_IOCTL_SVM_OP_SET_ATTR: u32 = 0;
        /// Fill in the attributes.
        KFD_IOCTL_SVM_OP_GET_ATTR: u32 = 1;

        /// Where data should live: a location or a `gpu_id`. Used by GPU faults; moves nothing by itself.
        KFD_IOCTL_SVM_ATTR_PREFERRED_LOC: u32 = 0;
        /// Migrate now: system memory or a `gpu_id`. Remembered, and repeated by later sets on the range.
        KFD_IOCTL_SVM_ATTR_PREFETCH_LOC: u32 = 1;
        /// The GPU may access, and data may migrate to it.
        KFD_IOCTL_SVM_ATTR_ACCESS: u32 = 2;
        /// The GPU may access data where it is.
        KFD_IOCTL_SVM_ATTR_ACCESS_IN_PLACE: u32 = 3;
        /// The GPU may not access.
        KFD_IOCTL_SVM_ATTR_NO_ACCESS: u32 = 4;
        /// Flags to set, `KFD_IOCTL_SVM_FLAG_*`. A get reports those that the whole range has.
        KFD_IOCTL_SVM_ATTR_SET_FLAGS: u32 = 5;
        /// Flags to clear. A get reports those that nothing in the range has. Reported since KFD 1.6.
        KFD_IOCTL_SVM_ATTR_CLR_FLAGS: u32 = 6;
        /// Unit of migration, log2 of pages (9 is 2 MiB with 4 KiB pages).
        KFD_IOCTL_SVM_ATTR_GRANULARITY: u32 = 7;

        /// System memory.
        KFD_IOCTL_SVM_LOCATION_SYSMEM: u32 = 0;
        /// No preference, or no common answer. Not valid for prefetch.
        KFD_IOCTL_SVM_LOCATION_UNDEFINED: u32 = 0xFFFF_FFFF;

        /// The host accesses the range. Stored only.
        KFD_IOCTL_SVM_FLAG_HOST_ACCESS: u32 = 0x01;
        /// Coherent between devices.
        KFD_IOCTL_SVM_FLAG_COHERENT: u32 = 0x02;
        /// Coherent within an XGMI hive. Stored only.
        KFD_IOCTL_SVM_FLAG_HIVE_LOCAL: u32 = 0x04;
        /// Read-only for the GPU.
        KFD_IOCTL_SVM_FLAG_GPU_RO: u32 = 0x08;
        /// The GPU may execute from it.
        KFD_IOCTL_SVM_FLAG_GPU_EXEC: u32 = 0x10;
        /// Mostly read by the GPU. Stored only.
        KFD_IOCTL_SVM_FLAG_GPU_READ_MOSTLY: u32 = 0x20;
        /// Keep it mapped on the GPU, even with XNACK. KFD 1.11.
        KFD_IOCTL_SVM_FLAG_GPU_ALWAYS_MAPPED: u32 = 0x40;
        /// Coherent with everything, at instruction granularity.
        KFD_IOCTL_SVM_FLAG_EXT_COHERENT: u32 = 0x80;
    }
}
