//! User fences: completion told by a word in memory.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::mm::{MapFlags, ProtFlags};

use super::device::Device;
use super::errors::{Meaning, explain, means};
use super::exec_queue::ExecQueue;
use crate::channel::Retry;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::page_size;
use crate::uapi::xe::{
    DRM_XE_UFENCE_WAIT_FLAG_ABSTIME, DRM_XE_UFENCE_WAIT_OP_EQ, DRM_XE_UFENCE_WAIT_OP_GT,
    DRM_XE_UFENCE_WAIT_OP_GTE, DRM_XE_UFENCE_WAIT_OP_LT, DRM_XE_UFENCE_WAIT_OP_LTE,
    DRM_XE_UFENCE_WAIT_OP_NEQ, SyncEntry, WaitUserFence,
};

/// How long to wait. The driver counts in ticks of the kernel's clock (1 to 10 ms).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timeout {
    /// Look once.
    Poll,
    /// At most this long from now. Interruptions by signals do not prolong it.
    Within(Duration),
    /// Until `CLOCK_MONOTONIC` shows this many nanoseconds. One that has passed already still waits for a tick.
    Until {
        /// Nanoseconds on `CLOCK_MONOTONIC`.
        monotonic_ns: u64,
    },
    /// For ever.
    Never,
}

/// How the word in memory is compared with the value waited for; both are unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `memory == value`
    #[doc(alias = "DRM_XE_UFENCE_WAIT_OP_EQ")]
    Equal,
    /// `memory != value`
    #[doc(alias = "DRM_XE_UFENCE_WAIT_OP_NEQ")]
    NotEqual,
    /// `memory > value`
    #[doc(alias = "DRM_XE_UFENCE_WAIT_OP_GT")]
    Greater,
    /// `memory >= value`
    #[doc(alias = "DRM_XE_UFENCE_WAIT_OP_GTE")]
    GreaterOrEqual,
    /// `memory < value`
    #[doc(alias = "DRM_XE_UFENCE_WAIT_OP_LT")]
    Less,
    /// `memory <= value`
    #[doc(alias = "DRM_XE_UFENCE_WAIT_OP_LTE")]
    LessOrEqual,
}

impl Comparison {
    const fn raw(self) -> u16 {
        match self {
            Self::Equal => DRM_XE_UFENCE_WAIT_OP_EQ,
            Self::NotEqual => DRM_XE_UFENCE_WAIT_OP_NEQ,
            Self::Greater => DRM_XE_UFENCE_WAIT_OP_GT,
            Self::GreaterOrEqual => DRM_XE_UFENCE_WAIT_OP_GTE,
            Self::Less => DRM_XE_UFENCE_WAIT_OP_LT,
            Self::LessOrEqual => DRM_XE_UFENCE_WAIT_OP_LTE,
        }
    }
}

const WAIT: &[Meaning] = &[
    means(
        Errno::ETIME,
        ErrorKind::TimedOut,
        "the fence was not signalled in time",
        "wait longer, or look at Vm::faults",
    ),
    means(
        Errno::EIO,
        ErrorKind::DeviceLost,
        "the queue died before the fence was signalled",
        "ExecQueue::is_banned and Vm::faults say more; make a new queue",
    ),
    means(
        Errno::ENOENT,
        ErrorKind::NotFound,
        "the queue does not exist",
        "use a queue of the same open file",
    ),
    means(
        Errno::EINVAL,
        ErrorKind::InvalidArgument,
        "this kernel does not know the wait",
        "Linux 6.8 or newer",
    ),
    means(
        Errno::EFAULT,
        ErrorKind::NotMapped,
        "the fence's memory is not mapped",
        "keep it mapped while waiting",
    ),
];

/// A word in a page of its own that the driver or the GPU writes when an operation is complete.
///
/// It stands for one operation at a time and can be used again once that is complete. The page is shared memory, which never
/// migrates, and stays mapped until the word is written: dropping a fence that is still waited for leaks its page instead
/// of letting the kernel write to memory that has become something else. A fence whose queue died is never signalled: drop it and
/// make another.
#[doc(alias = "drm_xe_sync")]
#[derive(Debug)]
pub struct UserFence {
    page: NonNull<AtomicU64>,
    /// What the word holds when the latest operation is complete.
    value: u64,
}

// SAFETY: the page belongs to this value and is reached through an atomic only.
unsafe impl Send for UserFence {}
// SAFETY: as above; `&UserFence` gives out atomic loads.
unsafe impl Sync for UserFence {}

impl UserFence {
    /// A fence that nothing waits to signal, which counts as signalled.
    ///
    /// # Errors
    ///
    /// The errno of `mmap`.
    pub fn new() -> Result<Self> {
        Ok(Self { page: map_page()?, value: 0 })
    }

