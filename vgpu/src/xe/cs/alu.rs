//! MATH: a small stack-less calculator on the general registers.

use super::exec::Exec;

/// Operands that are not general registers.
const SOURCE_A: u32 = 0x20;
const SOURCE_B: u32 = 0x21;
const ACCUMULATOR: u32 = 0x31;
const ZERO_FLAG: u32 = 0x32;
const CARRY_FLAG: u32 = 0x33;

#[derive(Debug, Default)]
struct Alu {
    a: u64,
    b: u64,
    accumulator: u64,
    zero: bool,
    carry: bool,
}

fn flag(on: bool) -> u64 {
    if on { u64::MAX } else { 0 }
}

/// Executes the operations of one MATH instruction.
pub(super) fn execute(exec: &mut Exec, operations: &[u32]) -> Result<(), String> {
    let mut alu = Alu::default();
    for operation in operations {
        let (op, first, second) = (operation >> 20, operation >> 10 & 0x3ff, operation & 0x3ff);
        match op {
            0x000 => {}
            // LOAD, LOADINV, LOAD0, LOAD1.
            0x080 => alu.load(first, alu.value(exec, second)?)?,
            0x480 => alu.load(first, !alu.value(exec, second)?)?,
            0x081 => alu.load(first, 0)?,
            0x481 => alu.load(first, u64::MAX)?,
            0x100 => alu.result(alu.a.overflowing_add(alu.b)),
            0x101 => alu.result(alu.a.overflowing_sub(alu.b)),
            0x102 => alu.result((alu.a & alu.b, false)),
            0x103 => alu.result((alu.a | alu.b, false)),
            0x104 => alu.result((alu.a ^ alu.b, false)),
            // SHL, SHR, SAR.
            0x105 => alu.result((alu.a.checked_shl(alu.b as u32).unwrap_or(0), false)),
            0x106 => alu.result((alu.a.checked_shr(alu.b as u32).unwrap_or(0), false)),
            0x107 => alu.result((((alu.a as i64) >> (alu.b & 63)) as u64, false)),
            // STORE, STOREINV.
            0x180 => exec.set_gpr(general(first)?, alu.value(exec, second)?),
            0x580 => exec.set_gpr(general(first)?, !alu.value(exec, second)?),
            _ => return Err(format!("calculator operation {op:#05x} does not exist")),
        }
    }
    Ok(())
}

fn general(operand: u32) -> Result<u32, String> {
    if operand < 16 { Ok(operand) } else { Err(format!("calculator operand {operand:#x} is no register")) }
}

impl Alu {
    fn load(&mut self, operand: u32, value: u64) -> Result<(), String> {
        match operand {
            SOURCE_A => self.a = value,
            SOURCE_B => self.b = value,
            _ => return Err(format!("calculator cannot load operand {operand:#x}")),
        }
        Ok(())
    }

    fn value(&self, exec: &Exec, operand: u32) -> Result<u64, String> {
        Ok(match operand {
            ACCUMULATOR => self.accumulator,
            ZERO_FLAG => flag(self.zero),
            CARRY_FLAG => flag(self.carry),
            _ => exec.gpr(general(operand)?),
        })
    }

    fn result(&mut self, (value, carry): (u64, bool)) {
        self.accumulator = value;
        self.carry = carry;
        self.zero = value == 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::xe::memory::GgttAddr;

    fn op(op: u32, first: u32, second: u32) -> u32 {
        op << 20 | first << 10 | second
    }

    #[test]
    fn arithmetic_and_flags() {
        let mut exec = Exec::new(GgttAddr(0), 0, Arc::default());
        exec.set_gpr(1, u64::MAX);
        exec.set_gpr(2, 2);
        let add = [
            op(0x080, SOURCE_A, 1),
            op(0x080, SOURCE_B, 2),
            op(0x100, 0, 0),
            op(0x180, 3, ACCUMULATOR),
            op(0x180, 4, CARRY_FLAG),
            op(0x580, 5, ZERO_FLAG),
        ];
        assert_eq!(execute(&mut exec, &add), Ok(()));
        assert_eq!((exec.gpr(3), exec.gpr(4), exec.gpr(5)), (1, u64::MAX, u64::MAX));
        let invert_and_shift =
            [op(0x480, SOURCE_A, 2), op(0x080, SOURCE_B, 2), op(0x106, 0, 0), op(0x180, 6, ACCUMULATOR)];
        assert_eq!(execute(&mut exec, &invert_and_shift), Ok(()));
        assert_eq!(exec.gpr(6), !2 >> 2);
        assert!(execute(&mut exec, &[op(0x180, 0x20, 0)]).is_err());
        assert!(execute(&mut exec, &[op(0x7ff, 0, 0)]).is_err());
    }
}
