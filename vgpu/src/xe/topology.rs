//! Which engines exist, how the firmware, the interrupt tree and the registers name them.

/// Index of a unit ("GT"): the main one, and the one with the media engines.
pub const MAIN: usize = 0;
/// The media unit.
pub const MEDIA: usize = 1;
/// How far the media unit's registers lie behind the main unit's.
pub const MEDIA_OFFSET: u32 = 0x38_0000;

/// An interrupt source (`dg1_irq_handler`, `gt_engine_identity` in `xe_irq.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Bank of the pending bits.
    pub bank: usize,
    /// Bit inside the bank.
    pub bit: u32,
    /// Class in the identity.
    pub class: u32,
    /// Instance in the identity.
    pub instance: u32,
}

/// One engine.
#[derive(Debug, Clone, Copy)]
pub struct EngineDef {
    /// Name, as the driver prints it.
    pub name: &'static str,
    /// The unit it belongs to.
    pub unit: usize,
    /// Class as the firmware counts (render 0, video 1, enhance 2, copy 3, compute 4).
    pub guc_class: u32,
    /// Number inside the class, counted without holes.
    pub logical: u32,
    /// Base of its registers.
    pub base: u32,
    /// Its interrupt; class and instance there are the hardware's.
    pub source: Source,
}

const fn source(bank: usize, bit: u32, class: u32, instance: u32) -> Source {
    Source { bank, bit, class, instance }
}

/// The engines: two copy engines, one compute, one render; two for media.
pub const ENGINES: &[EngineDef] = &[
    EngineDef {
        name: "rcs0",
        unit: MAIN,
        guc_class: 0,
        logical: 0,
        base: 0x2000,
        source: source(0, 0, 0, 0),
    },
    EngineDef {
        name: "bcs0",
        unit: MAIN,
        guc_class: 3,
        logical: 0,
        base: 0x2_2000,
        source: source(0, 15, 3, 0),
    },
    EngineDef {
        name: "bcs8",
        unit: MAIN,
        guc_class: 3,
        logical: 1,
        base: 0x3e_e000,
        source: source(0, 23, 3, 8),
    },
    EngineDef {
        name: "ccs0",
        unit: MAIN,
        guc_class: 4,
        logical: 0,
        base: 0x1_a000,
        source: source(0, 4, 5, 0),
    },
    EngineDef {
        name: "vcs0",
        unit: MEDIA,
        guc_class: 1,
        logical: 0,
        base: 0x1c_0000,
        source: source(1, 0, 1, 0),
    },
    EngineDef {
        name: "vecs0",
        unit: MEDIA,
        guc_class: 2,
        logical: 0,
        base: 0x1c_8000,
        source: source(1, 31, 2, 0),
    },
];

/// Interrupt of the firmware of a unit.
pub const GUC_SOURCE: [Source; 2] = [source(0, 25, 4, 0), source(0, 24, 4, 16)];
/// Vector "message for the host" of the firmware.
pub const VECTOR_GUC_TO_HOST: u16 = 1 << 15;
/// Vector "user interrupt" of an engine.
pub const VECTOR_USER: u16 = 1 << 0;

/// The engine for a context: the first one of its class that the mask of logical numbers allows.
pub fn engine_for(unit: usize, guc_class: u32, mask: u32) -> Option<usize> {
    ENGINES.iter().position(|e| e.unit == unit && e.guc_class == guc_class && mask >> e.logical & 1 == 1)
}

impl EngineDef {
    /// What the injection filter calls this kind of engine.
    pub fn filter(&self) -> u32 {
        match self.guc_class {
            0 => 1,
            4 => 2,
            3 => 3,
            1 => 4,
            _ => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_find_their_engine() {
        let name = |unit, class, mask| engine_for(unit, class, mask).map(|i| ENGINES[i].name);
        assert_eq!(name(MAIN, 3, 0b01), Some("bcs0"));
        assert_eq!(name(MAIN, 3, 0b10), Some("bcs8"));
        assert_eq!(name(MAIN, 4, 1), Some("ccs0"));
        assert_eq!(name(MAIN, 1, 1), None, "no video on the main unit");
        assert_eq!(name(MEDIA, 2, 1), Some("vecs0"));
    }
}
