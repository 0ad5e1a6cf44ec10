//! What the simulated driver needs of the memory of the process: the part of the kernel's memory management.

use std::fmt;

use crate::error::Errno;
use crate::range::PageRange;

/// What a piece of memory is a mapping of, as far as the driver treats kinds differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anonymous and private: everything moves.
    Anonymous,
    /// Private pages of a file: those that were written to move.
    PrivateFile,
    /// Shared memory and shared pages of files: nothing moves.
    Shared,
    /// Huge pages of hugetlbfs: migration is refused (`EINVAL`).
    HugeTlb,
    /// Device memory and other special mappings: registering is refused (`EFAULT`).
    Special,
}

/// A piece of the process's memory that is one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) range: PageRange,
    pub(super) kind: Kind,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// The memory of the process, and which of it is in the VRAM of which device.
///
/// Calls are made while the simulated driver holds its lock, so an implementation must not wait for anything that calls the
/// driver.
pub(super) trait Memory: Send + Sync + fmt::Debug {
    /// The mapped pieces of `range`, ascending, clipped to it.
    fn pieces(&self, range: PageRange) -> Result<Vec<Piece>, Errno>;

    /// Makes every page of the range present in system memory or VRAM, for writing where `write`: what `hmm_range_fault` does.
    fn populate(&self, range: PageRange, write: bool) -> Result<(), Errno>;

    /// Moves what can be moved of one piece into the VRAM of a device; absent pages become zeroed VRAM. How many bytes of
    /// the piece moved.
    fn to_vram(&self, device: usize, range: PageRange) -> Result<u64, Errno>;

    /// Moves what is in VRAM back to system memory. How many bytes moved.
    fn to_system(&self, range: PageRange) -> Result<u64, Errno>;

    /// How many bytes of the range are in the VRAM of any device.
    fn in_vram(&self, range: PageRange) -> u64;

    /// Reads as a GPU does. `EFAULT` where nothing is present.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno>;

    /// Writes as a GPU does. `EFAULT` where nothing is present.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno>;
}
