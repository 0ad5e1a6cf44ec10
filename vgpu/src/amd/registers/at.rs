//! Registers that the model acts on, as dwords from the start of the register BAR; the same in both devices.

/// Window into everything (`nbio_6_1_offset.h`): index, data, high part of the index.
pub const MM_INDEX: u32 = 0x0;
/// Data of the window.
pub const MM_DATA: u32 = 0x1;
/// High part of the index.
pub const MM_INDEX_HI: u32 = 0x6;
/// Window into the system management network: index.
pub const PCIE_INDEX2: u32 = 0xe;
/// Data of that window.
pub const PCIE_DATA2: u32 = 0xf;
/// First of the scratch registers of the VBIOS.
pub const BIOS_SCRATCH_0: u32 = 0x4c;
/// Number of VMIDs that have a PASID (`athub_1_0_offset.h`): acknowledgement of a change.
pub const ATC_VMID_PASID_MAPPING_UPDATE_STATUS: u32 = 0xc2b;
/// PASID of VMID 0, those of the others follow.
pub const ATC_VMID0_PASID_MAPPING: u32 = 0xc2c;
/// Size of device memory in MiB.
pub const RCC_CONFIG_MEMSIZE: u32 = 0xde3;
/// Which flushes of the host data path are done.
pub const GPU_HDP_FLUSH_DONE: u32 = 0xe27;
/// PASID of VMID 0 in interrupts (`osssys_4_0_offset.h`), those of the others follow.
pub const IH_VMID_0_LUT: u32 = 0x10a0;
/// The same for clients of the other hub.
pub const IH_VMID_0_LUT_MM: u32 = 0x10b0;
/// Interrupt ring: control; base, base high, rptr, wptr, wptr address high and low follow.
pub const IH_RB_CNTL: u32 = 0x1120;
/// Base of the interrupt ring, in 256 bytes.
pub const IH_RB_BASE: u32 = 0x1121;
/// High part of the base.
pub const IH_RB_BASE_HI: u32 = 0x1122;
/// Read pointer in bytes.
pub const IH_RB_RPTR: u32 = 0x1123;
/// Write pointer in bytes.
pub const IH_RB_WPTR: u32 = 0x1124;
/// Where the write pointer is reported, high part.
pub const IH_RB_WPTR_ADDR_HI: u32 = 0x1125;
/// Low part.
pub const IH_RB_WPTR_ADDR_LO: u32 = 0x1126;
/// Doorbell of the read pointer.
pub const IH_DOORBELL_RPTR: u32 = 0x1127;
/// Doorbell that acknowledges retry faults (`osssys_4_2_0_offset.h`).
pub const IH_DOORBELL_RETRY_CAM: u32 = 0x1128;
/// Acknowledgement of a retry fault by register.
pub const IH_RETRY_CAM_ACK: u32 = 0x1144;
/// Which queue the banked registers belong to (`gc_9_0_offset.h`).
pub const GRBM_GFX_CNTL: u32 = 0x2022;
/// Node in the hive and number of nodes (`gc_9_4_2_offset.h`).
pub const MC_VM_XGMI_LFB_CNTL: u32 = 0x2978;
/// Memory per node, in 16 MiB.
pub const MC_VM_XGMI_LFB_SIZE: u32 = 0x2979;
/// Graphics ring: read pointer.
pub const CP_RB0_RPTR: u32 = 0x21c0;
/// Graphics ring: base in 256 bytes.
pub const CP_RB0_BASE: u32 = 0x3040;
/// Graphics ring: size.
pub const CP_RB0_CNTL: u32 = 0x3041;
/// Graphics ring: where the read pointer is reported.
pub const CP_RB0_RPTR_ADDR: u32 = 0x3043;
/// High part.
pub const CP_RB0_RPTR_ADDR_HI: u32 = 0x3044;
/// Graphics ring: write pointer.
pub const CP_RB0_WPTR: u32 = 0x3054;
/// High part.
pub const CP_RB0_WPTR_HI: u32 = 0x3055;
/// Graphics ring: doorbell.
pub const CP_RB_DOORBELL_CONTROL: u32 = 0x3059;
/// High part of the base.
pub const CP_RB0_BASE_HI: u32 = 0x30b1;
/// First banked register of a queue, `CP_MQD_BASE_ADDR`.
pub const CP_HQD_FIRST: u32 = 0x3245;
/// How many there are, up to `CP_HQD_PQ_WPTR_HI`.
pub const CP_HQD_COUNT: u32 = 0x38;
/// Safe mode of the run list controller.
pub const RLC_SAFE_MODE: u32 = 0xec05;
/// Clock.
pub const RLC_GPU_CLOCK_COUNT_LSB: u32 = 0xec24;
/// High part.
pub const RLC_GPU_CLOCK_COUNT_MSB: u32 = 0xec25;
/// Mailbox of the boot loader (`mp_9_0_offset.h`); bit 31 says that it runs.
pub const MP0_SMN_C2PMSG_33: u32 = 0x16061;

