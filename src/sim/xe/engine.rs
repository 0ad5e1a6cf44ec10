//! The engine that runs a queue's commands: one thread for each queue.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::node::XeNode;
use super::queue::{Job, Queue};
use super::sync::{Word, lock};
use crate::error::Errno;
use crate::sim::user_memory::WriteAccess;

/// Opcode and length of the commands that are known, as `xe_mi_commands.h` has them.
const NOOP: u32 = 0;
const STORE_DWORD: u32 = 0x1000_0002;
const STORE_QWORD: u32 = 0x1020_0003;
const COPY_DWORD: u32 = 0x1700_0003;
const ATOMIC_INCREMENT: u32 = 0x1780_0501;
const ATOMIC_DECREMENT: u32 = 0x1780_0601;
const FLUSH: u32 = 0x1300_0002;
const END: u32 = 0x0500_0000;

/// Most dwords of one batch: one that runs on without an end is a hang, which the driver ends.
const LONGEST: u64 = 1 << 20;
/// How often an instruction starts again whose two addresses take each other's page away.
const MOST_REPEATS: u32 = 16;
/// Longest sleep between two looks at fences.
const TICK: Duration = Duration::from_millis(4);

impl XeNode {
    /// Starts the thread of a new queue.
    pub(super) fn start_engine(&self, queue: &Arc<Queue>) -> Result<(), Errno> {
        let queue = queue.clone();
        std::thread::Builder::new()
            .name("sim-xe-engine".into())
            .spawn(move || queue.run())
            .map(drop)
            .map_err(|error| error.raw_os_error().map_or(Errno::ENOMEM, Errno::from_raw))
    }
}

impl Queue {
    /// The thread's life: jobs in order, until the queue is destroyed.
    fn run(&self) {
        while let Some(job) = self.next() {
            let done = self.wait_for(&job).and_then(|()| self.execute(&job));
            let mut jobs = lock(&self.jobs);
            if jobs.stopped {
                return;
            }
            jobs.list.pop_front();
            drop(jobs);
            match done {
                Ok(()) => self.vm.gpu.signaller.signal(&job.fence),
                // A fault that cannot be served, or commands that make no sense: the driver bans the queue.
                Err(_) => self.ban(),
            }
        }
    }

    /// The next job, which stays counted until it is done.
    fn next(&self) -> Option<Job> {
        let mut jobs = lock(&self.jobs);
        loop {
            if jobs.stopped {
                return None;
            }
            if let Some(job) = jobs.list.front() {
                return Some(job.clone());
            }
            jobs = self.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_for(&self, job: &Job) -> Result<(), Errno> {
        let signaller = &self.vm.gpu.signaller;
        loop {
            let epoch = signaller.epoch();
            if job.after.iter().all(|fence| fence.is_signalled()) {
                return Ok(());
            }
            if lock(&self.jobs).stopped || self.vm.gpu.is_unplugged() {
                return Err(Errno::ENODEV);
            }
            signaller.wait_since(epoch, TICK);
        }
    }

    fn execute(&self, job: &Job) -> Result<(), Errno> {
        if let Some(batch) = job.batch {
            self.commands(batch, job.access)?;
        }
        let delay = self.vm.gpu.signaller.delay();
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        // The ring stores the fence through the VM's own page tables, so it can fault like any other access.
        if let Some(Word { address, value, access }) = job.word {
            self.vm.gpu_write(access, address & !7, &value.to_le_bytes(), self.tile)?;
        }
        Ok(())
    }

    fn commands(&self, batch: u64, access: WriteAccess) -> Result<(), Errno> {
        let dword = |at: u64| self.vm.gpu_read_u32(batch.wrapping_add(4 * at), self.tile);
        // Addresses come as two dwords; the low two bits are not the address's.
        let address = |at: u64| -> Result<u64, Errno> {
            Ok((u64::from(dword(at)?) | u64::from(dword(at + 1)?) << 32) & !3)
        };
        let mut at = 0;
        while at < LONGEST {
            if lock(&self.jobs).stopped || self.vm.gpu.is_unplugged() {
                return Err(Errno::ENODEV);
            }
            at += match dword(at)? {
                // A batch in a null mapping runs to the end of that, and then into what is there.
                NOOP => {
                    let here = batch.wrapping_add(4 * at);
                    let zeroes = match self.vm.null_until(here) {
                        Some(end) => end.wrapping_sub(here) / 4,
                        None => self.vm.gpu_zeroes(here, self.tile)?,
                    };
                    zeroes.max(1)
                }
                STORE_DWORD => {
                    self.vm.gpu_write(access, address(at + 1)?, &dword(at + 3)?.to_le_bytes(), self.tile)?;
                    4
                }
                STORE_QWORD => {
                    let value = u64::from(dword(at + 3)?) | u64::from(dword(at + 4)?) << 32;
                    self.vm.gpu_write(access, address(at + 1)? & !7, &value.to_le_bytes(), self.tile)?;
                    5
                }
                COPY_DWORD => {
                    // A fault has the engine start the instruction again: it reads once more what it wrote nowhere yet.
                    let mut value = self.vm.gpu_read_u32(address(at + 3)?, self.tile)?;
                    for _ in 0..MOST_REPEATS {
                        if !self.vm.gpu_faults(address(at + 1)?, self.tile)? {
                            break;
                        }
                        value = self.vm.gpu_read_u32(address(at + 3)?, self.tile)?;
                    }
                    self.vm.gpu_write(access, address(at + 1)?, &value.to_le_bytes(), self.tile)?;
                    5
                }
                ATOMIC_INCREMENT => {
                    self.vm.gpu_add_u32(access, address(at + 1)?, 1, self.tile)?;
                    3
                }
                ATOMIC_DECREMENT => {
                    self.vm.gpu_add_u32(access, address(at + 1)?, u32::MAX, self.tile)?;
                    3
                }
                FLUSH => 4,
                END => return Ok(()),
                // A hang, which ends in a reset.
                _ => return Err(Errno::ETIME),
            };
        }
        Err(Errno::ETIME)
    }
}
