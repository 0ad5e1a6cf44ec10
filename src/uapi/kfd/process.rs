//! The process as KFD sees it: version, GPUs, address spaces, policies.

abi! {
    header "linux/kfd_ioctl.h";

    /// Version of the interface. Never fails.
    struct GetVersion("kfd_ioctl_get_version_args", 8) for AMDKFD_IOC_GET_VERSION = ior(b'K', 0x01) 0x8008_4B01 {
        /// Out: major, 1.
        major_version: u32 => 0;
        /// Out: minor, grows with features.
        minor_version: u32 => 4;
    }

    /// Lists the GPUs of the process. With `num_of_nodes` 0 only the count is written.
    struct GetProcessAperturesNew("kfd_ioctl_get_process_apertures_new_args", 16)
        for AMDKFD_IOC_GET_PROCESS_APERTURES_NEW = iowr(b'K', 0x14) 0xC010_4B14 {
        /// Address of an array of [`ProcessDeviceApertures`].
        kfd_process_device_apertures_ptr: u64 => 0;
        /// In: room for elements. Out: elements written, or the count.
        num_of_nodes: u32 => 8;
        /// Must be zero.
        pad: u32 => 12;
    }

    /// One GPU of the process, and where its special address ranges are. Limits are inclusive.
    struct ProcessDeviceApertures("kfd_process_device_apertures", 56) {
        /// Local data share: first address.
        lds_base: u64 => 0;
        /// Local data share: last address.
        lds_limit: u64 => 8;
        /// Scratch: first address.
        scratch_base: u64 => 16;
        /// Scratch: last address.
        scratch_limit: u64 => 24;
        /// GPU virtual memory: first address.
        gpuvm_base: u64 => 32;
        /// GPU virtual memory: last address.
        gpuvm_limit: u64 => 40;
        /// The GPU.
        gpu_id: u32 => 48;
        /// Zero.
        pad: u32 => 52;
    }

    /// Makes the address space of a DRM file the one the GPU uses for this process; needed for each GPU before SVM.
    /// `EBUSY` if another file was given before.
    struct AcquireVm("kfd_ioctl_acquire_vm_args", 8) for AMDKFD_IOC_ACQUIRE_VM = iow(b'K', 0x15) 0x4008_4B15 {
        /// Descriptor of the GPU's render node. That it belongs to `gpu_id` is not checked.
        drm_fd: u32 => 0;
        /// The GPU.
        gpu_id: u32 => 4;
    }

    /// Cache policy of a process on a GPU.
    struct SetMemoryPolicy("kfd_ioctl_set_memory_policy_args", 32)
        for AMDKFD_IOC_SET_MEMORY_POLICY = iow(b'K', 0x04) 0x4020_4B04 {
        /// First address of the range with the alternate policy.
        alternate_aperture_base: u64 => 0;
        /// Bytes of it.
        alternate_aperture_size: u64 => 8;
        /// The GPU.
        gpu_id: u32 => 16;
        /// `KFD_IOC_CACHE_POLICY_*` elsewhere.
        default_policy: u32 => 20;
        /// `KFD_IOC_CACHE_POLICY_*` in the range.
        alternate_policy: u32 => 24;
        /// `KFD_PROC_FLAG_*`. KFD 1.18 (padding before).
        misc_process_flag: u32 => 28;
    }

    /// Reads the clocks of GPU and CPU together.
    struct GetClockCounters("kfd_ioctl_get_clock_counters_args", 40)
        for AMDKFD_IOC_GET_CLOCK_COUNTERS = iowr(b'K', 0x05) 0xC028_4B05 {
        /// Out: ticks of the GPU; 0 if the GPU is unknown.
        gpu_clock_counter: u64 => 0;
        /// Out: `CLOCK_MONOTONIC_RAW`, in ns.
        cpu_clock_counter: u64 => 8;
        /// Out: `CLOCK_BOOTTIME`, in ns.
        system_clock_counter: u64 => 16;
        /// Out: ticks per second of the system clock.
        system_clock_freq: u64 => 24;
        /// In: the GPU.
        gpu_id: u32 => 32;
        /// Must be zero.
        pad: u32 => 36;
    }

    /// Tells the kernel that a runtime manages this process's queues (for debuggers). KFD 1.13.
    struct RuntimeEnable("kfd_ioctl_runtime_enable_args", 16)
        for AMDKFD_IOC_RUNTIME_ENABLE = iowr(b'K', 0x25) 0xC010_4B25 {
        /// Address of the runtime's debug data, or 0.
        r_debug: u64 => 0;
        /// `KFD_RUNTIME_ENABLE_MODE_*`; 0 disables.
        mode_mask: u32 => 8;
        /// In and out: capabilities.
        capabilities_mask: u32 => 12;
    }

    constants {
        /// Moves the descriptor to a new, secondary KFD state, without argument. SVM answers `EOPNOTSUPP` there. KFD 1.19.
        AMDKFD_IOC_CREATE_PROCESS: u32 = crate::uapi::abi::io(b'K', 0x27);

        /// Coherent.
        KFD_IOC_CACHE_POLICY_COHERENT: u32 = 0;
        /// Not coherent.
        KFD_IOC_CACHE_POLICY_NONCOHERENT: u32 = 1;
        /// High-precision matrix operations.
        KFD_PROC_FLAG_MFMA_HIGH_PRECISION: u32 = 1 << 0;

        /// Enable.
        KFD_RUNTIME_ENABLE_MODE_ENABLE_MASK: u32 = 1;
        /// Trap handlers may save trap registers.
        KFD_RUNTIME_ENABLE_MODE_TTMP_SAVE_MASK: u32 = 2;
    }
}

const _: () = assert!(AMDKFD_IOC_CREATE_PROCESS == 0x4B27);
