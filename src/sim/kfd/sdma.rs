//! The copy engine: executes the packets of a ring.

use crate::error::Errno;
use crate::range::page_size;
use crate::sim::kfd::Shared;
use crate::sim::kfd::config::GcVersion;
use crate::sim::kfd::state::State;
use crate::sim::user_memory::WriteAccess;

/// Why the engine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Everything up to the write pointer is done.
    Done,
    /// A condition is not met yet, or queues are stopped: to be tried again.
    Later,
    /// A memory violation, or a packet that no engine knows.
    Halted,
}

/// A copy engine at work on one ring.
pub(super) struct Engine<'a> {
    pub(super) state: &'a mut State,
    pub(super) kfd: &'a Shared,
    pub(super) gpu: usize,
    pub(super) ring: u64,
    pub(super) ring_bytes: u64,
    pub(super) access: WriteAccess,
}

/// Bytes that are filled in one go.
const CHUNK: usize = 64 << 10;

impl Engine<'_> {
    /// Executes packets from byte `done` until byte `until` of all that was ever written to the ring.
    pub(super) fn run(&mut self, done: &mut u64, until: u64) -> Stop {
        while *done < until {
            if self.state.queues_stopped {
                return Stop::Later;
            }
            match self.packet(*done) {
                Ok(Some(dwords)) => *done += 4 * dwords,
                Ok(None) => return Stop::Later,
                Err(_) => return Stop::Halted,
            }
        }
        Stop::Done
    }

    /// Executes the packet at a byte of the ring; how many dwords it has, or `None` when its condition is not met.
    fn packet(&mut self, at: u64) -> Result<Option<u64>, Errno> {
        let header = self.dword(at, 0)?;
        let (op, sub_op) = (header & 0xff, header >> 8 & 0xff);
        Ok(Some(match (op, sub_op) {
            (0, _) => 1 + u64::from(header >> 16 & 0x3fff),
            (1, 0) => {
                let bytes = u64::from(self.dword(at, 1)? & self.count_mask()) + 1;
                let (from, to) = (self.address(at, 3)?, self.address(at, 5)?);
                self.copy(from, to, bytes)?;
                7
            }
            (2, 0) => {
                let (to, dwords) = (self.address(at, 1)?, u64::from(self.dword(at, 3)? & 0xf_ffff) + 1);
                for index in 0..dwords {
                    let value = self.dword(at, 4 + index)?;
                    self.write(to + 4 * index, &value.to_le_bytes())?;
                }
                4 + dwords
            }
            (5, 0) => {
                let (to, value) = (self.address(at, 1)?, self.dword(at, 3)?);
                self.write(to, &value.to_le_bytes())?;
                4
            }
            (6, 0) => 2,
            (8, 0) => return self.poll(at, header),
            (11, 0) => {
                let (to, value) = (self.address(at, 1)?, self.dword(at, 3)?);
                let bytes = u64::from(self.dword(at, 4)? & self.count_mask()) + 1;
                self.fill(to, value, bytes)?;
                5
            }
            (13, 0) => {
                let to = self.address(at, 1)?;
                let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicRaw);
                self.write(to, &(now.tv_sec * 1_000_000_000 + now.tv_nsec).to_le_bytes())?;
                3
            }
            (17, 0) => 5,
            _ => return Err(Errno::EINVAL),
        }))
    }

    /// Waits for a dword in memory. Registers cannot be waited for by a user queue here.
    fn poll(&mut self, at: u64, header: u32) -> Result<Option<u64>, Errno> {
        const IN_MEMORY: u32 = 1 << 31;
        if header & IN_MEMORY == 0 {
            return Err(Errno::EINVAL);
        }
        let address = self.address(at, 1)?;
        let (reference, mask) = (self.dword(at, 3)?, self.dword(at, 4)?);
        let mut bytes = [0; 4];
        self.state.gpu_read(self.kfd, self.gpu, address, &mut bytes)?;
        let value = u32::from_le_bytes(bytes) & mask;
        let met = match header >> 28 & 7 {
            0 => true,
            1 => value < reference,
            2 => value <= reference,
            3 => value == reference,
            4 => value != reference,
            5 => value >= reference,
            6 => value > reference,
            _ => return Err(Errno::EINVAL),
        };
        Ok(met.then_some(6))
    }

    /// Page by page of the target: what faults first is what is touched first.
    fn copy(&mut self, from: u64, to: u64, bytes: u64) -> Result<(), Errno> {
        let page = page_size();
        let mut buffer = vec![0; page.min(bytes) as usize];
        let mut copied = 0;
        while copied < bytes {
            let rest_of_page = page - to.wrapping_add(copied) % page;
            let part = &mut buffer[..rest_of_page.min(bytes - copied) as usize];
            self.state.gpu_read(self.kfd, self.gpu, from + copied, part)?;
            self.state.gpu_write(self.kfd, self.gpu, self.access, to + copied, part)?;
            copied += part.len() as u64;
        }
        Ok(())
    }

    fn fill(&mut self, to: u64, value: u32, bytes: u64) -> Result<(), Errno> {
        let pattern: Vec<u8> = value.to_le_bytes().repeat(CHUNK / 4);
        let mut filled = 0;
        while filled < bytes {
            let part = &pattern[..CHUNK.min((bytes - filled) as usize)];
            self.state.gpu_write(self.kfd, self.gpu, self.access, to + filled, part)?;
            filled += part.len() as u64;
        }
        Ok(())
    }

    fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), Errno> {
        if to % 4 != 0 {
            return Err(Errno::EINVAL);
        }
        self.state.gpu_write(self.kfd, self.gpu, self.access, to, bytes)
    }

    /// How many bytes one packet can copy or fill: 22 bits on the oldest engines, 30 on later ones.
    fn count_mask(&self) -> u32 {
        let gc = self.state.devices[self.gpu].config.gc;
        let old = gc < GcVersion(9, 4, 2) || (gc >= GcVersion(10, 1, 0) && gc < GcVersion(10, 3, 0));
        if old { 0x3f_ffff } else { 0x3fff_ffff }
    }

    /// The `index`th dword of the packet at a byte of the ring. A packet must not go on at the ring's start.
    fn dword(&mut self, at: u64, index: u64) -> Result<u32, Errno> {
        let mut bytes = [0; 4];
        let offset = at % self.ring_bytes + 4 * index;
        if offset >= self.ring_bytes {
            return Err(Errno::EINVAL);
        }
        let address = self.ring + offset;
        self.state.gpu_read(self.kfd, self.gpu, address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn address(&mut self, at: u64, index: u64) -> Result<u64, Errno> {
        let (low, high) = (self.dword(at, index)?, self.dword(at, index + 1)?);
        Ok(u64::from(high) << 32 | u64::from(low))
    }
}
