//! SDMA packets of the fourth generation (`vega10_sdma_pkt_open.h`).

use crate::amd::stream::qword;

/// The test of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// 0 always, 1 less, 2 less or equal, 3 equal, 4 not equal, 5 greater or equal, 6 greater.
    pub function: u32,
    /// What to compare with.
    pub reference: u32,
    /// Bits that count.
    pub mask: u32,
}

impl Test {
    /// Whether a value passes.
    pub fn passes(&self, value: u32) -> bool {
        let value = value & self.mask;
        match self.function {
            1 => value < self.reference,
            2 => value <= self.reference,
            3 => value == self.reference,
            4 => value != self.reference,
            5 => value >= self.reference,
            6 => value > self.reference,
            _ => true,
        }
    }
}

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet {
    /// Nothing, over `length` dwords.
    Nop,
    /// Copies bytes.
    Copy {
        /// Source.
        from: u64,
        /// Target.
        to: u64,
        /// Bytes.
        len: u64,
    },
    /// Writes the dwords that follow the first four.
    Write {
        /// Target.
        to: u64,
        /// How many dwords.
        count: u64,
    },
    /// Executes an indirect buffer.
    Indirect {
        /// Address space, for rings of the driver.
        vmid: u32,
        /// Start.
        base: u64,
        /// Dwords.
        count: u64,
    },
    /// Writes one dword.
    Fence {
        /// Target.
        to: u64,
        /// Value.
        value: u32,
    },
    /// Raises an interrupt.
    Trap {
        /// Passed on to the driver.
        context: u32,
    },
    /// Waits for a register.
    PollRegister {
        /// Register, as a byte offset.
        register: u32,
        /// What to wait for.
        test: Test,
    },
    /// Waits for memory.
    PollMemory {
        /// Address.
        at: u64,
        /// What to wait for.
        test: Test,
    },
    /// Skips dwords unless memory holds a value.
    Conditional {
        /// Address.
        at: u64,
        /// The value.
        reference: u32,
        /// Dwords to skip.
        count: u64,
    },
    /// Read-modify-write in one step.
    Atomic {
        /// Operation, as the texture cache numbers them.
        operation: u32,
        /// Repeat until the comparison succeeds.
        repeat: bool,
        /// Address.
        at: u64,
        /// Operand.
        operand: u64,
        /// What a compare-and-swap compares with.
        compare: u64,
    },
    /// Fills memory.
    Fill {
        /// Target.
        to: u64,
        /// Bytes of the pattern that repeat.
        pattern: u32,
        /// Size of the pattern in bytes.
        width: u64,
        /// Bytes to fill.
        len: u64,
    },
    /// Writes page table entries.
    Entries {
        /// Target.
        to: u64,
        /// First value.
        first: u64,
        /// Added from entry to entry.
        step: u64,
        /// How many.
        count: u64,
    },
    /// Writes the clock.
    Timestamp {
        /// Target; `None` sets the clock, which nothing does.
        to: Option<u64>,
    },
    /// Writes a register.
    RegisterWrite {
        /// Register, as a dword offset.
        register: u32,
        /// Value.
        value: u32,
    },
}

/// Why no packet could be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// The first dword.
    pub header: u32,
}

/// Dwords that [`decode`] looks at.
pub const WINDOW: usize = 10;

/// How many dwords of the window an operation needs.
pub fn needs(header: u32) -> usize {
    match header & 0xff {
        0 | 15 => 1,
        6 => 2,
        7 | 13 | 14 => 3,
        2 | 5 => 4,
        9 | 11 => 5,
        4 | 8 => 6,
        1 => 7,
        10 => 8,
        12 => 10,
        _ => 1,
    }
}

