//! Read-modify-write operations, as the texture cache numbers them (`TC_OP_ATOMIC_*`).

/// An operation with its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    code: u32,
    /// On 64 bits instead of 32.
    pub wide: bool,
}

impl Operation {
    /// The operation with this number; those on floating point numbers are not known.
    pub fn new(number: u32) -> Option<Operation> {
        // 64-bit forms lie 0x20 behind the 32-bit ones, forms without a result 0x40.
        let (code, wide) = (number & 0x1f, number & 0x20 != 0);
        matches!(code, 0x07 | 0x08 | 0x0f..=0x19).then_some(Operation { code, wide })
    }

    /// Whether it is a compare-and-swap.
    pub fn compares(self) -> bool {
        self.code == 0x08
    }

    /// The new value, or `None` when nothing changes.
    pub fn apply(self, old: u64, operand: u64, compare: u64) -> Option<u64> {
        if self.wide {
            let signed = |f: fn(i64, i64) -> i64| f(old as i64, operand as i64) as u64;
            return self.common(old, operand, compare, u64::MAX, signed(i64::min), signed(i64::max));
        }
        let (old, operand, compare) = (old & 0xffff_ffff, operand & 0xffff_ffff, compare & 0xffff_ffff);
        let signed = |f: fn(i32, i32) -> i32| u64::from(f(old as i32, operand as i32) as u32);
        self.common(old, operand, compare, 0xffff_ffff, signed(i32::min), signed(i32::max))
    }

    fn common(self, old: u64, operand: u64, compare: u64, mask: u64, smin: u64, smax: u64) -> Option<u64> {
        Some(match self.code {
            0x07 => operand,
            0x08 if old == compare => operand,
            0x08 => return None,
            0x0f => old.wrapping_add(operand) & mask,
            0x10 => old.wrapping_sub(operand) & mask,
            0x11 => smin,
            0x12 => old.min(operand),
            0x13 => smax,
            0x14 => old.max(operand),
            0x15 => old & operand,
            0x16 => old | operand,
            0x17 => old ^ operand,
            0x18 if old >= operand => 0,
            0x18 => old + 1,
            _ if old == 0 || old > operand => operand,
            _ => old - 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations() {
        let op = |number, old, operand, compare| Operation::new(number).unwrap().apply(old, operand, compare);
        assert_eq!(op(0x2f, u64::MAX, 2, 0), Some(1), "64-bit add");
        assert_eq!(op(0x6f, 1, 2, 0), Some(3), "without a result");
        assert_eq!(op(0x0f, 0xffff_ffff, 2, 0), Some(1), "32-bit add");
        assert_eq!(op(0x28, 5, 9, 5), Some(9));
        assert_eq!(op(0x28, 6, 9, 5), None);
        assert_eq!(op(0x11, 0xffff_ffff, 1, 0), Some(0xffff_ffff), "signed minimum");
        assert_eq!(op(0x12, 0xffff_ffff, 1, 0), Some(1));
        assert_eq!(op(0x18, 7, 7, 0), Some(0));
        assert_eq!(op(0x19, 0, 7, 0), Some(7));
        assert_eq!(Operation::new(0x02), None, "floating point");
    }
}
