//! What the simulated driver needs of the memory of the process: the part of the kernel's memory management.

use std::fmt;
use std::sync::Arc;

use crate::error::Errno;
use crate::range::PageRange;
use crate::sim::user_memory::WriteAccess;

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

/// Something that the process did to its own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// `munmap`, or something was mapped over it, or it was moved away.
    Unmapped(PageRange),
    /// `MADV_DONTNEED` and the like: other pages, or none.
    Discarded(PageRange),
    /// Too much happened to tell.
    Anything,
}

/// Keeps a range watched while it lives.
pub(super) type Watch = dyn std::any::Any + Send + Sync;

/// The memory of the process, and which of it is in the VRAM of which device.
///
/// Calls are made while the simulated driver holds its lock, so an implementation must not wait for anything that calls the
/// driver.
pub(super) trait Memory: Send + Sync + fmt::Debug {
    /// The mapped pieces of `range`, ascending, clipped to it.
    fn pieces(&self, range: PageRange) -> Result<Vec<Piece>, Errno>;

    /// Makes every page of the range present in system memory or VRAM, for writing where `write`: what `hmm_range_fault` does.
    fn populate(&self, range: PageRange, write: bool) -> Result<(), Errno>;

    /// Moves what can be moved of one piece into the VRAM of a device; absent pages become zeroed VRAM. A touch of the CPU
    /// brings back the aligned block of `block` bytes around it. How many bytes of the piece are there now.
    fn to_vram(&self, device: usize, range: PageRange, block: u64) -> Result<u64, Errno>;

    /// Moves what is in VRAM back to system memory.
    fn to_system(&self, range: PageRange) -> Result<(), Errno>;

    /// Which of the pages are in the VRAM of any device, as runs.
    fn in_vram(&self, range: PageRange) -> Vec<PageRange>;

    /// How often pages have left VRAM by themselves: the CPU touched them. What the process did to its memory before this is asked
    /// is in the next [`changes`](Self::changes).
    fn touches(&self) -> u64;

    /// What the process did to watched memory, and to memory in VRAM, since this was last asked.
    fn changes(&self) -> Vec<Change>;

    /// Asks to be told of changes to a range, as far as that is possible for its kind of memory.
    fn watch(&self, range: PageRange) -> Option<Arc<Watch>>;

    /// The device is gone: its VRAM comes back, and takes nothing any more.
    fn remove_device(&self, device: usize);

    /// Whether the address is in the heap that `brk` grows, or in the main stack.
    fn is_heap_or_stack(&self, address: u64) -> bool;

    /// Reads as a GPU does, or as the kernel from a place that the caller of an ioctl names. `EFAULT` where nothing is.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno>;

    /// Writes as a GPU does, or as the kernel to a place that the caller of an ioctl names. `EFAULT` where that is not possible.
    fn write(&self, access: WriteAccess, address: u64, bytes: &[u8]) -> Result<(), Errno>;
}
