//! The one door to device drivers: every device ioctl of this crate passes through [`Channel`].
//!
//! A channel's far end is an open device file or a [`VirtualNode`], an object in this process that answers like a
//! driver. Everything above sends the same bytes to either, so what is proven on one holds for the marshalling on the
//! other.
//!
//! # Interruptions
//!
//! `EINTR` and `EAGAIN` are normal answers of GPU drivers. Whether a call may simply be repeated is a property of the
//! call, so each passes a [`Retry`]; the number of repetitions is bounded, and a call that is still interrupted then
//! ends as [`ErrorKind::TryAgain`].

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::error::{Errno, Error, ErrorKind, Result};
use crate::uapi::IoctlArg;
use crate::uapi::abi::request_size;

mod mapping;
mod owner;
mod raw;
mod retry;

pub use mapping::DeviceMapping;
pub use owner::ProcessGuard;
pub use retry::Retry;

/// A device that lives in this process and answers ioctls as a driver would.
///
/// As in the kernel, changes to an argument reach the caller even when the answer is an error.
///
/// # Safety
///
/// What this crate believes of a driver, it believes of a node. An implementation promises:
///
/// * It writes to the process's memory only where the argument of an [`ioctl`](Self::ioctl), or commands that were submitted
///   through one, tell it to, and no more than the ABI of that ioctl says. It reads and writes as the kernel would, that
///   is, in a way that fails with `EFAULT` instead of faulting (`process_vm_readv` on itself), never by dereferencing.
/// * A descriptor that an answer holds (`anon_fd`, an exported sync object) was made for that answer and is given up to the caller.
/// * Memory that it moves (migrates) holds the same bytes for every reader before, during and after.
///
/// Safe code can open a node, but not make it write anywhere:
///
/// ```compile_fail,E0133
/// # use drm_pagemap::channel::VirtualNode;
/// fn anywhere(node: &dyn VirtualNode, query: &mut [u8]) {
///     let _ = node.ioctl(0xc028_6440, query); // an address is in there
/// }
/// ```
pub unsafe trait VirtualNode: Send + Sync + fmt::Debug {
    /// Answers one ioctl.
    ///
    /// # Errors
    ///
    /// The errno that the driver would give.
    ///
    /// # Safety
    ///
    /// Those of [`Channel::call_sized`], through which calls are made: `arg` is as long as the request's size field says, and
    /// every address in it, and in memory reachable from it, that the driver may write to is valid for such writes until the
    /// driver is done with it.
    unsafe fn ioctl(&self, request: u32, arg: &mut [u8]) -> Result<(), Errno>;

    /// Answers `mmap` of `len` bytes at `offset` of the device file: a descriptor and an offset into it to be mapped in the
    /// device's stead. The default has nothing to map.
    ///
    /// # Errors
    ///
    /// The errno that the driver would give; `ENODEV` by default.
    fn map(&self, offset: u64, len: u64) -> Result<(OwnedFd, u64), Errno> {
        let _ = (offset, len);
        Err(Errno::ENODEV)
    }

    /// A descriptor that stands for this open of the node where an ioctl takes a file number (`ACQUIRE_VM`, a preferred
    /// location on another device). The node recognises it by its inode. The default has none.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// What to call the node in messages, like a path.
    fn name(&self) -> String;
}

enum Endpoint {
    File { fd: OwnedFd, path: Option<PathBuf> },
    Virtual(Arc<dyn VirtualNode>),
}

/// An open device file, or a device in this process, that answers ioctls.
pub struct Channel {
    endpoint: Endpoint,
}

