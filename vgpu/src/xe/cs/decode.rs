//! The shape of instructions: type, opcode, length (`instructions/xe_instr_defs.h`).

/// What kind of instruction a header starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::xe) enum Kind {
    /// Memory interface: control flow and memory, on every engine.
    Mi(u32),
    /// Blitter.
    Blt(u32),
    /// Render and compute: the upper half of the header.
    Gfx(u32),
    /// None that exists.
    Illegal,
}

/// Type and opcode of a header.
pub(in crate::xe) fn kind(header: u32) -> Kind {
    match header >> 29 {
        0 => Kind::Mi(header >> 23 & 0x3f),
        2 => Kind::Blt(header >> 22 & 0x7f),
        3 => Kind::Gfx(header >> 16),
        _ => Kind::Illegal,
    }
}

/// Memory-interface opcodes.
pub(in crate::xe) mod mi {
    pub(in crate::xe) const NOOP: u32 = 0x00;
    pub(in crate::xe) const USER_INTERRUPT: u32 = 0x02;
    pub(in crate::xe) const ARB_CHECK: u32 = 0x05;
    pub(in crate::xe) const ARB_ON_OFF: u32 = 0x08;
    pub(in crate::xe) const MEM_FENCE: u32 = 0x09;
    pub(in crate::xe) const BATCH_BUFFER_END: u32 = 0x0a;
    pub(in crate::xe) const MATH: u32 = 0x1a;
    pub(in crate::xe) const SEMAPHORE_WAIT: u32 = 0x1c;
    pub(in crate::xe) const STORE_DATA_IMM: u32 = 0x20;
    pub(in crate::xe) const LOAD_REGISTER_IMM: u32 = 0x22;
    pub(in crate::xe) const STORE_REGISTER_MEM: u32 = 0x24;
    pub(in crate::xe) const FLUSH_DW: u32 = 0x26;
    pub(in crate::xe) const LOAD_REGISTER_MEM: u32 = 0x29;
    pub(in crate::xe) const LOAD_REGISTER_REG: u32 = 0x2a;
    pub(in crate::xe) const COPY_MEM_MEM: u32 = 0x2e;
    pub(in crate::xe) const ATOMIC: u32 = 0x2f;
    pub(in crate::xe) const BATCH_BUFFER_START: u32 = 0x31;
    pub(in crate::xe) const CONDITIONAL_BATCH_BUFFER_END: u32 = 0x36;
}

/// Blitter opcodes.
pub(in crate::xe) mod blt {
    pub(in crate::xe) const XY_FAST_COPY: u32 = 0x42;
    pub(in crate::xe) const XY_FAST_COLOR: u32 = 0x44;
    pub(in crate::xe) const XY_CTRL_SURF_COPY: u32 = 0x48;
    pub(in crate::xe) const MEM_COPY: u32 = 0x5a;
    pub(in crate::xe) const MEM_SET: u32 = 0x5b;
}

/// Render and compute.
pub(in crate::xe) mod gfx {
    pub(in crate::xe) const PIPE_CONTROL: u32 = 0x7a00;
}

/// Dwords of the instruction with this header.
pub(in crate::xe) fn length(header: u32) -> usize {
    let counted = |mask: u32| (header & mask) as usize + 2;
    match kind(header) {
        Kind::Mi(op) if op < 0x10 => 1,
        Kind::Mi(mi::STORE_DATA_IMM) => counted(0x3ff),
        Kind::Mi(mi::FLUSH_DW) => counted(0x3f),
        Kind::Mi(_) | Kind::Blt(_) => counted(0xff),
        // Type 3 subtype 1 with opcode 0 or 1: a single dword.
        Kind::Gfx(_) if header >> 27 & 3 == 1 => 1,
        Kind::Gfx(_) => counted(0xff),
        Kind::Illegal => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(length(0), 1);
        assert_eq!(length(mi::BATCH_BUFFER_END << 23), 1);
        assert_eq!(length((mi::STORE_DATA_IMM << 23) | (2 * 511 + 1)), 1025);
        assert_eq!(length(mi::FLUSH_DW << 23 | 1 << 14 | 1 << 18 | 3), 5);
        assert_eq!(length(mi::BATCH_BUFFER_START << 23 | 1 << 8 | 1), 3);
        assert_eq!(length(2 << 29 | blt::MEM_COPY << 22 | 1 << 19 | 8), 10);
        assert_eq!(length(gfx::PIPE_CONTROL << 16 | 1 << 9 | 4), 6);
        assert_eq!(length(0x6904_0000), 1, "PIPELINE_SELECT");
        assert_eq!(kind(0x8000_0000), Kind::Illegal);
    }
}