/// Decodes one packet and tells its length in dwords. `wide` engines count bytes with 30 bits instead of 22.
pub fn decode(w: &[u32; WINDOW], wide: bool) -> Result<(Packet, u64), Unknown> {
    let unknown = Unknown { header: w[0] };
    let sub = (w[0] >> 8) & 0xff;
    let bytes = |dword: u32| u64::from(dword & if wide { 0x3fff_ffff } else { 0x3f_ffff }) + 1;
    let test = || Test { function: (w[0] >> 28) & 7, reference: w[3], mask: w[4] };
    Ok(match w[0] & 0xff {
        0 => (Packet::Nop, 1 + u64::from((w[0] >> 16) & 0x3fff)),
        1 if sub == 0 => {
            (Packet::Copy { from: qword(w[3], w[4]), to: qword(w[5], w[6]), len: bytes(w[1]) }, 7)
        }
        2 if sub == 0 => {
            let count = u64::from(w[3] & 0xf_ffff) + 1;
            (Packet::Write { to: qword(w[1], w[2]) & !3, count }, 4 + count)
        }
        4 => {
            let vmid = (w[0] >> 16) & 0xf;
            (Packet::Indirect { vmid, base: qword(w[1], w[2]) & !0x1f, count: u64::from(w[3] & 0xf_ffff) }, 6)
        }
        5 => (Packet::Fence { to: qword(w[1], w[2]) & !3, value: w[3] }, 4),
        6 => (Packet::Trap { context: w[1] & 0x0fff_ffff }, 2),
        8 if w[0] >> 31 != 0 => (Packet::PollMemory { at: qword(w[1], w[2]) & !3, test: test() }, 6),
        8 => (Packet::PollRegister { register: w[1], test: test() }, 6),
        9 => {
            let count = u64::from(w[4] & 0x3fff);
            (Packet::Conditional { at: qword(w[1], w[2]) & !3, reference: w[3], count }, 5)
        }
        10 => {
            let (operand, compare) = (qword(w[3], w[4]), qword(w[5], w[6]));
            let (operation, repeat) = (w[0] >> 25, (w[0] >> 16) & 1 == 1);
            (Packet::Atomic { operation, repeat, at: qword(w[1], w[2]), operand, compare }, 8)
        }
        11 => {
            // Size 0 repeats the dword too: the driver fills bytes with a value that it has spread before.
            let width = if (w[0] >> 30) == 1 { 2 } else { 4 };
            (Packet::Fill { to: qword(w[1], w[2]), pattern: w[3], width, len: bytes(w[4]) }, 5)
        }
        12 => {
            let count = u64::from(w[9] & 0x7_ffff) + 1;
            let first = qword(w[5], w[6]) | qword(w[3], w[4]);
            (Packet::Entries { to: qword(w[1], w[2]) & !7, first, step: u64::from(w[7]), count }, 10)
        }
        13 => (Packet::Timestamp { to: (sub != 0).then(|| qword(w[1], w[2]) & !7) }, 3),
        14 => (Packet::RegisterWrite { register: w[1] & 0x3_ffff, value: w[2] }, 3),
        15 => (Packet::Nop, 2),
        7 => (Packet::Nop, 3),
        _ => return Err(unknown),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(words: &[u32]) -> Result<(Packet, u64), Unknown> {
        let mut w = [0; WINDOW];
        w[..words.len()].copy_from_slice(words);
        decode(&w, false)
    }

    #[test]
    fn packets_of_user_queues() {
        let copy = d(&[1, 0xf_ffff, 0, 0x1000, 0x7f, 0x2000, 0x7e]).unwrap();
        assert_eq!(copy, (Packet::Copy { from: 0x7f_0000_1000, to: 0x7e_0000_2000, len: 1 << 20 }, 7));
        assert_eq!(d(&[2, 0x10, 1, 2, 5, 6, 7]).unwrap(), (Packet::Write { to: 0x1_0000_0010, count: 3 }, 7));
        assert_eq!(d(&[5, 0x10, 1, 9]).unwrap(), (Packet::Fence { to: 0x1_0000_0010, value: 9 }, 4));
        assert_eq!(d(&[6, 0xf000_0005]).unwrap(), (Packet::Trap { context: 5 }, 2));
        assert_eq!(d(&[3 << 16]).unwrap(), (Packet::Nop, 4));
    }

    #[test]
    fn packets_of_the_driver() {
        assert_eq!(
            d(&[4 | 2 << 16, 0x1f, 1, 0x100, 0, 0]).unwrap(),
            (Packet::Indirect { vmid: 2, base: 0x1_0000_0000, count: 0x100 }, 6)
        );
        let test = Test { function: 3, reference: 7, mask: 0xff };
        assert_eq!(
            d(&[8 | 1 << 31 | 3 << 28, 0x20, 0, 7, 0xff, 0]).unwrap(),
            (Packet::PollMemory { at: 0x20, test }, 6)
        );
        assert_eq!(
            d(&[8 | 3 << 28, 0x389c, 0, 7, 0xff, 0]).unwrap(),
            (Packet::PollRegister { register: 0x389c, test }, 6)
        );
        assert_eq!(
            d(&[12, 0x1000, 0, 0x71, 0, 0x2000, 0, 0x1000, 0, 1]).unwrap(),
            (Packet::Entries { to: 0x1000, first: 0x2071, step: 0x1000, count: 2 }, 10)
        );
        assert_eq!(
            d(&[14, 0xf000_28a3, 1]).unwrap(),
            (Packet::RegisterWrite { register: 0x28a3, value: 1 }, 3)
        );
        assert_eq!(
            d(&[9, 0x10, 0, 1, 8]).unwrap(),
            (Packet::Conditional { at: 0x10, reference: 1, count: 8 }, 5)
        );
        assert!(matches!(d(&[13 | 2 << 8, 0x18, 0]).unwrap().0, Packet::Timestamp { to: Some(0x18) }));
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        assert_eq!(d(&[0x77]), Err(Unknown { header: 0x77 }));
        assert_eq!(d(&[1 | 4 << 8]), Err(Unknown { header: 0x401 }), "tiled copy");
    }

    #[test]
    fn sizes_depend_on_the_generation() {
        let mut w = [0; WINDOW];
        w[..2].copy_from_slice(&[1, 0x7f_ffff]);
        assert!(matches!(decode(&w, false).unwrap().0, Packet::Copy { len: 0x40_0000, .. }));
        assert!(matches!(decode(&w, true).unwrap().0, Packet::Copy { len: 0x80_0000, .. }));
    }

    #[test]
    fn window_covers_every_packet() {
        for op in 0..16u32 {
            let mut w = [0; WINDOW];
            w[0] = op;
            if let Ok((packet, length)) = decode(&w, false) {
                let variable = matches!(packet, Packet::Write { .. });
                assert!(needs(op) as u64 == length || variable || packet == Packet::Nop, "op {op}");
            }
        }
    }

    #[test]
    fn tests_compare() {
        let pass = |function, value| Test { function, reference: 5, mask: 0xf }.passes(value);
        let all = |value| (0..8).map(|f| pass(f, value)).collect::<Vec<_>>();
        assert_eq!(all(0x14), [true, true, true, false, true, false, false, true]);
        assert_eq!(all(0x15), [true, false, true, true, false, true, false, true]);
        assert_eq!(all(0x16), [true, false, false, false, true, true, true, true]);
    }
}
