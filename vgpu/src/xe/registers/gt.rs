//! Registers of a unit; the media unit has the same block further up.

use super::{D, Key, hook, masked, ram, ro};
use crate::regs::{Behaviour, Def};

pub(in crate::xe) const GMD_ID: u32 = 0xd8c;
pub(in crate::xe) const XEHP_TILE_ADDR_RANGE: u32 = 0x4900;
pub(in crate::xe) const XE2_FLAT_CCS_BASE_RANGE_LOWER: u32 = 0x8800;
pub(in crate::xe) const XE2_FLAT_CCS_BASE_RANGE_UPPER: u32 = 0x8804;
pub(in crate::xe) const GT_VEBOX_VDBOX_DISABLE: u32 = 0x9140;
pub(in crate::xe) const GUC_STATUS: u32 = 0xc000;
pub(in crate::xe) const HUC_KERNEL_LOAD_INFO: u32 = 0xc1dc;
pub(in crate::xe) const DMA_ADDR_0_LOW: u32 = 0xc300;
pub(in crate::xe) const DMA_ADDR_0_HIGH: u32 = 0xc304;
pub(in crate::xe) const DMA_COPY_SIZE: u32 = 0xc310;
pub(in crate::xe) const DMA_CTRL: u32 = 0xc314;

pub(in crate::xe) const COMMON: &[D] = &[
    // 19.2 MHz crystal (3), frequency shift.
    ro("RPM_CONFIG0", 0xd00, 1 << 3 | 3 << 1),
    // The driver writes it as a flush (Wa_22019338487): must not change.
    ro("GMD_ID", GMD_ID, 0),
    ro("FORCEWAKE_ACK_RENDER", 0xd84, 0),
    ro("FORCEWAKE_ACK_GT_MTL", 0xdfc, 0),
    // Always granted.
    ro("STEER_SEMAPHORE", 0xfd0, 1),
    ram("MTL_MCR_SELECTOR", 0xfd4),
    ro("MTL_MIRROR_TARGET_WP1", 0xc60, 72),
    ram("XELP_GLOBAL_MOCS", 0x4000).row(64, 4),
    ram("STATELESS_COMPRESSION_CTRL", 0x4148),
    ram("XE2_PAT_ATS", 0x47fc),
    ram("XE2_PAT", 0x4800).row(40, 4),
    ro("MIRROR_FUSE3", 0x9118, 0x000f_000f),
    ro("XEHP_FUSE4", 0x9114, 1 << 16),
    ro("MIRROR_FUSE1", 0x911c, 0),
    // Production part.
    ro("FUSE2", 0x9120, 1 << 2),
    ro("XELP_EU_ENABLE", 0x9134, 0xff),
    ro("FUSE_9138", 0x9138, 0xff),
    ro("XELP_GT_GEOMETRY_DSS_ENABLE", 0x913c, 0xff),
    ro("GT_VEBOX_VDBOX_DISABLE", GT_VEBOX_VDBOX_DISABLE, 0),
    ro("XEHP_GT_COMPUTE_DSS_ENABLE", 0x9144, 0xff),
    ro("XEHPC_GT_COMPUTE_DSS_ENABLE_EXT", 0x9148, 0),
    ro("XE2_GT_COMPUTE_DSS_2", 0x914c, 0),
    ro("XE2_GT_GEOMETRY_DSS_1", 0x9150, 0),
    ro("XE2_GT_GEOMETRY_DSS_2", 0x9154, 0),
    ram("RPNSWREQ", 0xa008).reset(0x4000_0000),
    ram("RP_CONTROL", 0xa024),
    ram("RC_CONTROL", 0xa090),
    ram("RC_STATE", 0xa094),
    ram("PMINTRMSK", 0xa168),
    ram("POWERGATE_ENABLE", 0xa210),
    ro("GT_A26C", 0xa26c, 0),
    Def::new("XE2_GLOBAL_INVAL", 0xb404, Behaviour::SelfClearing(1)),
    Def::new("XE2_TDF_CTRL", 0xb418, Behaviour::SelfClearing(1)),
    // Boot ROM "in reset".
    ram("GUC_STATUS", GUC_STATUS).reset(1),
    ro("GUC_C010", 0xc010, 0),
    Def::new("GUC_WOPCM_SIZE", 0xc050, Behaviour::Latching(1)),
    ram("GUC_SHIM_CONTROL", 0xc064),
    ram("SOFT_SCRATCH", 0xc180).row(16, 4),
    ram("HUC_KERNEL_LOAD_INFO", HUC_KERNEL_LOAD_INFO),
    ram("UOS_RSA_SCRATCH", 0xc200).row(64, 4),
    ram("DMA_ADDR_0_LOW", DMA_ADDR_0_LOW),
    ram("DMA_ADDR_0_HIGH", DMA_ADDR_0_HIGH),
    ram("DMA_ADDR_1_LOW", 0xc308),
    ram("DMA_ADDR_1_HIGH", 0xc30c),
    ram("DMA_COPY_SIZE", DMA_COPY_SIZE),
    Def::new("DMA_GUC_WOPCM_OFFSET", 0xc340, Behaviour::Latching(1)),
    hook("GUC_PMTIMESTAMP_LO", 0xc3e8, Key::Clock(false)),
    hook("GUC_PMTIMESTAMP_HI", 0xc3ec, Key::Clock(true)),
    ram("GUC_C50C", 0xc50c),
    ram("PVC_GUC_TLB_INV_DESC0", 0xcf7c),
    ram("PVC_GUC_TLB_INV_DESC1", 0xcf80),
];

