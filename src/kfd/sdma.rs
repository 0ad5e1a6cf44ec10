//! Packets for copy engines.
//!
//! The encodings are those of the kernel's `sdma_v4_0.c` to `sdma_v7_1.c` and of `vega10_sdma_pkt_open.h`; operation codes are
//! the same on gfx9 to gfx12.

use crate::error::{Error, ErrorKind, Result};
use crate::kfd::GfxVersion;

const OP_COPY_LINEAR: u32 = 1;
const OP_WRITE_LINEAR: u32 = 2;
const OP_FENCE: u32 = 5;
const OP_CONST_FILL: u32 = 11;
/// Fills whole dwords.
const FILL_DWORDS: u32 = 2 << 30;
/// Uncached, which fences ask for since gfx10.
const FENCE_UNCACHED: u32 = 3 << 16;

/// The most one copy or fill packet moves, in bytes: what the oldest engine can, and a power of two.
const LARGEST_PIECE: u64 = 2 << 20;
/// The most one write packet carries, in dwords.
const LARGEST_WRITE: usize = 4096;

/// A list of packets for a copy engine, to be given to [`SdmaQueue::submit`](crate::kfd::SdmaQueue::submit).
///
/// Building it touches nothing: addresses are numbers until the list is submitted.
#[derive(Clone, Debug)]
pub struct SdmaPackets {
    fence_header: u32,
    dwords: Vec<u32>,
    /// Where each packet ends in `dwords`.
    ends: Vec<usize>,
}

impl SdmaPackets {
    /// An empty list for engines of this generation.
    #[must_use]
    pub fn new(gfx: GfxVersion) -> Self {
        let fence_header = if gfx.major >= 10 { OP_FENCE | FENCE_UNCACHED } else { OP_FENCE };
        Self { fence_header, dwords: Vec::new(), ends: Vec::new() }
    }

    /// Writes `values` to `to`.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when `to` is not a multiple of 4.
    pub fn write(&mut self, to: u64, values: &[u32]) -> Result<&mut Self> {
        check_alignment("SDMA WRITE_LINEAR", to)?;
        let mut at = to;
        for part in values.chunks(LARGEST_WRITE) {
            let (low, high) = halves(at);
            self.dwords.extend([OP_WRITE_LINEAR, low, high, part.len() as u32 - 1]);
            self.dwords.extend_from_slice(part);
            self.end_packet();
            at = at.wrapping_add(4 * part.len() as u64);
        }
        Ok(self)
    }

    /// Copies `bytes` from one address to another, in pieces of at most 2 MiB.
    pub fn copy(&mut self, from: u64, to: u64, bytes: u64) -> &mut Self {
        for (offset, len) in pieces(bytes) {
            let (from_low, from_high) = halves(from.wrapping_add(offset));
            let (to_low, to_high) = halves(to.wrapping_add(offset));
            // At most LARGEST_PIECE, which fits.
            self.dwords.extend([OP_COPY_LINEAR, (len - 1) as u32, 0, from_low, from_high, to_low, to_high]);
            self.end_packet();
        }
        self
    }

    /// Fills `bytes` with copies of `value`.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when `to` or `bytes` is not a multiple of 4.
    pub fn fill(&mut self, to: u64, value: u32, bytes: u64) -> Result<&mut Self> {
        check_alignment("SDMA CONST_FILL", to)?;
        check_alignment("SDMA CONST_FILL", bytes)?;
        for (offset, len) in pieces(bytes) {
            let (low, high) = halves(to.wrapping_add(offset));
            self.dwords.extend([OP_CONST_FILL | FILL_DWORDS, low, high, value, (len - 1) as u32]);
            self.end_packet();
        }
        Ok(self)
    }

    /// Writes `value` to `to` once everything before is done.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when `to` is not a multiple of 4.
    pub fn fence(&mut self, to: u64, value: u32) -> Result<&mut Self> {
        check_alignment("SDMA FENCE", to)?;
        let (low, high) = halves(to);
        self.dwords.extend([self.fence_header, low, high, value]);
        self.end_packet();
        Ok(self)
    }

