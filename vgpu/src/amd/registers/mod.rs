//! The register table: what the model acts on, and the names of everything else that the driver touches.

pub mod at;

use super::asic::{Asic, SDMA_RING_STRIDE};
use super::vm::{ApertureField, ContextField, HubId, VMIDS};
use crate::regs::{Behaviour, Def, Table};

/// What the model does on an access; `first` is the first register of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Data of the window into registers and memory.
    Window,
    /// Data of the window into the system management network.
    Network,
    /// Size of device memory.
    MemorySize,
    /// The clock, low or high part.
    Clock {
        /// High part.
        high: bool,
    },
    /// Request to drop translations.
    Invalidate(HubId),
    /// A context of a hub.
    Context {
        /// The hub.
        hub: HubId,
        /// Which register.
        field: ContextField,
        /// First of the row.
        first: u32,
    },
    /// An aperture of a hub.
    Aperture(HubId, ApertureField),
    /// A banked register of a queue of the command processor.
    Queue,
    /// Write pointer of the graphics ring.
    GraphicsPointer,
    /// Control or write pointer of an SDMA ring.
    SdmaRing {
        /// The engine.
        engine: usize,
    },
    /// Acknowledgement of a retry fault.
    RetryAcknowledge,
}

use Behaviour::{Hook as H, Ram, ReadOnly, SelfClearing};

const fn row(name: &'static str, at: u32, count: u32, behaviour: Behaviour<Hook>) -> Def<Hook> {
    Def::new(name, at, behaviour).row(count, 1)
}

/// Names of registers that are plain storage, by device.
const NAMES: [(&str, &str); 2] =
    [("vega10", include_str!("vega10.txt")), ("aldebaran", include_str!("aldebaran.txt"))];

/// State of an idle SDMA ring (`SDMA0_GFX_CONTEXT_STATUS__IDLE`).
const RING_IDLE: u32 = 1 << 2;

/// The table of a device.
pub fn table(asic: &'static Asic) -> Table<Hook> {
    let mut table = Table::default();
    table.block(
        "",
        0,
        &[
            Def::new("MM_DATA", at::MM_DATA, H(Hook::Window)),
            Def::new("PCIE_DATA2", at::PCIE_DATA2, H(Hook::Network)),
            row("BIOS_SCRATCH", at::BIOS_SCRATCH_0, 16, Ram),
            Def::new(
                "ATC_VMID_PASID_MAPPING_UPDATE_STATUS",
                at::ATC_VMID_PASID_MAPPING_UPDATE_STATUS,
                ReadOnly,
            )
            .reset(!0),
            row("ATC_VMID_PASID_MAPPING", at::ATC_VMID0_PASID_MAPPING, VMIDS, Ram),
            Def::new("RCC_CONFIG_MEMSIZE", at::RCC_CONFIG_MEMSIZE, H(Hook::MemorySize)),
            Def::new("GPU_HDP_FLUSH_DONE", at::GPU_HDP_FLUSH_DONE, ReadOnly).reset(!0),
            row("IH_VMID_LUT", at::IH_VMID_0_LUT, VMIDS, Ram),
            row("IH_VMID_LUT_MM", at::IH_VMID_0_LUT_MM, VMIDS, Ram),
            row("CP_HQD", at::CP_HQD_FIRST, at::CP_HQD_COUNT, H(Hook::Queue)),
            Def::new("CP_RB0_WPTR", at::CP_RB0_WPTR, H(Hook::GraphicsPointer)),
            Def::new("RLC_SAFE_MODE", at::RLC_SAFE_MODE, SelfClearing(1)),
            Def::new("RLC_GPU_CLOCK_COUNT_LSB", at::RLC_GPU_CLOCK_COUNT_LSB, H(Hook::Clock { high: false })),
            Def::new("RLC_GPU_CLOCK_COUNT_MSB", at::RLC_GPU_CLOCK_COUNT_MSB, H(Hook::Clock { high: true })),
            Def::new("MP0_SMN_C2PMSG_33", at::MP0_SMN_C2PMSG_33, ReadOnly).reset(1 << 31),
        ],
    );
    let storage =
        [("MM_INDEX", at::MM_INDEX), ("MM_INDEX_HI", at::MM_INDEX_HI), ("PCIE_INDEX2", at::PCIE_INDEX2)];
    for (name, address) in storage {
        table.block("", 0, &[Def::new(name, address, Ram)]);
    }
    if asic.retry_cam {
        table.block("", 0, &[Def::new("IH_RETRY_CAM_ACK", at::IH_RETRY_CAM_ACK, H(Hook::RetryAcknowledge))]);
    }
    // The firmware of the board says that it has initialised the device.
    table.preset(at::BIOS_SCRATCH_0 + 7, 1 << 9);
    for hub in HubId::ALL {
        add_hub(&mut table, asic, hub);
    }
    for engine in 0..asic.sdma.len() {
        add_sdma(&mut table, asic, engine);
    }
    add_names(&mut table, asic);
    if asic.graphics {
        add_context(&mut table);
    }
    table
}

