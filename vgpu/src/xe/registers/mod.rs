//! The registers of the device, block by block; names and addresses are those of the driver's `regs/*.h`.

pub(in crate::xe) mod engine;
mod gt;
mod irq;
mod soc;

use super::topology::{ENGINES, MEDIA, MEDIA_OFFSET};
use crate::profile::Profile;
use crate::regs::{Behaviour, Def, Table};

pub(in crate::xe) use gt::{
    DMA_ADDR_0_HIGH, DMA_ADDR_0_LOW, DMA_COPY_SIZE, DMA_CTRL, GUC_STATUS, HUC_KERNEL_LOAD_INFO,
};
pub(in crate::xe) use irq::{GUC_FLAGS, GUC_FLAGS_MEDIA};
pub(in crate::xe) use soc::{GU_DEBUG, PCODE_DATA0, PCODE_DATA1};

/// Registers at which the device acts; the device model handles them in `mmio.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Master interrupt control.
    InterruptTile,
    /// Pending banks.
    InterruptMaster,
    /// Pending sources of a bank.
    InterruptBank(usize),
    /// Which source of a bank is asked for.
    InterruptSelector(usize),
    /// The identity of the selected source.
    InterruptIdentity(usize),
    /// Request to keep a domain awake; the acknowledgement lies at this address.
    ForceWake(u32),
    /// Command register of the power controller.
    PcodeMailbox,
    /// Function-level reset.
    GuControl,
    /// Reset of a unit or of its firmware.
    Reset(usize),
    /// Start of a firmware upload.
    FirmwareDma(usize),
    /// First dword of a request to the firmware.
    GucRequest(usize),
    /// Doorbell of the firmware.
    GucDoorbell(usize),
    /// Free-running clock; `true` for the high half.
    Clock(bool),
    /// Run time of the context on an engine; `true` for the high half.
    ContextClock(usize, bool),
}

type D = Def<Key>;

const fn ram(name: &'static str, at: u32) -> D {
    Def::new(name, at, Behaviour::Ram)
}

const fn ro(name: &'static str, at: u32, value: u32) -> D {
    Def::new(name, at, Behaviour::ReadOnly).reset(value)
}

const fn masked(name: &'static str, at: u32) -> D {
    Def::new(name, at, Behaviour::Masked)
}

const fn hook(name: &'static str, at: u32, key: Key) -> D {
    Def::new(name, at, Behaviour::Hook(key))
}

/// Bytes of the device's memory that the driver may not use, counted from the end: stolen memory behind the GTT's
/// own memory.
const RESERVED: u64 = 0x200_0000;
const STOLEN: u64 = 0x180_0000;

/// What the driver can express: it counts the memory of a device in units of 1 GiB.
const UNIT: u64 = 1 << 30;

/// How much memory is in a device that is said to have `vram` bytes: below 1 GiB, the rest of it is out of use.
pub fn installed(vram: u64) -> u64 {
    vram.max(UNIT)
}

/// Where the part that the driver may use ends.
fn usable(vram: u64) -> u64 {
    vram.min(installed(vram) - RESERVED)
}

/// The table for a profile with this much device memory.
pub fn table(profile: &Profile, vram: u64) -> Table<Key> {
    let mut t = Table::default();
    t.block("", 0, soc::SOC);
    t.block("", 0, irq::IRQ);
    t.block("", 0, gt::COMMON);
    t.block("", 0, gt::MAIN_ONLY);
    t.block("", 0, gt::hooks(0));
    t.block("MEDIA.", MEDIA_OFFSET, gt::COMMON);
    t.block("MEDIA.", MEDIA_OFFSET, gt::hooks(1));
    t.block("MEDIA.", MEDIA_OFFSET, gt::MEDIA_ONLY);
    for (i, e) in ENGINES.iter().enumerate() {
        let prefix = format!("{}.", e.name.to_uppercase());
        t.block(&prefix, e.base, engine::ENGINE);
        t.block(&prefix, e.base, &engine::clocks(i));
        t.area(&e.name.to_uppercase(), e.base, 0x800);
        if profile.media || e.unit != MEDIA {
            t.preset(e.base + engine::RING_PWRCTX_MAXCNT, 0x40);
        }
    }
    t.area("MEDIA", MEDIA_OFFSET, 0x4_0000);
    t.area("DISPLAY", 0x4_0000, 0x8_0000);
    t.area("SOC", 0x28_0000, 0x1000);

    // Memory sizes: units of 1 GiB; the usable part ends at the GTT's own memory.
    let installed = installed(vram);
    let usable = usable(vram);
    let gib = (installed / UNIT) as u32;
    t.preset(soc::SG_TILE_ADDR_RANGE, gib << 8 | 1);
    t.preset(gt::XEHP_TILE_ADDR_RANGE, gib << 8 | 1);
    t.preset(soc::GSMBASE, usable as u32);
    t.preset(soc::GSMBASE + 4, (usable >> 32) as u32);
    t.preset(soc::DSMBASE, (installed - STOLEN) as u32);
    t.preset(soc::DSMBASE + 4, ((installed - STOLEN) >> 32) as u32);
    if profile.flat_ccs {
        // Start of the metadata, in units of 64 KiB, counted per L3 node (there are four).
        let base = usable.min(installed - 2 * RESERVED) / 4;
        t.preset(gt::XE2_FLAT_CCS_BASE_RANGE_LOWER, (base as u32 & !0xffff) | 1);
        t.preset(gt::XE2_FLAT_CCS_BASE_RANGE_UPPER, (base >> 32) as u32);
    }
    // Graphics version 20.01, revision 4 (GMD_ID: architecture, release, revision).
    t.preset(gt::GMD_ID, 20 << 22 | 1 << 14 | 4);
    if profile.media {
        t.preset(MEDIA_OFFSET + gt::GMD_ID, 13 << 22 | 1 << 14 | 4);
        // Video engine 0 and enhancement engine 0 are present.
        t.preset(MEDIA_OFFSET + gt::GT_VEBOX_VDBOX_DISABLE, 1 << 16 | 1);
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_consistent_for_every_profile() {
        for media in [false, true] {
            for flat_ccs in [false, true] {
                for mib in [256, 1024, 4096, 16384] {
                    let t = table(&Profile { media, flat_ccs, ..Profile::default() }, mib << 20);
                    let reset = |a| t.get(a).unwrap().reset;
                    let gib = mib.div_ceil(1024);
                    assert_eq!(reset(soc::SG_TILE_ADDR_RANGE) >> 8, gib as u32);
                    assert_eq!(reset(MEDIA_OFFSET + gt::GMD_ID) != 0, media);
                    let usable = u64::from(reset(soc::GSMBASE)) | u64::from(reset(soc::GSMBASE + 4)) << 32;
                    let stolen = u64::from(reset(soc::DSMBASE)) | u64::from(reset(soc::DSMBASE + 4)) << 32;
                    assert!(usable < stolen && stolen < gib << 30 && usable % (2 << 20) == 0);
                    assert!(usable <= mib << 20);
                }
            }
        }
    }

    #[test]
    fn identity_is_read_only() {
        let t = table(&Profile::default(), 1 << 30);
        assert_eq!(t.get(gt::GMD_ID).unwrap().behaviour, Behaviour::ReadOnly);
    }
}