pub(in crate::xe) const MAIN_ONLY: &[D] = &[
    ram("XE2_GAMREQSTRM_CTRL", 0x4194),
    ro("XEHP_TILE_ADDR_RANGE", XEHP_TILE_ADDR_RANGE, 0),
    ro("XE2_FLAT_CCS_BASE_RANGE_LOWER", XE2_FLAT_CCS_BASE_RANGE_LOWER, 0),
    ro("XE2_FLAT_CCS_BASE_RANGE_UPPER", XE2_FLAT_CCS_BASE_RANGE_UPPER, 0),
    // What is busy, for dumps of a hanging unit: nothing is.
    ro("INSTDONE_GEOM_SVGUNIT", 0x666c, u32::MAX),
    ro("SC_INSTDONE", 0x7100, u32::MAX),
    ro("SC_INSTDONE_EXTRA", 0x7104, u32::MAX),
    ro("SC_INSTDONE_EXTRA2", 0x7108, u32::MAX),
    ro("SAMPLER_INSTDONE", 0xe160, u32::MAX),
    ro("ROW_INSTDONE", 0xe164, u32::MAX),
    ram("CCCHKNREG1", 0x8828),
    ram("LSN_VC_REG2", 0xb0c8),
    ram("L3SQCREG2", 0xb104),
    ram("L3SQCREG3", 0xb108),
    ram("XEHP_L3SQCREG5", 0xb158),
    ram("XEHPC_L3CLOS_MASK", 0xb194).row(4, 8),
    ram("OAG_OACONTROL", 0xdaf4),
    masked("OAG_OA_DEBUG", 0xdaf8),
    masked("HALF_SLICE_CHICKEN7", 0xe194),
    masked("ROW_CHICKEN4", 0xe48c),
    masked("ROW_CHICKEN3", 0xe49c),
    masked("TDL_TSL_CHICKEN", 0xe4c4),
    masked("ROW_CHICKEN", 0xe4f0),
    ram("RT_CTRL", 0xe530),
    ram("LSC_CHICKEN_BIT_0", 0xe7c8),
    ram("LSC_CHICKEN_BIT_0_UDW", 0xe7cc),
    masked("RCU_MODE", 0x1_4800),
    hook("FORCEWAKE_GT", 0xa188, Key::ForceWake(0xdfc)),
    hook("FORCEWAKE_RENDER", 0xa278, Key::ForceWake(0xd84)),
];

macro_rules! media_domains {
    ($($name:literal, $at:literal => $ack:literal;)+) => {
        pub(in crate::xe) const MEDIA_ONLY: &[D] = &[
            ram("OAM_SAG_OACONTROL", 0x1_3194),
            masked("OAM_SAG_OA_DEBUG", 0x1_3198),
            ram("OAM_SCMI0_OACONTROL", 0x1_4194),
            masked("OAM_SCMI0_OA_DEBUG", 0x1_4198),
            ram("OAM_SCMI1_OACONTROL", 0x1_4994),
            masked("OAM_SCMI1_OA_DEBUG", 0x1_4998),
            hook("FORCEWAKE_GT", 0xa188, Key::ForceWake(super::MEDIA_OFFSET + 0xdfc)),
            $(hook(concat!("FORCEWAKE_", $name), $at, Key::ForceWake(super::MEDIA_OFFSET + $ack)),
              ro(concat!("FORCEWAKE_ACK_", $name), $ack, 0),)+
        ];
    };
}

media_domains! {
    "MEDIA_VDBOX0", 0xa540 => 0xd50;
    "MEDIA_VDBOX1", 0xa544 => 0xd54;
    "MEDIA_VDBOX2", 0xa548 => 0xd58;
    "MEDIA_VDBOX3", 0xa54c => 0xd5c;
    "MEDIA_VDBOX4", 0xa550 => 0xd60;
    "MEDIA_VDBOX5", 0xa554 => 0xd64;
    "MEDIA_VDBOX6", 0xa558 => 0xd68;
    "MEDIA_VDBOX7", 0xa55c => 0xd6c;
    "MEDIA_VEBOX0", 0xa560 => 0xd70;
    "MEDIA_VEBOX1", 0xa564 => 0xd74;
    "MEDIA_VEBOX2", 0xa568 => 0xd78;
    "MEDIA_VEBOX3", 0xa56c => 0xd7c;
    "GSC", 0xa618 => 0xdf8;
}

/// The registers of unit `unit` at which it acts.
pub(in crate::xe) const fn hooks(unit: usize) -> &'static [D] {
    const fn make(unit: usize) -> [D; 2] {
        [hook("GDRST", 0x941c, Key::Reset(unit)), hook("DMA_CTRL", DMA_CTRL, Key::FirmwareDma(unit))]
    }
    const HOOKS: [[D; 2]; 2] = [make(0), make(1)];
    const REFERENCES: [&[D]; 2] = [&HOOKS[0], &HOOKS[1]];
    REFERENCES[unit]
}