/// Banked registers of a queue, as offsets from [`CP_HQD_FIRST`].
pub mod hqd {
    /// Whether the queue runs.
    pub const ACTIVE: usize = 0x02;
    /// Address space.
    pub const VMID: usize = 0x03;
    /// Base in 256 bytes, low and high.
    pub const PQ_BASE: usize = 0x08;
    /// Read pointer in dwords.
    pub const PQ_RPTR: usize = 0x0a;
    /// Where the read pointer is reported, low and high.
    pub const PQ_RPTR_REPORT_ADDR: usize = 0x0b;
    /// Doorbell.
    pub const PQ_DOORBELL_CONTROL: usize = 0x0f;
    /// Size and kind.
    pub const PQ_CONTROL: usize = 0x11;
    /// Request to stop.
    pub const DEQUEUE_REQUEST: usize = 0x18;
    /// Write pointer in dwords, low and high.
    pub const PQ_WPTR: usize = 0x36;
}

/// Registers of an SDMA ring, as offsets from its control register.
pub mod sdma {
    /// Enable, size, address space.
    pub const RB_CNTL: u32 = 0x00;
    /// Base in 256 bytes, low and high.
    pub const RB_BASE: u32 = 0x01;
    /// Read pointer in bytes, low and high.
    pub const RB_RPTR: u32 = 0x03;
    /// Write pointer in bytes, low and high.
    pub const RB_WPTR: u32 = 0x05;
    /// Where the read pointer is reported, high part.
    pub const RB_RPTR_ADDR_HI: u32 = 0x08;
    /// Low part.
    pub const RB_RPTR_ADDR_LO: u32 = 0x09;
    /// State of the ring.
    pub const CONTEXT_STATUS: u32 = 0x11;
    /// Doorbell: enable.
    pub const DOORBELL: u32 = 0x12;
    /// Doorbell: byte offset.
    pub const DOORBELL_OFFSET: u32 = 0x2b;
    /// Registers of a ring that are named.
    pub const COUNT: u32 = 0x44;
}

/// Registers of a hub, as offsets from `VM_CONTEXT0_CNTL`.
pub mod hub {
    /// Semaphores of the invalidation engines.
    pub const INVALIDATE_SEM: u32 = 0x11;
    /// Requests.
    pub const INVALIDATE_REQ: u32 = 0x23;
    /// Acknowledgements.
    pub const INVALIDATE_ACK: u32 = 0x35;
    /// Ranges, low and high.
    pub const INVALIDATE_ADDR_RANGE: u32 = 0x47;
    /// Roots of page tables, low and high.
    pub const PAGE_TABLE_BASE: u32 = 0x6b;
    /// First pages, low and high.
    pub const PAGE_TABLE_START: u32 = 0x8b;
    /// Last pages, low and high.
    pub const PAGE_TABLE_END: u32 = 0xab;
    /// How many invalidation engines there are.
    pub const ENGINES: u32 = 18;
}

/// Apertures of a hub, as offsets from `MC_VM_FB_LOCATION_BASE`.
pub mod aperture {
    /// End of the frame buffer.
    pub const FB_LOCATION_TOP: u32 = 1;
    /// End of the AGP aperture.
    pub const AGP_TOP: u32 = 2;
    /// Start of the AGP aperture.
    pub const AGP_BOT: u32 = 3;
    /// Bus address behind the AGP aperture.
    pub const AGP_BASE: u32 = 4;
}