    /// The dwords of each packet.
    pub fn packets(&self) -> impl Iterator<Item = &[u32]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.dwords[start..end])
    }

    /// Whether there is no packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn end_packet(&mut self) {
        self.ends.push(self.dwords.len());
    }
}

fn pieces(bytes: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..bytes).step_by(LARGEST_PIECE as usize).map(move |offset| (offset, LARGEST_PIECE.min(bytes - offset)))
}

const fn halves(address: u64) -> (u32, u32) {
    (address as u32, (address >> 32) as u32)
}

fn check_alignment(packet: &'static str, value: u64) -> Result<()> {
    if value % 4 == 0 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidArgument, packet).because(format!("{value:#x} is not a multiple of 4")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GFX90A: GfxVersion = GfxVersion { major: 9, minor: 0, stepping: 10 };
    const GFX11: GfxVersion = GfxVersion { major: 11, minor: 0, stepping: 0 };

    #[test]
    fn encodings() {
        let mut packets = SdmaPackets::new(GFX90A);
        packets.write(0x7f00_1234_5678, &[0xaa, 0xbb]).unwrap();
        packets.copy(0x7f00_0000_0001, 0x7e00_0000_0002, 0x1000);
        packets.fill(0x7f00_0000_0000, 0xdead_beef, 64).unwrap();
        packets.fence(0x7f00_0000_0010, 7).unwrap();
        let all: Vec<&[u32]> = packets.packets().collect();
        assert_eq!(all[0], [0x0000_0002, 0x1234_5678, 0x7f00, 1, 0xaa, 0xbb]);
        assert_eq!(all[1], [0x0000_0001, 0xfff, 0, 1, 0x7f00, 2, 0x7e00]);
        assert_eq!(all[2], [0x8000_000b, 0, 0x7f00, 0xdead_beef, 63]);
        assert_eq!(all[3], [0x0000_0005, 0x10, 0x7f00, 7]);
        let mut packets = SdmaPackets::new(GFX11);
        packets.fence(0x10, 7).unwrap();
        assert_eq!(packets.packets().next().unwrap()[0], 0x0003_0005);
    }

    #[test]
    fn large_copies_are_cut() {
        let mut packets = SdmaPackets::new(GFX90A);
        packets.copy(0x1_0000_0000, 0x2_0000_0000, (4 << 20) + 5);
        let all: Vec<_> = packets.packets().map(|packet| (packet[1], packet[3], packet[5])).collect();
        let mib = 1 << 20;
        assert_eq!(all, [(2 * mib - 1, 0, 0), (2 * mib - 1, 2 * mib, 2 * mib), (4, 4 * mib, 4 * mib)]);
        packets.copy(0, 0, 0);
        packets.write(0, &[]).unwrap();
        assert_eq!(packets.packets().count(), 3);
    }

    #[test]
    fn large_writes_are_cut() {
        let mut packets = SdmaPackets::new(GFX90A);
        let values: Vec<u32> = (0..2 * LARGEST_WRITE as u32 + 3).collect();
        packets.write(0x1_ffff_f000, &values).unwrap();
        let all: Vec<&[u32]> = packets.packets().collect();
        let heads: Vec<&[u32]> = all.iter().map(|packet| &packet[..4]).collect();
        assert_eq!(
            heads,
            [
                [OP_WRITE_LINEAR, 0xffff_f000, 1, 4095],
                [OP_WRITE_LINEAR, 0x3000, 2, 4095],
                [OP_WRITE_LINEAR, 0x7000, 2, 2]
            ]
        );
        let written: Vec<u32> = all.iter().flat_map(|packet| &packet[4..]).copied().collect();
        assert_eq!(written, values);
    }

    #[test]
    fn unaligned_addresses_are_refused() {
        let mut packets = SdmaPackets::new(GFX90A);
        for refused in [
            packets.write(1, &[0]).is_err(),
            packets.fill(2, 0, 4).is_err(),
            packets.fill(4, 0, 2).is_err(),
            packets.fence(3, 0).is_err(),
        ] {
            assert!(refused);
        }
        assert!(packets.is_empty());
    }
}
