//! ATOMIC: read-modify-write that the guest's processors see as one step.

use std::sync::atomic::Ordering;

use super::exec::{Env, Exec, Stop};
use crate::mem::{Access, Mapping, OutOfBounds, Space, Span};
use crate::xe::memory::Va;

/// Operands: from the instruction, or from the first general registers.
struct Operands {
    first: u64,
    second: u64,
}

/// The new value; `None` when the memory stays as it is.
fn combine(op: u32, wide: bool, old: u64, o: &Operands) -> Option<u64> {
    // Sign-extends a dword so that signed comparison works for both sizes.
    let signed = |v: u64| if wide { v as i64 } else { i64::from(v as u32 as i32) };
    let (first, second) = (o.first, o.second);
    Some(match op {
        0x01 => old & first,
        0x02 => old | first,
        0x03 => old ^ first,
        0x04 => first,
        0x05 => old.wrapping_add(1),
        0x06 => old.wrapping_sub(1),
        0x07 => old.wrapping_add(first),
        0x08 => old.wrapping_sub(first),
        0x09 => first.wrapping_sub(old),
        0x0a => {
            if signed(old) > signed(first) {
                old
            } else {
                first
            }
        }
        0x0b => {
            if signed(old) < signed(first) {
                old
            } else {
                first
            }
        }
        0x0c => old.max(first),
        0x0d => old.min(first),
        // Compare with the first operand, store the second when equal.
        0x0e => return (old == first).then_some(second),
        _ => return None,
    })
}

fn update(mapping: &Mapping, offset: u64, wide: bool, op: u32, o: &Operands) -> Result<u64, OutOfBounds> {
    let order = Ordering::SeqCst;
    Ok(if wide {
        let cell = mapping.atomic64(offset)?;
        cell.fetch_update(order, order, |old| combine(op, true, old, o)).unwrap_or_else(|old| old)
    } else {
        let cell = mapping.atomic32(offset)?;
        let new = |old: u32| combine(op, false, u64::from(old), o).map(|v| v as u32);
        u64::from(cell.fetch_update(order, order, new).unwrap_or_else(|old| old))
    })
}

/// Executes the instruction `d` on the value at `at`.
pub(super) fn execute(exec: &mut Exec, env: &Env<'_>, d: &[u32], at: Va) -> Result<(), Stop> {
    let opcode = d[0] >> 8 & 0xff;
    // The upper half of the opcodes works on qwords; the size field says so too.
    let wide = opcode & 0x20 != 0 || d[0] >> 19 & 3 == 1;
    let inline = d[0] & 1 << 18 != 0;
    let dword = |i: usize| u64::from(d.get(i).copied().unwrap_or(0));
    // Inline operands are interleaved: low halves of both, high halves of both.
    let operands = if inline {
        Operands { first: dword(3) | dword(5) << 32, second: dword(4) | dword(6) << 32 }
    } else {
        Operands { first: exec.gpr(0), second: exec.gpr(1) }
    };
    let mask = if wide { u64::MAX } else { u64::from(u32::MAX) };
    let operands = Operands { first: operands.first & mask, second: operands.second & mask };
    let op = opcode & 0x1f;
    if !(0x01..=0x0e).contains(&op) {
        exec.note_unknown(env, format!("ATOMIC operation {opcode:#04x}"));
        return Ok(());
    }
    let old = {
        let _permit = env.memory.enter()?;
        match env.memory.translate(at, Access::Atomic)? {
            Span::Null { .. } => 0,
            Span::Memory { mapping, offset, .. } => update(&mapping, offset, wide, op, &operands)
                .map_err(|OutOfBounds| Stop::Broken(format!("atomic at {at:?} is misaligned")))?,
        }
    };
    // Return data control: the old value goes to a general register.
    if d[0] & 1 << 16 != 0 {
        exec.set_gpr(0, old);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations() {
        let o = |first, second| Operands { first, second };
        let minus_one = u64::from(u32::MAX);
        assert_eq!(combine(0x05, false, 41, &o(0, 0)), Some(42));
        assert_eq!(combine(0x07, true, 1 << 40, &o(2, 0)), Some((1 << 40) + 2));
        assert_eq!(combine(0x09, false, 3, &o(10, 0)), Some(7));
        assert_eq!(combine(0x0a, false, minus_one, &o(5, 0)), Some(5), "signed");
        assert_eq!(combine(0x0c, false, minus_one, &o(5, 0)), Some(minus_one), "unsigned");
        assert_eq!(combine(0x0e, false, 7, &o(7, 9)), Some(9));
        assert_eq!(combine(0x0e, false, 8, &o(7, 9)), None);
    }

    #[test]
    fn narrow_update_leaves_the_neighbour_alone() {
        let m = Mapping::new("atomic", 4096).unwrap();
        m.store64(0, 0x5555_5555_ffff_ffff).unwrap();
        let o = Operands { first: 1, second: 0 };
        assert_eq!(update(&m, 0, false, 0x07, &o), Ok(0xffff_ffff));
        assert_eq!(m.load64(0), Ok(0x5555_5555_0000_0000));
        assert_eq!(update(&m, 0, true, 0x07, &o), Ok(0x5555_5555_0000_0000));
        assert_eq!(m.load64(0), Ok(0x5555_5555_0000_0001));
    }
}
