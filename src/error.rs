//! What every fallible call of this crate returns.
//!
//! An [`Error`] answers four questions: which call failed, over which addresses, why, and what to try. The `errno` of
//! the kernel is kept when there was one, so that code can be as exact as it likes; [`Error::kind`] is the coarse,
//! stable answer for control flow.

use std::borrow::Cow;
use std::fmt;

use crate::range::{PageRange, RangeError};

mod errno;

pub use errno::Errno;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The coarse class of an [`Error`], for control flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is outside what the call accepts; the same call can never succeed.
    InvalidArgument,
    /// The kernel, the driver or the device lacks the operation.
    Unsupported,
    /// The caller may not do this (file mode, group, cgroup, capability, seccomp).
    PermissionDenied,
    /// The object named by the call does not exist (any more).
    NotFound,
    /// Some of the range is not mapped in this process, or not in a way that the device can use.
    NotMapped,
    /// The memory is of a kind the operation refuses (read-only, file-backed, device memory).
    MemoryKind,
    /// Something else holds the object or the addresses; may succeed later.
    Busy,
    /// The addresses are taken by another mapping of the device's address space.
    AddressInUse,
    /// The bounded number of retries is used up; the call may be repeated.
    TryAgain,
    /// System memory is exhausted, or a limit on it is reached.
    OutOfMemory,
    /// Device memory is exhausted.
    OutOfVram,
    /// The driver could not put the pages where they were asked to be; data is intact where it was.
    BestEffortFailed,
    /// No fast path connects the two devices.
    NoInterconnect,
    /// The device was removed, was reset, is wedged, or its queue is banned.
    DeviceLost,
    /// A deadline passed.
    TimedOut,
    /// The request was cancelled before it was done.
    Cancelled,
    /// The object belongs to another process (it was inherited over `fork`).
    ForeignProcess,
    /// Anything else; the errno says what.
    Other,
}

impl ErrorKind {
    /// The class an errno falls into when nothing more is known about the call.
    #[must_use]
    pub fn of(errno: Errno) -> Self {
        match errno {
            Errno::EINVAL | Errno::E2BIG | Errno::EOVERFLOW | Errno::ERANGE | Errno::EBADF => {
                Self::InvalidArgument
            }
            Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::ENOSYS | Errno::ENOTSUPP => Self::Unsupported,
            Errno::EPERM | Errno::EACCES => Self::PermissionDenied,
            Errno::ENOENT | Errno::ESRCH => Self::NotFound,
            Errno::EFAULT => Self::NotMapped,
            Errno::EBUSY => Self::Busy,
            Errno::EADDRINUSE => Self::AddressInUse,
            Errno::EINTR | Errno::EAGAIN => Self::TryAgain,
            Errno::ENOMEM | Errno::ENOBUFS | Errno::EMFILE | Errno::ENFILE => Self::OutOfMemory,
            Errno::ENOSPC => Self::OutOfVram,
            Errno::ENODATA => Self::BestEffortFailed,
            Errno::ENOLINK => Self::NoInterconnect,
            Errno::ENODEV | Errno::ECANCELED | Errno::EIO => Self::DeviceLost,
            Errno::ETIME | Errno::ETIMEDOUT => Self::TimedOut,
            _ => Self::Other,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::InvalidArgument => "an argument was refused",
            Self::Unsupported => "the kernel, driver or device does not offer this",
            Self::PermissionDenied => "not permitted",
            Self::NotFound => "no such object",
            Self::NotMapped => "part of the range is not mapped",
            Self::MemoryKind => "the memory is of a kind this operation refuses",
            Self::Busy => "busy",
            Self::AddressInUse => "the addresses are taken by another device mapping",
            Self::TryAgain => "interrupted again and again",
            Self::OutOfMemory => "out of system memory",
            Self::OutOfVram => "out of device memory",
            Self::BestEffortFailed => "the pages could not be moved",
            Self::NoInterconnect => "no fast path between the two devices",
            Self::DeviceLost => "the device is gone",
            Self::TimedOut => "timed out",
            Self::Cancelled => "cancelled",
            Self::ForeignProcess => "the object belongs to another process",
            Self::Other => "failed",
        }
    }
}

/// Why a call failed, over which addresses, and what to try.
///
/// One pointer wide, so that `Result<()>` stays in a register; nothing is allocated unless something failed.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    call: &'static str,
    errno: Option<Errno>,
    range: Option<PageRange>,
    reason: Option<Cow<'static, str>>,
    hint: Option<Cow<'static, str>>,
}