    /// Address of the word, for commands that wait for it or write it.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.page.as_ptr() as u64
    }

    /// What the word holds when the latest operation is complete.
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.value
    }

    /// Whether the latest operation is complete. No system call; what the operation wrote is visible when this is true.
    #[must_use]
    pub fn is_signalled(&self) -> bool {
        self.word().load(Ordering::Acquire) == self.value
    }

    /// Waits until the latest operation is complete (`WAIT_USER_FENCE`); without a system call if it is.
    ///
    /// With `queue`, the wait ends when that queue dies; without, a dead queue is waited for until the timeout.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] (`ETIME`); [`ErrorKind::DeviceLost`] (`EIO`, the queue died; or the device is gone);
    /// [`ErrorKind::NotFound`] (`ENOENT`, no such queue).
    pub fn wait(&self, device: &Device, timeout: Timeout, queue: Option<&ExecQueue>) -> Result<()> {
        if self.is_signalled() {
            return Ok(());
        }
        device.wait_user_fence(self.word(), Comparison::Equal, self.value, u64::MAX, timeout, queue)
    }

    /// The sync entry of the next operation.
    pub(super) fn arm(&mut self, call: &'static str) -> Result<SyncEntry> {
        if !self.is_signalled() {
            return Err(Error::new(ErrorKind::Busy, call)
                .because("the fence is still waiting for an earlier operation")
                .hint_is("wait for it first, or use one fence for each operation"));
        }
        self.value += 1;
        Ok(SyncEntry::user_fence(self.address(), self.value))
    }

    /// Takes the arming back when the driver did not accept the operation.
    pub(super) fn settle(&mut self, result: &Result<()>) {
        let Err(error) = result else { return };
        if error.errno() == Some(Errno::EOPNOTSUPP) {
            // The one failure after the operation was applied; whether the fence goes with it is the driver's affair. The
            // page is left to it.
            if let Ok(fresh) = map_page() {
                self.page = fresh;
                self.value = 0;
            }
            return;
        }
        self.value -= 1;
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the page is mapped for as long as `self` lives, zeroed by the kernel at first, aligned, and written by others
        // (the kernel, the GPU) in whole 64-bit words only.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for UserFence {
    fn drop(&mut self) {
        if !self.is_signalled() {
            return;
        }
        // SAFETY: the page is this value's own mapping; nobody writes to it any more, since the word of the latest operation
        // has arrived and there is one operation at a time.
        let _ = unsafe { rustix::mm::munmap(self.page.as_ptr().cast(), page_size() as usize) };
    }
}

fn map_page() -> Result<NonNull<AtomicU64>> {
    // SAFETY: a null hint lets the kernel choose free addresses, so no existing mapping is replaced.
    let page = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            page_size() as usize,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
        )
    };
    let page =
        page.map_err(|errno| Error::from_errno("mmap", errno.into()).because("no page for a fence"))?;
    NonNull::new(page.cast()).ok_or_else(|| {
        Error::new(ErrorKind::Other, "mmap").because("the kernel mapped the fence at address 0")
    })
}

impl Device {
    /// Waits until `word & mask` compares with `value & mask` as asked (`WAIT_USER_FENCE`, since kernel 6.8).
    ///
    /// Signals that interrupt the wait do not end it: it goes on with the time that remains.
    ///
    /// # Errors
    ///
    /// As [`UserFence::wait`].
    #[doc(alias = "drm_xe_wait_user_fence")]
    pub fn wait_user_fence(
        &self,
        word: &AtomicU64,
        comparison: Comparison,
        value: u64,
        mask: u64,
        timeout: Timeout,
        queue: Option<&ExecQueue>,
    ) -> Result<()> {
        let (timeout, flags) = match timeout {
            Timeout::Poll => (0, 0),
            Timeout::Within(duration) => (i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX), 0),
            Timeout::Until { monotonic_ns } => {
                (i64::try_from(monotonic_ns).unwrap_or(i64::MAX), DRM_XE_UFENCE_WAIT_FLAG_ABSTIME)
            }
            Timeout::Never => (-1, 0),
        };
        let mut arg = WaitUserFence {
            addr: word.as_ptr() as u64,
            op: comparison.raw(),
            flags,
            value,
            mask,
            timeout,
            exec_queue_id: queue.map_or(0, ExecQueue::id),
            ..Default::default()
        };
        loop {
            // The driver writes the remaining time into `arg` even when it is interrupted, so a repetition goes on with it.
            // SAFETY: the kernel reads the word and writes the argument only.
            match unsafe { self.channel().call(&mut arg, Retry::Interrupted) } {
                Ok(()) => return Ok(()),
                // However many signals arrive, the time is bounded by the caller, not by their number.
                Err(error) if error.errno() == Some(Errno::EINTR) => {}
                Err(error) => return Err(explain(error, WAIT)),
            }
        }
    }
}
