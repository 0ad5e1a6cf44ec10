//! Registers outside the units: power controller, memory layout, function control, display.

use super::{D, Key, hook, ram, ro};
use crate::regs::{Behaviour, Def};

pub(in crate::xe) const PCODE_DATA0: u32 = 0x13_8128;
pub(in crate::xe) const PCODE_DATA1: u32 = 0x13_812c;
pub(in crate::xe) const GU_DEBUG: u32 = 0x10_1018;
pub(in crate::xe) const GSMBASE: u32 = 0x10_8100;
pub(in crate::xe) const DSMBASE: u32 = 0x10_80c0;
pub(in crate::xe) const SG_TILE_ADDR_RANGE: u32 = 0x10_83a0;

/// Frequencies are in units of 16.67 MHz: 400 to 2400 MHz.
const RP_STATE_CAP: u32 = 24 << 16 | 144;

pub(in crate::xe) const SOC: &[D] = &[
    hook("PCODE_MAILBOX", 0x13_8124, Key::PcodeMailbox),
    ram("PCODE_DATA0", PCODE_DATA0),
    ram("PCODE_DATA1", PCODE_DATA1),
    ram("GT_PM_CONFIG", 0x13_816c),
    ro("BMG_VRAM_TEMPERATURE_N", 0x13_8260, 0).row(16, 4),
    ro("PCODE_SCRATCH", 0x13_8320, 0).row(4, 4),
    ro("MTL_RP_STATE_CAP", 0x13_8000, RP_STATE_CAP),
    ro("MTL_GT_RPA_FREQUENCY", 0x13_8008, 100),
    ro("MTL_GT_RPE_FREQUENCY", 0x13_800c, 72),
    ro("MTL_MEDIAP_STATE_CAP", 0x13_8020, RP_STATE_CAP),
    ro("MTL_MPA_FREQUENCY", 0x13_8028, 100),
    ro("MTL_MPE_FREQUENCY", 0x13_802c, 72),
    ram("GU_CNTL_PROTECTED", 0x10_100c),
    // LMEM_INIT: the memory is ready.
    hook("GU_CNTL", 0x10_1010, Key::GuControl).reset(1 << 7),
    Def::new("GU_DEBUG", GU_DEBUG, Behaviour::WriteOneToClear),
    ro("DSMBASE", DSMBASE, 0).row(2, 4),
    ro("GSMBASE", GSMBASE, 0).row(2, 4),
    // Size of the firmware's private memory: code 3 is 8 MiB.
    ro("STOLEN_RESERVED", 0x10_82c0, 3 << 7).row(1, 4),
    ro("STOLEN_RESERVED_HIGH", 0x10_82c4, 0),
    ro("SG_TILE_ADDR_RANGE", SG_TILE_ADDR_RANGE, 0),
    ro("VF_CAP_REG", 0x19_01f8, 0),
    // The last page of doorbells, none of which is configured: processes may map it, and write to it as a barrier
    // (`xe_pci_barrier_mmap`).
    ro("DOORBELL_BARRIER", 0x7f_f000, 0xdead_beef).row(1024, 4),
    ram("VDBOX_CGCTL3F08", 0x1c_3f08),
    ram("VDBOX_CGCTL3F1C", 0x1c_3f1c),
    ram("SOC_280164", 0x28_0164),
    ram("SOC_280168", 0x28_0168),
    ram("SOC_35B004", 0x35_b004),
    ram("SOC_374C48", 0x37_4c48),
    // Display interrupts: mask, identity (write one to clear), enable.
    ram("DE_MISC_IMR", 0x4_4464),
    Def::new("DE_MISC_IIR", 0x4_4468, Behaviour::WriteOneToClear),
    ram("DE_MISC_IER", 0x4_446c),
    ram("GU_MISC_IMR", 0x4_44f4),
    Def::new("GU_MISC_IIR", 0x4_44f8, Behaviour::WriteOneToClear),
    ram("GU_MISC_IER", 0x4_44fc),
    ram("PCU_IMR", 0x4_44e4),
    Def::new("PCU_IIR", 0x4_44e8, Behaviour::WriteOneToClear),
    ram("PCU_IER", 0x4_44ec),
];
