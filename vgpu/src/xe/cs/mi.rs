//! Memory-interface instructions (`instructions/xe_mi_commands.h`).

use super::decode::mi;
use super::exec::{Env, Exec, Flow, Stop};
use super::{alu, atomic};
use crate::counters::Counter;
use crate::inject::Kind;
use crate::mem::{self, Address};
use crate::xe::memory::{GgttAddr, Va};
use crate::xe::topology::VECTOR_USER;

/// Dwords of BATCH_BUFFER_START.
pub(super) const BATCH_START_LENGTH: usize = 3;

/// Common bit: the address goes through the global table.
const GLOBAL: u32 = 1 << 22;
/// Address bits of an instruction; how many of them count is the address space's business.
const ADDRESS: u64 = (1 << 57) - 1;

fn address(d: &[u32], at: usize) -> u64 {
    (u64::from(d[at]) | u64::from(d[at + 1]) << 32) & ADDRESS
}

/// Compares as the comparison field of an instruction says: memory on the left, data on the right.
fn compare(operation: u32, memory: u32, data: u32) -> bool {
    match operation & 7 {
        0 => memory > data,
        1 => memory >= data,
        2 => memory < data,
        3 => memory <= data,
        4 => memory == data,
        5 => memory != data,
        _ => false,
    }
}

impl Exec {
    pub(super) fn mi(
        &mut self,
        env: &Env<'_>,
        op: u32,
        d: &[u32],
        at: Va,
        in_ring: bool,
    ) -> Result<Flow, Stop> {
        let global = d[0] & GLOBAL != 0;
        let enough = |n: usize| {
            if d.len() < n {
                Err(Stop::Broken(format!("instruction {:#x} at {at:?} is too short", d[0])))
            } else {
                Ok(())
            }
        };
        match op {
            // Memory is coherent, so a fence has nothing to do.
            mi::NOOP | mi::ARB_CHECK | mi::MEM_FENCE => {}
            mi::ARB_ON_OFF => self.arbitration = d[0] & 1 == 1,
            mi::USER_INTERRUPT => {
                let mut state = env.core.lock();
                env.core.raise(&mut state, env.engine.source, VECTOR_USER);
            }
            mi::BATCH_BUFFER_END => return Ok(Flow::Return),
            mi::BATCH_BUFFER_START => {
                enough(BATCH_START_LENGTH)?;
                // A batch of a process cannot start one outside of that process's memory, whatever its bit says.
                let leaves = d[0] >> 8 & 1 == 0 && matches!(at, Va::Ggtt(_));
                let target = Va::new(leaves, address(d, 1) & !3);
                let second_level = d[0] & 1 << 22 != 0;
                if in_ring {
                    self.begin_batch(env, target)?;
                }
                return Ok(if in_ring || second_level { Flow::Call(target) } else { Flow::Chain(target) });
            }
            mi::CONDITIONAL_BATCH_BUFFER_END => {
                enough(4)?;
                let memory = mem::read32(&env.memory, Va::new(global, address(d, 2) & !3))?;
                if !compare(d[0] >> 12, memory, d[1]) {
                    return Ok(if d[0] >> 18 & 1 == 1 { Flow::Return } else { Flow::ReturnAll });
                }
            }
            mi::SEMAPHORE_WAIT => {
                enough(4)?;
                let memory = mem::read32(&env.memory, Va::new(global, address(d, 2) & !3))?;
                if !compare(d[0] >> 12, memory, d[1]) {
                    return Err(Stop::Poll);
                }
            }
            mi::STORE_DATA_IMM => {
                enough(4)?;
                let data: Vec<u8> = d[3..].iter().flat_map(|v| v.to_le_bytes()).collect();
                mem::write(&env.memory, Va::new(global, address(d, 1) & !3), &data)?;
            }
            mi::FLUSH_DW => {
                enough(4)?;
                self.flush_dw(env, d)?;
            }
            mi::ATOMIC => {
                enough(3)?;
                atomic::execute(self, env, d, Va::new(global, address(d, 1) & !3))?;
                env.core.board.counters.add(Counter::Atomics, 1);
            }
            mi::COPY_MEM_MEM => {
                enough(5)?;
                let value = mem::read32(&env.memory, Va::new(global, address(d, 3) & !3))?;
                let target_global = d[0] & 1 << 21 != 0;
                mem::write32(&env.memory, Va::new(target_global, address(d, 1) & !3), value)?;
            }
            mi::LOAD_REGISTER_IMM => {
                for pair in d[1..].chunks_exact(2) {
                    let register = self.register(env, pair[0], d[0] & 1 << 19 != 0);
                    self.write_register(env, register, pair[1]);
                }
            }
            mi::LOAD_REGISTER_MEM => {
                enough(4)?;
                let value = mem::read32(&env.memory, Va::new(global, address(d, 2) & !3))?;
                let register = self.register(env, d[1], d[0] & 1 << 19 != 0);
                self.write_register(env, register, value);
            }
            mi::STORE_REGISTER_MEM => {
                enough(4)?;
                let register = self.register(env, d[1], d[0] & 1 << 19 != 0);
                let value = self.read_register(env, register);
                mem::write32(&env.memory, Va::new(global, address(d, 2) & !3), value)?;
            }
            mi::LOAD_REGISTER_REG => {
                enough(3)?;
                let source = self.register(env, d[1], d[0] & 1 << 18 != 0);
                let target = self.register(env, d[2], d[0] & 1 << 19 != 0);
                let value = self.read_register(env, source);
                self.write_register(env, target, value);
            }
            mi::MATH => alu::execute(self, &d[1..]).map_err(Stop::Broken)?,
            _ => self.note_unknown(env, format!("MI opcode {op:#04x}")),
        }
        Ok(Flow::Next)
    }

