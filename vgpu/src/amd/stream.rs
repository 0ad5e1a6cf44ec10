//! A stream of dwords: a ring or an indirect buffer, and the place in it.

use super::address::Va;
use super::vm::{MemoryStop, RunMemory};
use crate::mem::{self, Address};

/// Where packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// First byte.
    pub base: u64,
    /// Dwords; a ring starts over behind them, an indirect buffer ends.
    pub size: u64,
    /// Whether it is a ring.
    pub ring: bool,
    /// Dwords from the start to the packet.
    pub at: u64,
}

impl Stream {
    /// A ring at position `at`, which may count on from earlier rounds.
    pub fn ring(base: u64, size: u64, at: u64) -> Stream {
        Stream { base, size: size.max(1), ring: true, at }
    }

    /// An indirect buffer.
    pub fn buffer(base: u64, size: u64, at: u64) -> Stream {
        Stream { base, size, ring: false, at }
    }

    /// Address of the dword `index` behind the position, and how many lie in a row from there.
    fn place(&self, run: &RunMemory<'_>, index: u64) -> (Va, u64) {
        let offset = if self.ring { (self.at + index) % self.size } else { self.at + index };
        let row = if self.ring { self.size - offset } else { u64::MAX };
        (run.at(self.base).plus(offset * 4), row)
    }

    /// Reads dwords from `first` behind the position on.
    pub fn words(&self, run: &RunMemory<'_>, first: u64, into: &mut [u32]) -> Result<(), MemoryStop> {
        let mut done = 0;
        while done < into.len() {
            let (at, row) = self.place(run, first + done as u64);
            let part = &mut into[done..];
            let count = part.len().min(usize::try_from(row).unwrap_or(usize::MAX));
            let mut bytes = vec![0; count * 4];
            mem::read(run, at, &mut bytes)?;
            for (word, bytes) in part.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            done += count;
        }
        Ok(())
    }

    /// Reads one dword.
    pub fn word(&self, run: &RunMemory<'_>, index: u64) -> Result<u32, MemoryStop> {
        mem::read32(run, self.place(run, index).0)
    }
}

/// Two dwords, the low one first.
pub fn qword(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amd::vm::testing::{FRAME, Setup};
    use crate::engine::RunToken;

    #[test]
    fn a_ring_starts_over() {
        let setup = Setup::new();
        let token = RunToken::new();
        let run = setup.run(0, &token);
        for i in 0..16 {
            setup.vram().store32(0x1000 + i * 4, i as u32).unwrap();
        }
        let mut words = [0; 4];
        Stream::ring(FRAME + 0x1000, 16, 32 + 13).words(&run, 1, &mut words).unwrap();
        assert_eq!(words, [14, 15, 0, 1]);
        Stream::buffer(FRAME + 0x1000, 16, 3).words(&run, 0, &mut words).unwrap();
        assert_eq!(words, [3, 4, 5, 6]);
        assert_eq!(Stream::ring(FRAME + 0x1000, 16, 15).word(&run, 1), Ok(0));
    }
}
