//! Memory of a device, mapped into the process.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

use crate::error::{Error, Result};

/// A shared mapping of device memory (a buffer object, a doorbell page), unmapped on drop.
///
/// The device may read and write it at any time, so it is reached through a raw pointer only.
#[derive(Debug)]
pub struct DeviceMapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory owned by this value; nothing about it is bound to the thread that made it.
unsafe impl Send for DeviceMapping {}
// SAFETY: `&DeviceMapping` gives out an address and a length only; access through the pointer is the user's own unsafe act.
unsafe impl Sync for DeviceMapping {}

impl DeviceMapping {
    pub(super) fn new(name: &'static str, fd: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self> {
        // SAFETY: a null hint lets the kernel choose free addresses, so no existing mapping is replaced; the kernel keeps the
        // file alive for as long as the mapping lives.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                fd,
                offset,
            )
        };
        let start = start.map_err(|errno| {
            Error::from_errno("mmap", errno.into())
                .because(format!("cannot map {len:#x} bytes of {name} at {offset:#x}"))
        })?;
        let start = NonNull::new(start.cast()).ok_or_else(|| {
            Error::new(crate::ErrorKind::Other, "mmap").because("the kernel mapped the device at address 0")
        })?;
        Ok(Self { start, len })
    }

    /// Address of the first byte.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the mapping has no byte; never true, since the kernel refuses empty mappings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for DeviceMapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the mapping made in `new`, and no reference into it can outlive `self`, since only a
        // raw pointer is handed out. A failure leaves it mapped, which leaks addresses and nothing else.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