fn add_hub(table: &mut Table<Hook>, asic: &Asic, hub: HubId) {
    let prefix = if hub == HubId::Gc { "GC." } else { "MMHUB." };
    let registers = asic.hub(hub);
    let context = |name, at, count, field| {
        let hook = Hook::Context { hub, field, first: registers.contexts + at };
        row(name, at, count, H(hook))
    };
    use at::hub as h;
    table.block(
        prefix,
        registers.contexts,
        &[
            context("VM_CONTEXT_CNTL", 0, VMIDS, ContextField::Control),
            row("VM_INVALIDATE_SEM", h::INVALIDATE_SEM, h::ENGINES, ReadOnly).reset(1),
            row("VM_INVALIDATE_REQ", h::INVALIDATE_REQ, h::ENGINES, H(Hook::Invalidate(hub))),
            row("VM_INVALIDATE_ACK", h::INVALIDATE_ACK, h::ENGINES, ReadOnly).reset(0xffff),
            row("VM_INVALIDATE_ADDR_RANGE", h::INVALIDATE_ADDR_RANGE, 2 * h::ENGINES, Ram),
            context("VM_CONTEXT_PAGE_TABLE_BASE", h::PAGE_TABLE_BASE, 2 * VMIDS, ContextField::Base),
            context("VM_CONTEXT_PAGE_TABLE_START", h::PAGE_TABLE_START, 2 * VMIDS, ContextField::Start),
            context("VM_CONTEXT_PAGE_TABLE_END", h::PAGE_TABLE_END, 2 * VMIDS, ContextField::End),
        ],
    );
    use at::aperture as a;
    let aperture = |name, at, field| Def::new(name, at, H(Hook::Aperture(hub, field)));
    table.block(
        prefix,
        registers.apertures,
        &[
            aperture("MC_VM_FB_LOCATION_BASE", 0, ApertureField::FrameBase),
            aperture("MC_VM_FB_LOCATION_TOP", a::FB_LOCATION_TOP, ApertureField::FrameTop),
            aperture("MC_VM_AGP_TOP", a::AGP_TOP, ApertureField::AgpTop),
            aperture("MC_VM_AGP_BOT", a::AGP_BOT, ApertureField::AgpBottom),
            aperture("MC_VM_AGP_BASE", a::AGP_BASE, ApertureField::AgpBase),
        ],
    );
    table.block(prefix, 0, &[Def::new("VM_L2_PROTECTION_FAULT_STATUS", registers.fault_status, Ram)]);
}

