//! Sync objects of core DRM, binary and timeline.
//!
//! Made through the crate's own channel and not through drm-ffi, which needs a file descriptor to call: a simulated device
//! has none.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::device::Device;
use super::errors::{Meaning, explain, means};
use crate::channel::{ProcessGuard, Retry};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::uapi::IoctlArg;
use crate::uapi::drm::{
    DRM_SYNCOBJ_CREATE_SIGNALED, DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT, SyncobjArray, SyncobjCreate,
    SyncobjDestroy, SyncobjFdToHandle, SyncobjHandle, SyncobjHandleToFd, SyncobjQuery, SyncobjReset,
    SyncobjSignal, SyncobjTimelineArray, SyncobjTimelineSignal, SyncobjTimelineWait, SyncobjWait,
};

const SYNCOBJ: &[Meaning] = &[
    means(
        Errno::EINVAL,
        ErrorKind::InvalidArgument,
        "the sync object has no fence yet, or the descriptor is not one of a sync object",
        "submit first, or wait with for_submit",
    ),
    means(
        Errno::ENOENT,
        ErrorKind::NotFound,
        "the sync object does not exist",
        "use one of the same open file",
    ),
    means(Errno::ETIME, ErrorKind::TimedOut, "the sync object was not signalled in time", "wait longer"),
    means(
        Errno::EOPNOTSUPP,
        ErrorKind::Unsupported,
        "the driver has no sync objects, or no timelines",
        "use user fences",
    ),
];

/// A fence with a handle (`SYNCOBJ_CREATE`), destroyed on drop. As a timeline it holds a point that grows.
///
/// VMs in fault mode wait for sync objects where there is page-table work to delay, and never signal them.
#[doc(alias = "drm_syncobj_create")]
#[derive(Debug)]
pub struct Syncobj {
    device: Device,
    handle: u32,
    guard: ProcessGuard,
}

impl Syncobj {
    /// Creates a sync object, `signalled` or without a fence.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] (`EOPNOTSUPP`); [`ErrorKind::OutOfMemory`]; [`ErrorKind::DeviceLost`].
    pub fn create(device: &Device, signalled: bool) -> Result<Self> {
        let flags = if signalled { DRM_SYNCOBJ_CREATE_SIGNALED } else { 0 };
        let mut arg = SyncobjCreate { handle: 0, flags };
        // SAFETY: the argument holds no address.
        unsafe { device.channel().call(&mut arg, Retry::Always) }.map_err(|error| explain(error, SYNCOBJ))?;
        Self::own(device, arg.handle)
    }

    /// Takes a sync object that was exported by [`export`](Self::export), here or in another process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] (`EINVAL`) when `fd` is not a sync object; otherwise as [`create`](Self::create).
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE")]
    pub fn import(device: &Device, fd: BorrowedFd<'_>) -> Result<Self> {
        let mut arg = SyncobjFdToHandle(SyncobjHandle { fd: fd.as_raw_fd(), ..Default::default() });
        // SAFETY: the argument holds no address; the kernel takes a reference of its own on the file.
        unsafe { device.channel().call(&mut arg, Retry::Always) }.map_err(|error| explain(error, SYNCOBJ))?;
        Self::own(device, arg.0.handle)
    }

    fn own(device: &Device, handle: u32) -> Result<Self> {
        Ok(Self { device: device.clone(), handle, guard: ProcessGuard::current()? })
    }

    /// The driver's number for it, unique on the open file.
    #[must_use]
    pub const fn handle(&self) -> u32 {
        self.handle
    }

    /// A descriptor of the sync object, to be [imported](Self::import) elsewhere.
    ///
    /// # Errors
    ///
    /// `EMFILE`, [`ErrorKind::OutOfMemory`], [`ErrorKind::DeviceLost`].
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD")]
    pub fn export(&self) -> Result<OwnedFd> {
        self.guard.check(SyncobjHandleToFd::NAME)?;
        let mut arg = SyncobjHandleToFd(SyncobjHandle { handle: self.handle, fd: -1, ..Default::default() });
        // SAFETY: the argument holds no address.
        unsafe { self.device.channel().call(&mut arg, Retry::Always) }
            .map_err(|error| explain(error, SYNCOBJ))?;
        if arg.0.fd < 0 {
            return Err(Error::new(ErrorKind::Other, SyncobjHandleToFd::NAME)
                .because("the driver answered success without a descriptor"));
        }
        // SAFETY: the driver just made the descriptor for this call; nobody else knows its number.
        Ok(unsafe { OwnedFd::from_raw_fd(arg.0.fd) })
    }

