//! The few GPU commands that prove access to memory.
//!
//! Encodings of the command streamer of Xe2 and newer (`xe_mi_commands.h` in the driver), with addresses of the VM. They run on
//! every engine and need no further state.

use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

use crate::error::{Error, ErrorKind, Result};
use crate::range::{PageRange, page_size};

const STORE_DWORD: u32 = 0x1000_0002;
const STORE_QWORD: u32 = 0x1020_0003;
const COPY_DWORD: u32 = 0x1700_0003;
const ATOMIC_INCREMENT: u32 = 0x1780_0501;
const ATOMIC_DECREMENT: u32 = 0x1780_0601;
const FLUSH: u32 = 0x1300_0002;
const END: u32 = 0x0500_0000;

/// A list of GPU commands.
///
/// ```
/// use drm_pagemap::xe::Batch;
///
/// let batch = Batch::new().store_u32(0x7f00_0000_1000, 42).finish();
/// assert_eq!(batch, [0x1000_0002, 0x0000_1000, 0x7f00, 42, 0x0500_0000]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch {
    dwords: Vec<u32>,
}

impl Batch {
    /// No command yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { dwords: Vec::new() }
    }

    /// Stores 32 bits at `address`, a multiple of 4.
    #[doc(alias = "MI_STORE_DATA_IMM")]
    #[must_use]
    pub fn store_u32(self, address: u64, value: u32) -> Self {
        self.command(STORE_DWORD, &[address], &[value])
    }

    /// Stores 64 bits at `address`, a multiple of 8.
    #[doc(alias = "MI_STORE_DATA_IMM")]
    #[must_use]
    pub fn store_u64(self, address: u64, value: u64) -> Self {
        self.command(STORE_QWORD, &[address], &[value as u32, (value >> 32) as u32])
    }

    /// Copies 32 bits from `from` to `to`, multiples of 4.
    #[doc(alias = "MI_COPY_MEM_MEM")]
    #[must_use]
    pub fn copy_u32(self, to: u64, from: u64) -> Self {
        self.command(COPY_DWORD, &[to, from], &[])
    }

    /// Adds 1 to the 32 bits at `address`, a multiple of 4, atomically.
    #[doc(alias = "MI_ATOMIC")]
    #[must_use]
    pub fn atomic_increment(self, address: u64) -> Self {
        self.command(ATOMIC_INCREMENT, &[address], &[])
    }

    /// Subtracts 1 from the 32 bits at `address`, a multiple of 4, atomically.
    #[doc(alias = "MI_ATOMIC")]
    #[must_use]
    pub fn atomic_decrement(self, address: u64) -> Self {
        self.command(ATOMIC_DECREMENT, &[address], &[])
    }

    /// Makes earlier stores visible before later ones. On copy engines; the kernel's ring flushes behind every batch anyway.
    #[doc(alias = "MI_FLUSH_DW")]
    #[must_use]
    pub fn flush(self) -> Self {
        self.command(FLUSH, &[], &[0, 0, 0])
    }

    /// The commands with the end mark behind them.
    #[must_use]
    pub fn finish(mut self) -> Vec<u32> {
        self.dwords.push(END);
        self.dwords
    }

    fn command(mut self, opcode: u32, addresses: &[u64], data: &[u32]) -> Self {
        self.dwords.push(opcode);
        for address in addresses {
            self.dwords.extend([*address as u32, (*address >> 32) as u32]);
        }
        self.dwords.extend(data);
        self
    }
}

/// A finished [`Batch`] in memory the GPU can run it from: page-aligned, shared (so that it never migrates), and with a page
/// mapped behind it, because the hardware reads ahead.
#[derive(Debug)]
pub struct BatchBuffer {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a private copy of plain bytes that nothing writes to after `new`.
unsafe impl Send for BatchBuffer {}
// SAFETY: as above.
unsafe impl Sync for BatchBuffer {}

impl BatchBuffer {
    /// Copies `batch` and its end mark into memory of its own.
    ///
    /// # Errors
    ///
    /// The errno of `mmap`.
    pub fn new(batch: Batch) -> Result<Self> {
        let dwords = batch.finish();
        let bytes: &[u8] = bytemuck::cast_slice(&dwords);
        let page = page_size() as usize;
        let len = bytes.len().next_multiple_of(page) + page;
        // SAFETY: a null hint lets the kernel choose free addresses, so no existing mapping is replaced.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        };
        let start = start
            .map_err(|errno| Error::from_errno("mmap", errno.into()).because("no memory for a batch"))?;
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| {
            Error::new(ErrorKind::Other, "mmap").because("the kernel mapped the batch at address 0")
        })?;
        // SAFETY: the mapping is `len >= bytes.len()` writable bytes that nothing else knows of.
        unsafe { start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(Self { start, len })
    }

    /// Address of the first command, on the CPU and in a mirrored VM.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// The addresses that must be mirrored, the page behind included.
    #[must_use]
    pub fn range(&self) -> PageRange {
        let start = self.address();
        PageRange::from_aligned(start, start + self.len as u64)
    }
}

impl Drop for BatchBuffer {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the mapping made in `new`. Whoever submitted it promised to keep it until the GPU is done.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_encoded_as_the_hardware_reads_them() {
        let (to, from) = (0x1122_3344_5566_7788, 0x7f01_0203_0400);
        let batch = Batch::new()
            .store_u32(to, 7)
            .store_u64(to, 0xaaaa_bbbb_cccc_dddd)
            .copy_u32(to, from)
            .atomic_increment(to)
            .atomic_decrement(to)
            .flush()
            .finish();
        #[rustfmt::skip]
        let expected = [
            0x1000_0002, 0x5566_7788, 0x1122_3344, 7,
            0x1020_0003, 0x5566_7788, 0x1122_3344, 0xcccc_dddd, 0xaaaa_bbbb,
            0x1700_0003, 0x5566_7788, 0x1122_3344, 0x0203_0400, 0x7f01,
            0x1780_0501, 0x5566_7788, 0x1122_3344,
            0x1780_0601, 0x5566_7788, 0x1122_3344,
            0x1300_0002, 0, 0, 0,
            0x0500_0000,
        ];
        assert_eq!(batch, expected);
    }

    #[test]
    fn a_buffer_has_a_page_behind_the_commands() {
        let page = page_size();
        let mut batch = Batch::new();
        for at in 0..page / 16 {
            batch = batch.store_u32(at * 4, 1);
        }
        // Exactly a page of stores, so the end mark begins another, and one follows.
        let buffer = BatchBuffer::new(batch).unwrap();
        assert_eq!(buffer.range().len(), 3 * page);
        assert_eq!(buffer.address() % page, 0);
        // SAFETY: the buffer is mapped and nothing writes to it.
        let first = unsafe { (buffer.address() as *const u32).read_volatile() };
        assert_eq!(first, STORE_DWORD);
    }
}
