//! Registers as instructions see them: those of the context, clocks, and everything else.

use super::exec::{Env, Exec};
use crate::xe::registers::engine::{RING_CTX_TIMESTAMP, RING_TIMESTAMP};

/// Class and instance of the engine.
const RING_ID: u32 = 0x8c;
/// First of the sixteen 64-bit general registers.
pub(super) const GPR: u32 = 0x600;
/// Bytes of an engine's block.
const BLOCK: u32 = 0x800;
/// Instructions address the block of "this engine" at the render engine's place when remapping is on, or
/// relative to zero.
const REMAP_BASE: u32 = 0x2000;

/// A register that an instruction names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    /// Of this engine's block, by offset.
    Own(u32),
    /// Any other, by address.
    Other(u32),
}

impl Exec {
    /// The register an instruction means; `relative` when its address counts from the engine's base.
    pub(super) fn register(&self, env: &Env<'_>, address: u32, relative: bool) -> Register {
        let address = address & 0x7f_fffc;
        if relative {
            return Register::Own(address & (BLOCK - 1));
        }
        for base in [env.engine.base, REMAP_BASE] {
            if address >= base && address - base < BLOCK {
                return Register::Own(address - base);
            }
        }
        Register::Other(address)
    }

    pub(super) fn read_register(&self, env: &Env<'_>, register: Register) -> u32 {
        let offset = match register {
            Register::Own(offset) => offset,
            Register::Other(address) => return env.core.lock().registers.get(address),
        };
        let now = env.core.clock();
        match offset {
            RING_TIMESTAMP => now as u32,
            o if o == RING_TIMESTAMP + 4 => (now >> 32) as u32,
            RING_CTX_TIMESTAMP => self.run_time(now) as u32,
            o if o == RING_CTX_TIMESTAMP + 4 => (self.run_time(now) >> 32) as u32,
            RING_ID => env.engine.source.class | env.engine.source.instance << 4,
            _ => match self.registers.get(&offset) {
                Some(value) => *value,
                None => env.core.lock().registers.get(env.engine.base + offset),
            },
        }
    }

    pub(super) fn write_register(&mut self, env: &Env<'_>, register: Register, value: u32) {
        match register {
            // Saved and restored with the context, so no other context sees it.
            Register::Own(offset) => {
                self.registers.insert(offset, value);
            }
            Register::Other(address) => env.core.lock().registers.set(address, value),
        }
    }

    /// A general register, 64 bits.
    pub(super) fn gpr(&self, number: u32) -> u64 {
        let half = |offset| u64::from(self.registers.get(&offset).copied().unwrap_or(0));
        half(GPR + number * 8) | half(GPR + number * 8 + 4) << 32
    }

    pub(super) fn set_gpr(&mut self, number: u32, value: u64) {
        self.registers.insert(GPR + number * 8, value as u32);
        self.registers.insert(GPR + number * 8 + 4, (value >> 32) as u32);
    }
}