    /// Takes the fence out: not signalled any more, point 0.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DeviceLost`].
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_RESET")]
    pub fn reset(&self) -> Result<()> {
        self.guard.check(SyncobjReset::NAME)?;
        let mut arg = SyncobjReset(self.array());
        // SAFETY: the kernel reads one handle from `self.handle`.
        unsafe { self.device.channel().call(&mut arg, Retry::Always) }
            .map_err(|error| explain(error, SYNCOBJ))
    }

    /// Signals it from the CPU.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DeviceLost`].
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_SIGNAL")]
    pub fn signal(&self) -> Result<()> {
        self.guard.check(SyncobjSignal::NAME)?;
        let mut arg = SyncobjSignal(self.array());
        // SAFETY: the kernel reads one handle from `self.handle`.
        unsafe { self.device.channel().call(&mut arg, Retry::Always) }
            .map_err(|error| explain(error, SYNCOBJ))
    }

    /// Signals point `point` of the timeline from the CPU.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] without timelines; [`ErrorKind::DeviceLost`].
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL")]
    pub fn signal_point(&self, point: u64) -> Result<()> {
        self.guard.check(SyncobjTimelineSignal::NAME)?;
        let mut arg = SyncobjTimelineSignal(SyncobjTimelineArray {
            handles: &raw const self.handle as u64,
            points: &raw const point as u64,
            count_handles: 1,
            flags: 0,
        });
        // SAFETY: the kernel reads one handle from `self.handle` and one point from `point`.
        unsafe { self.device.channel().call(&mut arg, Retry::Always) }
            .map_err(|error| explain(error, SYNCOBJ))
    }

    /// The point that the timeline has reached.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] without timelines; [`ErrorKind::DeviceLost`].
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_QUERY")]
    pub fn point(&self) -> Result<u64> {
        self.guard.check(SyncobjQuery::NAME)?;
        let mut point = 0u64;
        let mut arg = SyncobjQuery(SyncobjTimelineArray {
            handles: &raw const self.handle as u64,
            points: &raw mut point as u64,
            count_handles: 1,
            flags: 0,
        });
        // SAFETY: the kernel reads one handle from `self.handle` and writes one point to `point` during the call.
        unsafe { self.device.channel().call(&mut arg, Retry::Always) }
            .map_err(|error| explain(error, SYNCOBJ))?;
        Ok(point)
    }

    /// Waits until it is signalled, at the latest until `CLOCK_MONOTONIC` shows `deadline_ns`. With `for_submit`, waits for
    /// a fence to appear first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] (`ETIME`); [`ErrorKind::InvalidArgument`] (`EINVAL`) without a fence and `for_submit`.
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_WAIT")]
    pub fn wait(&self, deadline_ns: i64, for_submit: bool) -> Result<()> {
        self.guard.check(SyncobjWait::NAME)?;
        let mut arg = SyncobjWait {
            handles: &raw const self.handle as u64,
            timeout_nsec: deadline_ns,
            count_handles: 1,
            flags: wait_flags(for_submit),
            ..Default::default()
        };
        // The deadline is a point in time, so a repetition after a signal is the same wait.
        // SAFETY: the kernel reads one handle from `self.handle`.
        unsafe { self.device.channel().call(&mut arg, Retry::Interrupted) }
            .map_err(|error| explain(error, SYNCOBJ))
    }

    /// As [`wait`](Self::wait), for a point of the timeline.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); [`ErrorKind::Unsupported`] without timelines.
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT")]
    pub fn wait_point(&self, point: u64, deadline_ns: i64, for_submit: bool) -> Result<()> {
        self.guard.check(SyncobjTimelineWait::NAME)?;
        let mut arg = SyncobjTimelineWait {
            handles: &raw const self.handle as u64,
            points: &raw const point as u64,
            timeout_nsec: deadline_ns,
            count_handles: 1,
            flags: wait_flags(for_submit),
            ..Default::default()
        };
        // SAFETY: the kernel reads one handle from `self.handle` and one point from `point`.
        unsafe { self.device.channel().call(&mut arg, Retry::Interrupted) }
            .map_err(|error| explain(error, SYNCOBJ))
    }

    fn array(&self) -> SyncobjArray {
        SyncobjArray { handles: &raw const self.handle as u64, count_handles: 1, pad: 0 }
    }
}

const fn wait_flags(for_submit: bool) -> u32 {
    if for_submit { DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT } else { 0 }
}

impl Drop for Syncobj {
    fn drop(&mut self) {
        if !self.guard.is_owner() {
            return;
        }
        let mut arg = SyncobjDestroy { handle: self.handle, pad: 0 };
        // SAFETY: the argument holds no address. A failure leaves nothing to do: the handle goes with the open file.
        let _ = unsafe { self.device.channel().call(&mut arg, Retry::Always) };
    }
}