fn add_sdma(table: &mut Table<Hook>, asic: &Asic, engine: usize) {
    let prefix = format!("SDMA{engine}.");
    table.block(
        &prefix,
        asic.sdma[engine],
        &[
            // STATUS_REG and STATUS1_REG: idle.
            Def::new("STATUS_REG", 0x25, ReadOnly).reset(1),
            Def::new("STATUS1_REG", 0x26, ReadOnly).reset(0),
        ],
    );
    use at::sdma as s;
    for ring in 0..asic.sdma_rings {
        let name = match ring {
            0 => "GFX_".into(),
            1 => "PAGE_".into(),
            n => format!("RLC{}_", n - 2),
        };
        let hook = H(Hook::SdmaRing { engine });
        table.block(
            &format!("{prefix}{name}"),
            asic.sdma[engine] + 0x80 + ring * SDMA_RING_STRIDE,
            &[
                Def::new("RB_CNTL", s::RB_CNTL, hook),
                row("RB_BASE", s::RB_BASE, 2, Ram),
                row("RB_RPTR", s::RB_RPTR, 2, Ram),
                row("RB_WPTR", s::RB_WPTR, 2, hook),
                Def::new("RB_WPTR_POLL_CNTL", 0x07, Ram),
                Def::new("RB_RPTR_ADDR_HI", s::RB_RPTR_ADDR_HI, Ram),
                Def::new("RB_RPTR_ADDR_LO", s::RB_RPTR_ADDR_LO, Ram),
                Def::new("IB_CNTL", 0x0a, Ram),
                row("IB", 0x0b, 6, Ram),
                Def::new("CONTEXT_STATUS", s::CONTEXT_STATUS, ReadOnly).reset(RING_IDLE),
                Def::new("DOORBELL", s::DOORBELL, Ram),
                Def::new("STATUS", 0x28, Ram),
                Def::new("DOORBELL_OFFSET", s::DOORBELL_OFFSET, Ram),
                row("CSA_ADDR", 0x2c, 2, Ram),
                Def::new("RB_WPTR_POLL_ADDR_HI", 0x32, Ram),
                Def::new("RB_WPTR_POLL_ADDR_LO", 0x33, Ram),
                Def::new("RB_AQL_CNTL", 0x34, Ram),
                Def::new("MINOR_PTR_UPDATE", 0x35, Ram),
                row("MIDCMD", 0x40, s::COUNT - 0x40, Ram),
            ],
        );
    }
}

/// The state of the graphics pipeline. The driver clears it in whole ranges, holes included.
fn add_context(table: &mut Table<Hook>) {
    for address in 0xa000..0xa400 {
        if table.get(address).is_none() {
            table.block("", 0, &[Def::new("GC.CONTEXT", address, Ram)]);
        }
    }
}

/// Adds the registers of a text of lines `ADDRESS NAME`, in hexadecimal dwords; `#` starts a comment.
fn add_names(table: &mut Table<Hook>, asic: &Asic) {
    let text = NAMES.iter().find(|(name, _)| *name == asic.name).map_or("", |(_, text)| text);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((address, name)) = line.split_once(' ') else { continue };
        let Ok(address) = u32::from_str_radix(address, 16) else { continue };
        if table.get(address).is_none() {
            table.block("", 0, &[Def::new(name, address, Ram)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amd::asic::{MI200, VEGA10};

    #[test]
    fn tables_hold_together() {
        for asic in [&VEGA10, &MI200] {
            let table = table(asic);
            assert_eq!(table.get(at::BIOS_SCRATCH_0 + 7).unwrap().reset, 0x200);
            assert_eq!(table.name(asic.sdma_ring(1, 0)), "SDMA1.GFX_RB_CNTL");
            assert_eq!(
                table.name(asic.mm.contexts + at::hub::INVALIDATE_REQ + 17),
                "MMHUB.VM_INVALIDATE_REQ(17)"
            );
        }
    }

    #[test]
    fn known_addresses() {
        // Against the sums of base and offset in the headers.
        let vega = table(&VEGA10);
        for (address, name) in [
            (0x28b5, "GC.VM_INVALIDATE_ACK(0)"),
            (0x1a72b, "MMHUB.VM_CONTEXT_PAGE_TABLE_BASE(0)"),
            (0x1a82c, "MMHUB.MC_VM_FB_LOCATION_BASE"),
            (0x130b, "SDMA0.GFX_DOORBELL_OFFSET"),
            (0x13a0, "SDMA0.RLC0_RB_CNTL"),
        ] {
            assert_eq!(vega.name(address), name);
        }
        let mi200 = table(&MI200);
        for (address, name) in [
            (0x1abf5, "MMHUB.VM_INVALIDATE_ACK(0)"),
            (0x1ac2b, "MMHUB.VM_CONTEXT_PAGE_TABLE_BASE(0)"),
            (0x1e880, "SDMA4.GFX_RB_CNTL"),
            (0x1acc0, "MMHUB.MC_VM_FB_LOCATION_BASE"),
        ] {
            assert_eq!(mi200.name(address), name);
        }
    }

    #[test]
    fn lists_of_names_are_well_formed() {
        for (device, text) in NAMES {
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let (address, name) = line.split_once(' ').expect(line);
                assert!(u32::from_str_radix(address, 16).is_ok() && !name.contains(' '), "{device}: {line}");
            }
        }
    }
}
