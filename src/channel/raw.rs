//! The system call itself.

use std::os::fd::BorrowedFd;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};

struct Buffer<'a> {
    request: u32,
    bytes: &'a mut [u8],
}

// SAFETY: `as_ptr` is the buffer that `request` describes (the caller of `ioctl` answers for the length); drivers answer 0
// or an error, so there is no output to interpret; the kernel writes through the pointer only during the call and within
// the size that the request number states.
unsafe impl Ioctl for Buffer<'_> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.request as Opcode
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut core::ffi::c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// `ioctl(2)`.
///
/// # Safety
///
/// `bytes` must be as long as the request's size field says, or the driver must be known to read and write no more than it
/// holds; addresses inside it must be valid for what the driver does with them.
#[inline]
pub(super) unsafe fn ioctl(fd: BorrowedFd<'_>, request: u32, bytes: &mut [u8]) -> rustix::io::Result<()> {
    // SAFETY: the kernel copies at most the request's size to and from `bytes` (DRM and KFD dispatchers both do); the caller
    // answers for the rest.
    unsafe { rustix::ioctl::ioctl(fd, Buffer { request, bytes }) }
}
