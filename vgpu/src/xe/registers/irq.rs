//! Interrupt registers, and the mailbox registers of the firmware that lie among them.

use super::{D, Key, hook, ram};

/// First of the registers through which the main unit's firmware takes requests.
pub(in crate::xe) const GUC_FLAGS: u32 = 0x19_0240;
/// The same of the media unit.
pub(in crate::xe) const GUC_FLAGS_MEDIA: u32 = 0x19_0310;

pub(in crate::xe) const IRQ: &[D] = &[
    hook("DG1_MSTR_TILE_INTR", 0x19_0008, Key::InterruptTile),
    hook("GFX_MSTR_IRQ", 0x19_0010, Key::InterruptMaster),
    hook("GT_INTR_DW0", 0x19_0018, Key::InterruptBank(0)),
    hook("GT_INTR_DW1", 0x19_001c, Key::InterruptBank(1)),
    hook("INTR_IDENTITY_REG0", 0x19_0060, Key::InterruptIdentity(0)),
    hook("INTR_IDENTITY_REG1", 0x19_0064, Key::InterruptIdentity(1)),
    hook("IIR_REG_SELECTOR0", 0x19_0070, Key::InterruptSelector(0)),
    hook("IIR_REG_SELECTOR1", 0x19_0074, Key::InterruptSelector(1)),
    ram("RENDER_COPY_INTR_ENABLE", 0x19_0030),
    ram("VCS_VECS_INTR_ENABLE", 0x19_0034),
    ram("GUC_SG_INTR_ENABLE", 0x19_0038),
    ram("GPM_WGBOXPERF_INTR_ENABLE", 0x19_003c),
    ram("CRYPTO_RSVD_INTR_ENABLE", 0x19_0040),
    ram("GUNIT_GSC_INTR_ENABLE", 0x19_0044),
    ram("CCS_RSVD_INTR_ENABLE", 0x19_0048),
    ram("RCS0_RSVD_INTR_MASK", 0x19_0090),
    ram("BCS_RSVD_INTR_MASK", 0x19_00a0),
    ram("VCS0_VCS1_INTR_MASK", 0x19_00a8),
    ram("VCS2_VCS3_INTR_MASK", 0x19_00ac),
    ram("VCS4_VCS5_INTR_MASK", 0x19_00b0),
    ram("VCS6_VCS7_INTR_MASK", 0x19_00b4),
    ram("VECS0_VECS1_INTR_MASK", 0x19_00d0),
    ram("VECS2_VECS3_INTR_MASK", 0x19_00d4),
    ram("HECI2_RSVD_INTR_MASK", 0x19_00e4),
    ram("GUC_SG_INTR_MASK", 0x19_00e8),
    ram("GPM_WGBOXPERF_INTR_MASK", 0x19_00ec),
    ram("CRYPTO_RSVD_INTR_MASK", 0x19_00f0),
    ram("GUNIT_GSC_INTR_MASK", 0x19_00f4),
    ram("CCS0_CCS1_INTR_MASK", 0x19_0100),
    ram("CCS2_CCS3_INTR_MASK", 0x19_0104),
    ram("XEHPC_BCS1_BCS2_INTR_MASK", 0x19_0110),
    ram("XEHPC_BCS3_BCS4_INTR_MASK", 0x19_0114),
    ram("XEHPC_BCS5_BCS6_INTR_MASK", 0x19_0118),
    ram("XEHPC_BCS7_BCS8_INTR_MASK", 0x19_011c),
    hook("GUC_HOST_INTERRUPT", 0x19_01f0, Key::GucDoorbell(0)),
    hook("VF_SW_FLAG", GUC_FLAGS, Key::GucRequest(0)),
    ram("VF_SW_FLAG_", GUC_FLAGS + 4).row(3, 4),
    hook("MED_GUC_HOST_INTERRUPT", 0x19_0304, Key::GucDoorbell(1)),
    hook("MED_VF_SW_FLAG", GUC_FLAGS_MEDIA, Key::GucRequest(1)),
    ram("MED_VF_SW_FLAG_", GUC_FLAGS_MEDIA + 4).row(3, 4),
];