    /// A batch is about to be started from the ring.
    fn begin_batch(&mut self, env: &Env<'_>, target: Va) -> Result<(), Stop> {
        if self.repeated {
            return Ok(());
        }
        env.core.board.counters.add(Counter::Batches, 1);
        tracing::debug!(target: "job", engine = env.engine.name, asid = env.memory.owner.asid, ?target, "batch");
        match env.core.board.strike(&[Kind::JobHang, Kind::JobError], &env.classes()) {
            Some(strike) if strike.kind == Kind::JobHang => Err(Stop::Hang { stuck: strike.value == 1 }),
            Some(_) => Err(Stop::Broken("ordered trouble".into())),
            None => Ok(()),
        }
    }

    /// FLUSH_DW: drops translations if asked to, then writes a value.
    fn flush_dw(&mut self, env: &Env<'_>, d: &[u32]) -> Result<(), Stop> {
        if d[0] & 1 << 18 != 0 {
            env.core.memory.tlb.invalidate_owner(env.memory.owner);
        }
        let low = d[1] & !7;
        let target = if d[0] & 1 << 21 != 0 {
            Va::Ggtt(self.image.status_page().plus(u64::from(low)))
        } else {
            Va::new(d[1] & 4 != 0, (u64::from(low) | u64::from(d[2]) << 32) & ADDRESS)
        };
        self.post_sync(env, d[0] >> 14 & 3, target, &d[3..])
    }

    /// The write at the end of a flush: an immediate value, or the time.
    pub(super) fn post_sync(
        &mut self,
        env: &Env<'_>,
        kind: u32,
        target: Va,
        data: &[u32],
    ) -> Result<(), Stop> {
        match kind {
            1 => {
                let bytes: Vec<u8> = data.iter().take(2).flat_map(|v| v.to_le_bytes()).collect();
                mem::write(&env.memory, target, &bytes)?;
            }
            3 => mem::write64(&env.memory, target, env.core.clock())?,
            _ => {}
        }
        Ok(())
    }

    /// Where a store with "index" goes: into the page of the hardware status.
    pub(super) fn status_page_at(&self, offset: u32) -> Va {
        Va::Ggtt(GgttAddr(self.image.status_page().0 + u64::from(offset)))
    }

    pub(super) fn note_unknown(&self, env: &Env<'_>, what: String) {
        if !self.repeated {
            *env.core
                .lock()
                .unknown_instructions
                .entry(format!("{}: {what}", env.engine.name))
                .or_default() += 1;
        }
    }
}