impl Channel {
    /// Opens a device file for reading and writing, close-on-exec.
    ///
    /// # Errors
    ///
    /// The errno of `open`, with the path in the reason.
    pub fn open(path: &Path) -> Result<Self> {
        let fd = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
            Error::from_errno("open", errno.into()).because(format!("cannot open {}", path.display()))
        })?;
        Ok(Self { endpoint: Endpoint::File { fd, path: Some(path.to_owned()) } })
    }

    /// Talks to a device file that is already open.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { endpoint: Endpoint::File { fd, path: None } }
    }

    /// Talks to a device in this process.
    #[must_use]
    pub fn to_virtual(node: Arc<dyn VirtualNode>) -> Self {
        Self { endpoint: Endpoint::Virtual(node) }
    }

    /// The descriptor whose number stands for this open in arguments of other ioctls: the device file itself, or what a
    /// device in this process gives out in its stead.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.endpoint {
            Endpoint::File { fd, .. } => Some(fd.as_fd()),
            Endpoint::Virtual(node) => node.descriptor(),
        }
    }

    /// Whether the far end is a device in this process.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        matches!(self.endpoint, Endpoint::Virtual(_))
    }

    /// What to call the far end in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.endpoint {
            Endpoint::File { path: Some(path), .. } => path.display().to_string(),
            Endpoint::File { fd, .. } => format!("fd {}", std::os::fd::AsRawFd::as_raw_fd(fd)),
            Endpoint::Virtual(node) => node.name(),
        }
    }

    /// A second channel to the same far end: a duplicated descriptor (same open file), or the same node.
    ///
    /// # Errors
    ///
    /// The errno of `fcntl(F_DUPFD_CLOEXEC)`.
    pub fn try_clone(&self) -> Result<Self> {
        let endpoint = match &self.endpoint {
            Endpoint::File { fd, path } => Endpoint::File {
                fd: rustix::io::fcntl_dupfd_cloexec(fd, 0)
                    .map_err(|errno| Error::from_errno("F_DUPFD_CLOEXEC", errno.into()))?,
                path: path.clone(),
            },
            Endpoint::Virtual(node) => Endpoint::Virtual(node.clone()),
        };
        Ok(Self { endpoint })
    }

    /// Makes the ioctl of `A`, repeating it as `retry` allows. Errors name the ioctl and carry the errno; the caller adds
    /// what the errno means for this call.
    ///
    /// # Errors
    ///
    /// Whatever the driver answers, with the kind that follows from the errno alone.
    ///
    /// # Safety
    ///
    /// Every address in `arg`, and in memory reachable from it, that the driver may write to must be valid for such writes
    /// until the driver is done with it, which may be after the call returns (fences).
    #[inline]
    pub unsafe fn call<A: IoctlArg>(&self, arg: &mut A, retry: Retry) -> Result<()> {
        // SAFETY: the buffer is the whole of `arg`, `A` is plain data of the size that `A::REQUEST` says (asserted where it
        // is defined), and the caller answers for addresses inside it.
        unsafe { self.send(A::NAME, A::REQUEST, bytemuck::bytes_of_mut(arg), retry) }
    }

    /// Makes an ioctl whose argument has a length known only at run time.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call); [`ErrorKind::InvalidArgument`] when the request's size field and the buffer disagree.
    ///
    /// # Safety
    ///
    /// As [`call`](Self::call).
    pub unsafe fn call_sized(
        &self,
        name: &'static str,
        request: u32,
        arg: &mut [u8],
        retry: Retry,
    ) -> Result<()> {
        if request_size(request) != arg.len() {
            return Err(wrong_size(name, request, arg.len()));
        }
        // SAFETY: `arg` is as long as the request says, and the caller answers for addresses inside it.
        unsafe { self.send(name, request, arg, retry) }
    }

    /// [`call_sized`](Self::call_sized) for a buffer whose length is known to be right.
    ///
    /// # Safety
    ///
    /// As [`call`](Self::call), and `arg` is as long as the request says.
    #[inline]
    pub(crate) unsafe fn send(
        &self,
        name: &'static str,
        request: u32,
        arg: &mut [u8],
        retry: Retry,
    ) -> Result<()> {
        let errno = match &self.endpoint {
            // SAFETY: our caller answers for the length and for addresses inside.
            Endpoint::File { fd, .. } => match unsafe { raw::ioctl(fd.as_fd(), request, arg) } {
                Ok(()) => return Ok(()),
                Err(errno) => errno.into(),
            },
            // SAFETY: as above.
            Endpoint::Virtual(node) => match unsafe { node.ioctl(request, arg) } {
                Ok(()) => return Ok(()),
                Err(errno) => errno,
            },
        };
        // SAFETY: as above.
        unsafe { self.send_again(name, request, arg, retry, errno) }
    }

    /// Goes on after a first attempt that ended with `errno`.
    ///
    /// # Safety
    ///
    /// As [`send`](Self::send).
    #[cold]
    unsafe fn send_again(
        &self,
        name: &'static str,
        request: u32,
        arg: &mut [u8],
        retry: Retry,
        errno: Errno,
    ) -> Result<()> {
        retry.go_on(name, errno, || match &self.endpoint {
            // SAFETY: our caller answers for the length and for addresses inside.
            Endpoint::File { fd, .. } => unsafe { raw::ioctl(fd.as_fd(), request, arg) }.map_err(Errno::from),
            // SAFETY: as above.
            Endpoint::Virtual(node) => unsafe { node.ioctl(request, arg) },
        })
    }

    /// Maps `len` bytes of the device at the offset that an ioctl gave out, shared, for reading and writing.
    ///
    /// # Errors
    ///
    /// The errno of `mmap`.
    pub fn map(&self, name: &'static str, offset: u64, len: usize) -> Result<DeviceMapping> {
        match &self.endpoint {
            Endpoint::File { fd, .. } => DeviceMapping::new(name, fd.as_fd(), offset, len),
            Endpoint::Virtual(node) => {
                let (fd, offset) =
                    node.map(offset, len as u64).map_err(|errno| Error::from_errno(name, errno))?;
                DeviceMapping::new(name, fd.as_fd(), offset, len)
            }
        }
    }
}

#[cold]
fn wrong_size(name: &'static str, request: u32, len: usize) -> Error {
    Error::new(ErrorKind::InvalidArgument, name)
        .because(format!("request {request:#x} promises {} bytes but {len} are there", request_size(request)))
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.name()).finish()
    }
}

#[cfg(test)]
mod tests;