impl Error {
    /// An error of `kind` from `call` (the C name of the ioctl or system call, or the Rust function that refused).
    #[must_use]
    #[cold]
    pub fn new(kind: ErrorKind, call: &'static str) -> Self {
        Self(Box::new(Inner { kind, call, errno: None, range: None, reason: None, hint: None }))
    }

    /// An error whose kind follows from the errno alone.
    #[must_use]
    #[cold]
    pub fn from_errno(call: &'static str, errno: Errno) -> Self {
        Self::new(ErrorKind::of(errno), call).errno_is(errno)
    }

    /// Records the errno.
    #[must_use]
    pub fn errno_is(mut self, errno: Errno) -> Self {
        self.0.errno = Some(errno);
        self
    }

    /// Replaces the kind, where the call gives the errno a meaning of its own.
    #[must_use]
    pub fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Records the addresses the call was about.
    #[must_use]
    pub fn over(mut self, range: PageRange) -> Self {
        self.0.range = Some(range);
        self
    }

    /// Says why, in words for people. No full stop at the end.
    #[must_use]
    pub fn because(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.0.reason = Some(reason.into());
        self
    }

    /// Says what to try, in words for people. No full stop at the end.
    #[must_use]
    pub fn hint_is(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The coarse class, for control flow.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The call that failed: the C name of an ioctl or system call, or the function that refused.
    #[must_use]
    pub fn call(&self) -> &'static str {
        self.0.call
    }

    /// The kernel's errno, when the kernel was asked.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }

    /// The addresses the call was about.
    #[must_use]
    pub fn range(&self) -> Option<PageRange> {
        self.0.range
    }

    /// Why, in words.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or_else(|| self.0.kind.reason())
    }

    /// What to try, in words, when something is known to help.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.call)?;
        if let Some(range) = self.0.range {
            write!(f, " over {range}")?;
        }
        write!(f, ": {}", self.reason())?;
        if let Some(errno) = self.0.errno {
            write!(f, " ({errno})")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "; try: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("call", &self.0.call)
            .field("errno", &self.0.errno)
            .field("range", &self.0.range)
            .field("reason", &self.reason())
            .field("hint", &self.0.hint)
            .finish()
    }
}

impl std::error::Error for Error {}

impl From<RangeError> for Error {
    #[cold]
    fn from(error: RangeError) -> Self {
        Self::new(ErrorKind::InvalidArgument, "PageRange")
            .because(error.to_string())
            .hint_is("PageRange::covering and PageRange::rounded_out round outward to whole pages")
    }
}

/// Maps the kind; the [`Error`] itself travels inside and can be taken out with `get_ref` and a downcast.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            ErrorKind::InvalidArgument => Io::InvalidInput,
            ErrorKind::Unsupported => Io::Unsupported,
            ErrorKind::PermissionDenied => Io::PermissionDenied,
            ErrorKind::NotFound => Io::NotFound,
            ErrorKind::Busy => Io::ResourceBusy,
            ErrorKind::AddressInUse => Io::AddrInUse,
            ErrorKind::TryAgain => Io::WouldBlock,
            ErrorKind::OutOfMemory => Io::OutOfMemory,
            ErrorKind::TimedOut => Io::TimedOut,
            _ => Io::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_call_range_reason_errno_and_cure() {
        let page = crate::range::page_size();
        let range = PageRange::new(16 * page, page).unwrap();
        let error = Error::from_errno("DRM_IOCTL_XE_VM_BIND", Errno::EPERM)
            .over(range)
            .because("a page of the range is mapped read-only")
            .hint_is("prefetch writable memory only");
        assert_eq!(
            error.to_string(),
            format!(
                "DRM_IOCTL_XE_VM_BIND over {range}: a page of the range is mapped read-only (EPERM (1)); try: prefetch writable memory only"
            )
        );
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(error.errno(), Some(Errno::EPERM));
    }

    #[test]
    fn an_error_without_reason_still_says_something() {
        assert_eq!(Error::new(ErrorKind::Busy, "f").to_string(), "f: busy");
    }

    #[test]
    fn io_error_keeps_kind_and_text() {
        let io: std::io::Error = Error::from_errno("f", Errno::EBUSY).into();
        assert_eq!(io.kind(), std::io::ErrorKind::ResourceBusy);
        assert!(io.to_string().contains("EBUSY (16)"));
        let inner = io.get_ref().and_then(|e| e.downcast_ref::<Error>()).unwrap();
        assert_eq!(inner.errno(), Some(Errno::EBUSY));
    }

    #[test]
    fn a_result_is_one_pointer() {
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }
}
