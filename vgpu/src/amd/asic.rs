//! The two devices that the model can be.
//!
//! Addresses of registers are dwords from the start of the register BAR: the offsets of `asic_reg/*_offset.h` plus the
//! bases of `vega10_ip_offset.h` and `aldebaran_ip_offset.h`.

use super::vm::HubId;

/// Where one VM hub has its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubRegisters {
    /// `VM_CONTEXT0_CNTL`; the registers of contexts and invalidations follow at fixed distances.
    pub contexts: u32,
    /// `VM_L2_PROTECTION_FAULT_STATUS`.
    pub fault_status: u32,
    /// `MC_VM_FB_LOCATION_BASE`; the other apertures follow at fixed distances.
    pub apertures: u32,
}

/// A device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asic {
    /// Name of the firmware files.
    pub name: &'static str,
    /// Name of the board in the VBIOS.
    pub board: &'static str,
    /// PCI device identifier.
    pub device: u16,
    /// PCI subsystem identifier.
    pub subsystem: u16,
    /// First registers of the SDMA engines.
    pub sdma: &'static [u32],
    /// Register rings of an SDMA engine: graphics, page, and those for queues of processes.
    pub sdma_rings: u32,
    /// Byte counts of copies and fills have 30 bits instead of 22.
    pub wide_copies: bool,
    /// Has a graphics ring.
    pub graphics: bool,
    /// Reports a retry fault once and waits for an acknowledgement.
    pub retry_cam: bool,
    /// Distance of the registers of two interrupt rings.
    pub interrupt_rings: u32,
    /// Hub of memory clients other than graphics and compute.
    pub mm: HubRegisters,
    /// Has links to others of its kind.
    pub xgmi: bool,
}

/// Hub of graphics and compute, at the same place in both.
const GC: HubRegisters = HubRegisters { contexts: 0x2880, fault_status: 0x284b, apertures: 0x2980 };

/// Vega 10: gfx900, GC 9.0.1.
pub const VEGA10: Asic = Asic {
    name: "vega10",
    board: "Virtual Vega 10",
    device: 0x6860,
    subsystem: 0x0c35,
    sdma: &[0x1260, 0x1460],
    sdma_rings: 4,
    wide_copies: false,
    graphics: true,
    retry_cam: false,
    interrupt_rings: 8,
    mm: HubRegisters { contexts: 0x1a6c0, fault_status: 0x1a68b, apertures: 0x1a82c },
    xgmi: false,
};

/// Aldebaran, sold as MI200: gfx90a, GC 9.4.2.
pub const MI200: Asic = Asic {
    name: "aldebaran",
    board: "Virtual MI200",
    device: 0x7408,
    subsystem: 0x0c34,
    sdma: &[0x1260, 0x1860, 0x1e000, 0x1e400, 0x1e800],
    sdma_rings: 10,
    wide_copies: true,
    graphics: false,
    retry_cam: true,
    interrupt_rings: 12,
    mm: HubRegisters { contexts: 0x1abc0, fault_status: 0x1ab8b, apertures: 0x1acc0 },
    xgmi: true,
};

impl Asic {
    /// The registers of a hub.
    pub fn hub(&self, hub: HubId) -> HubRegisters {
        match hub {
            HubId::Gc => GC,
            HubId::Mm => self.mm,
        }
    }

    /// First register of a ring of an SDMA engine.
    pub fn sdma_ring(&self, engine: usize, ring: u32) -> u32 {
        self.sdma[engine] + 0x80 + ring * SDMA_RING_STRIDE
    }
}

/// Distance of the registers of two rings of an SDMA engine (`sdma0_4_0_offset.h`).
pub const SDMA_RING_STRIDE: u32 = 0x60;

/// Interrupt clients of the SDMA engines (`soc15_ih_clientid.h`).
pub const SDMA_CLIENTS: [u32; 5] = [8, 9, 1, 4, 5];
