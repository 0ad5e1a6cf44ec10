//! Device query: what the device is made of.

abi! {
    header "drm/xe_drm.h";

    /// Asks for one table about the device. With [`size`](Self::size) 0 the kernel writes the needed size and nothing else;
    /// any size but the exact one is `EINVAL`. Since 6.8.
    struct DeviceQuery("drm_xe_device_query", 40)
        for DRM_IOCTL_XE_DEVICE_QUERY = iowr(b'd', 0x40) 0xC028_6440 {
        /// No extension is defined: zero.
        extensions: u64 => 0;
        /// Which table, `DRM_XE_DEVICE_QUERY_*`.
        query: u32 => 8;
        /// Bytes at [`data`](Self::data).
        size: u32 => 12;
        /// Address the table is written to.
        data: u64 => 16;
        /// Must be zero.
        reserved: [u64; 2] => 24;
    }

    /// One hardware engine, by class, instance and GT.
    struct EngineClassInstance("drm_xe_engine_class_instance", 8) {
        /// `DRM_XE_ENGINE_CLASS_*`.
        engine_class: u16 => 0;
        /// Counts within the class and GT.
        engine_instance: u16 => 2;
        /// The GT the engine belongs to.
        gt_id: u16 => 4;
        /// Must be zero.
        pad: u16 => 6;
    }

    /// Element of the answer to [`DRM_XE_DEVICE_QUERY_ENGINES`].
    struct Engine("drm_xe_engine", 32) {
        /// Which engine.
        instance: EngineClassInstance => 0;
        /// Zero.
        reserved: [u64; 3] => 8;
    }

    /// Start of the answer to [`DRM_XE_DEVICE_QUERY_ENGINES`]; [`Engine`]s follow. Engines the kernel keeps for itself are
    /// not listed.
    struct QueryEngines("drm_xe_query_engines", 8, align 8) {
        /// How many elements follow.
        num_engines: u32 => 0;
        /// Zero.
        pad: u32 => 4;
        .. engines: Engine => 8;
    }

    /// Element of the answer to [`DRM_XE_DEVICE_QUERY_MEM_REGIONS`].
    struct MemRegion("drm_xe_mem_region", 88) {
        /// `DRM_XE_MEM_REGION_CLASS_*`.
        mem_class: u16 => 0;
        /// Number of the region, unique on the device: 0 is system memory, VRAM starts at 1. Placement masks use
        /// bit `instance`; prefetch targets use the number itself.
        instance: u16 => 2;
        /// Smallest page of the region, in bytes.
        min_page_size: u32 => 4;
        /// Size in bytes.
        total_size: u64 => 8;
        /// Bytes in use, by all clients. Until 6.17 zero without `CAP_PERFMON`.
        used: u64 => 16;
        /// Bytes of the region that the CPU can reach.
        cpu_visible_size: u64 => 24;
        /// Bytes of that in use.
        cpu_visible_used: u64 => 32;
        /// Zero.
        reserved: [u64; 6] => 40;
    }

    /// Start of the answer to [`DRM_XE_DEVICE_QUERY_MEM_REGIONS`]; [`MemRegion`]s follow, system memory first.
    struct QueryMemRegions("drm_xe_query_mem_regions", 8, align 8) {
        /// How many elements follow.
        num_mem_regions: u32 => 0;
        /// Zero.
        pad: u32 => 4;
        .. mem_regions: MemRegion => 8;
    }

    /// Start of the answer to [`DRM_XE_DEVICE_QUERY_CONFIG`]; `u64` values follow, indexed by `DRM_XE_QUERY_CONFIG_*`.
    struct QueryConfig("drm_xe_query_config", 8, align 8) {
        /// How many values follow.
        num_params: u32 => 0;
        /// Zero.
        pad: u32 => 4;
        .. info: u64 => 8;
    }

    /// Element of the answer to [`DRM_XE_DEVICE_QUERY_GT_LIST`].
    struct Gt("drm_xe_gt", 96) {
        /// `DRM_XE_QUERY_GT_TYPE_*`.
        gt_type: u16 => 0 as "type";
        /// The tile the GT is on.
        tile_id: u16 => 2;
        /// Number of the GT, unique on the device.
        gt_id: u16 => 4;
        /// Zero.
        pad: [u16; 3] => 6;
        /// Frequency of the GT's timestamps, in Hz.
        reference_clock: u32 => 12;
        /// Bit mask of the [`MemRegion::instance`]s next to the GT's engines.
        near_mem_regions: u64 => 16;
        /// Bit mask of the regions that are slower to reach.
        far_mem_regions: u64 => 24;
        /// Major version of the graphics or media block.
        ip_ver_major: u16 => 32;
        /// Minor version of it.
        ip_ver_minor: u16 => 34;
        /// Revision of it.
        ip_ver_rev: u16 => 36;
        /// Zero.
        pad2: u16 => 38;
        /// Zero.
        reserved: [u64; 7] => 40;
    }

    /// Start of the answer to [`DRM_XE_DEVICE_QUERY_GT_LIST`]; [`Gt`]s follow.
    struct QueryGtList("drm_xe_query_gt_list", 8, align 8) {
        /// How many elements follow.
        num_gt: u32 => 0;
        /// Zero.
        pad: u32 => 4;
        .. gt_list: Gt => 8;
    }

    /// Element of the answer to [`DRM_XE_DEVICE_QUERY_GT_TOPOLOGY`]; the bytes of the mask and the next element follow.
    struct QueryTopologyMask("drm_xe_query_topology_mask", 8) {
        /// The GT.
        gt_id: u16 => 0;
        /// What the mask counts, `DRM_XE_TOPO_*`.
        mask_type: u16 => 2 as "type";
        /// Bytes of the mask.
        num_bytes: u32 => 4;
        .. mask: u8 => 8;
    }

    /// Question and answer of [`DRM_XE_DEVICE_QUERY_ENGINE_CYCLES`]: the engine's and the CPU's clock at one moment.
    /// `EOPNOTSUPP` on an SR-IOV virtual function.
    struct QueryEngineCycles("drm_xe_query_engine_cycles", 40) {
        /// In: the engine.
        eci: EngineClassInstance => 0;
        /// In: the CPU clock, a `CLOCK_*` number.
        clockid: i32 => 8;
        /// Out: bits of the cycle counter.
        width: u32 => 12;
        /// Out: the cycle counter.
        engine_cycles: u64 => 16;
        /// Out: the CPU clock in ns, read just before.
        cpu_timestamp: u64 => 24;
        /// Out: ns it took to read the cycle counter.
        cpu_delta: u64 => 32;
    }

    /// Question and answer of [`DRM_XE_DEVICE_QUERY_UC_FW_VERSION`]: version of a microcontroller's firmware.
    struct QueryUcFwVersion("drm_xe_query_uc_fw_version", 32) {
        /// In: `XE_QUERY_UC_TYPE_*`.
        uc_type: u16 => 0;
        /// Must be zero.
        pad: u16 => 2;
        /// Out: branch.
        branch_ver: u32 => 4;
        /// Out: major.
        major_ver: u32 => 8;
        /// Out: minor.
        minor_ver: u32 => 12;
        /// Out: patch.
        patch_ver: u32 => 16;
        /// Must be zero.
        pad2: u32 => 20;
        /// Must be zero.
        reserved: u64 => 24;
    }

    /// Answer to [`DRM_XE_DEVICE_QUERY_PXP_STATUS`]: whether protected content is available.
    struct QueryPxpStatus("drm_xe_query_pxp_status", 8) {
        /// 0: still initializing, 1: ready.
        status: u32 => 0;
        /// Bit mask of supported session types.
        supported_session_types: u32 => 4;
    }

    constants {
        /// [`QueryEngines`].
        DRM_XE_DEVICE_QUERY_ENGINES: u32 = 0;
        /// [`QueryMemRegions`].
        DRM_XE_DEVICE_QUERY_MEM_REGIONS: u32 = 1;
        /// [`QueryConfig`].
        DRM_XE_DEVICE_QUERY_CONFIG: u32 = 2;
        /// [`QueryGtList`].
        DRM_XE_DEVICE_QUERY_GT_LIST: u32 = 3;
        /// A table of key, length and values whose format belongs to the hardware.
        DRM_XE_DEVICE_QUERY_HWCONFIG: u32 = 4;
        /// A sequence of [`QueryTopologyMask`].
        DRM_XE_DEVICE_QUERY_GT_TOPOLOGY: u32 = 5;
        /// [`QueryEngineCycles`].
        DRM_XE_DEVICE_QUERY_ENGINE_CYCLES: u32 = 6;
        /// [`QueryUcFwVersion`].
        DRM_XE_DEVICE_QUERY_UC_FW_VERSION: u32 = 7;
        /// Observation units; the structs are not part of this crate.
        DRM_XE_DEVICE_QUERY_OA_UNITS: u32 = 8;
        /// [`QueryPxpStatus`].
        DRM_XE_DEVICE_QUERY_PXP_STATUS: u32 = 9;
        /// EU stall sampling; the structs are not part of this crate.
        DRM_XE_DEVICE_QUERY_EU_STALL: u32 = 10;

        /// Index of the device id (bits 15..0) and revision (bits 23..16).
        DRM_XE_QUERY_CONFIG_REV_AND_DEVICE_ID: u32 = 0;
        /// Index of the `DRM_XE_QUERY_CONFIG_FLAG_*` bits.
        DRM_XE_QUERY_CONFIG_FLAGS: u32 = 1;
        /// Index of the smallest alignment of a mapping, in bytes.
        DRM_XE_QUERY_CONFIG_MIN_ALIGNMENT: u32 = 2;
        /// Index of the number of bits in a GPU virtual address (48 or 57).
        DRM_XE_QUERY_CONFIG_VA_BITS: u32 = 3;
        /// Index of the highest exec queue priority this process may use.
        DRM_XE_QUERY_CONFIG_MAX_EXEC_QUEUE_PRIORITY: u32 = 4;

        /// The device has VRAM.
        DRM_XE_QUERY_CONFIG_FLAG_HAS_VRAM: u64 = 1 << 0;
        /// [`DRM_XE_EXEC_QUEUE_LOW_LATENCY_HINT`](super::DRM_XE_EXEC_QUEUE_LOW_LATENCY_HINT) is understood.
        DRM_XE_QUERY_CONFIG_FLAG_HAS_LOW_LATENCY: u64 = 1 << 1;
        /// [`DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR`](super::DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR) is understood: SVM works.
        /// Since 6.15.
        DRM_XE_QUERY_CONFIG_FLAG_HAS_CPU_ADDR_MIRROR: u64 = 1 << 2;
        /// [`DRM_XE_GEM_CREATE_FLAG_NO_COMPRESSION`](super::DRM_XE_GEM_CREATE_FLAG_NO_COMPRESSION) is understood. Since 7.0.
        DRM_XE_QUERY_CONFIG_FLAG_HAS_NO_COMPRESSION_HINT: u64 = 1 << 3;
        /// The state-cache property of exec queues is understood. Since 7.1.
        DRM_XE_QUERY_CONFIG_FLAG_HAS_DISABLE_STATE_CACHE_PERF_FIX: u64 = 1 << 4;
        /// Purgeable memory works. Since 7.1.
        DRM_XE_QUERY_CONFIG_FLAG_HAS_PURGING_SUPPORT: u64 = 1 << 5;

        /// System memory.
        DRM_XE_MEM_REGION_CLASS_SYSMEM: u16 = 0;
        /// Memory of the device.
        DRM_XE_MEM_REGION_CLASS_VRAM: u16 = 1;

        /// 3D.
        DRM_XE_ENGINE_CLASS_RENDER: u16 = 0;
        /// Copies.
        DRM_XE_ENGINE_CLASS_COPY: u16 = 1;
        /// Video decoding.
        DRM_XE_ENGINE_CLASS_VIDEO_DECODE: u16 = 2;
        /// Video processing.
        DRM_XE_ENGINE_CLASS_VIDEO_ENHANCE: u16 = 3;
        /// Compute.
        DRM_XE_ENGINE_CLASS_COMPUTE: u16 = 4;
        /// Not hardware: a queue that orders binds.
        DRM_XE_ENGINE_CLASS_VM_BIND: u16 = 5;

        /// The GT with the render and compute engines.
        DRM_XE_QUERY_GT_TYPE_MAIN: u16 = 0;
        /// The GT with the video engines.
        DRM_XE_QUERY_GT_TYPE_MEDIA: u16 = 1;

        /// Dual subslices usable by 3D.
        DRM_XE_TOPO_DSS_GEOMETRY: u16 = 1;
        /// Dual subslices usable by compute.
        DRM_XE_TOPO_DSS_COMPUTE: u16 = 2;
        /// Banks of the L3 cache.
        DRM_XE_TOPO_L3_BANK: u16 = 3;
        /// Execution units in each dual subslice.
        DRM_XE_TOPO_EU_PER_DSS: u16 = 4;
        /// SIMD16 execution units in each dual subslice.
        DRM_XE_TOPO_SIMD16_EU_PER_DSS: u16 = 5;

        /// The GuC, as the submitter of work sees it.
        XE_QUERY_UC_TYPE_GUC_SUBMISSION: u16 = 0;
        /// The HuC.
        XE_QUERY_UC_TYPE_HUC: u16 = 1;
    }
}
