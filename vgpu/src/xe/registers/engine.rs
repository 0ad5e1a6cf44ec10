//! Registers of an engine, relative to its base (`regs/xe_engine_regs.h`).

use super::{D, Key, hook, masked, ram};

pub(in crate::xe) const RING_PWRCTX_MAXCNT: u32 = 0x54;
/// Clock of an engine, low half; the high half follows.
pub(in crate::xe) const RING_TIMESTAMP: u32 = 0x358;
/// Run time of the present context, low half; the high half follows.
pub(in crate::xe) const RING_CTX_TIMESTAMP: u32 = 0x3a8;

pub(in crate::xe) const ENGINE: &[D] = &[
    // What a dump after an error reads.
    ram("RING_TAIL", 0x30),
    ram("RING_HEAD", 0x34),
    ram("RING_START", 0x38),
    ram("RING_CTL", 0x3c),
    ram("RING_START_UDW", 0x48),
    ram("RING_ACTHD_UDW", 0x5c),
    ram("RING_DMA_FADD_UDW", 0x60),
    ram("RING_IPEHR", 0x68),
    ram("RING_INSTDONE", 0x6c),
    ram("RING_ACTHD", 0x74),
    ram("RING_DMA_FADD", 0x78),
    ram("RING_IMR", 0xa8),
    ram("RING_ESR", 0xb0),
    ram("RING_EMR", 0xb4),
    ram("RING_EIR", 0xb8),
    ram("RING_108", 0x108),
    ram("RING_BBADDR", 0x140),
    ram("RING_BBADDR_UDW", 0x168),
    ram("RING_EXECLIST_STATUS_LO", 0x234),
    ram("RING_EXECLIST_STATUS_HI", 0x238),
    ram("RING_240", 0x240),
    masked("RING_PSMI_CTL", 0x50),
    ram("RING_PWRCTX_MAXCNT", RING_PWRCTX_MAXCNT),
    ram("RING_HWS_PGA", 0x80),
    ram("RING_HWSTAM", 0x98),
    ram("RING_MI_MODE", 0x9c),
    ram("RING_CMD_CCTL", 0xc4),
    masked("CSFE_CHICKEN1", 0xd4),
    ram("RING_IDLEDLY", 0x23c),
    masked("GFX_MODE", 0x29c),
    hook("RING_TIMESTAMP", RING_TIMESTAMP, Key::Clock(false)),
    hook("RING_TIMESTAMP_UDW", RING_TIMESTAMP + 4, Key::Clock(true)),
    ram("RING_FORCE_TO_NONPRIV", 0x4d0).row(20, 4),
];

/// The run-time clock of engine number `engine`.
pub(in crate::xe) fn clocks(engine: usize) -> [D; 2] {
    [
        hook("RING_CTX_TIMESTAMP", RING_CTX_TIMESTAMP, Key::ContextClock(engine, false)),
        hook("RING_CTX_TIMESTAMP_UDW", RING_CTX_TIMESTAMP + 4, Key::ContextClock(engine, true)),
    ]
}
