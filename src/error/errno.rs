//! The kernel's error numbers as a newtype: unknown numbers are representable, known ones have names.

use std::fmt;

/// An error number of the kernel, as a positive number.
///
/// A newtype and not an enum, so that a number this crate has never heard of is kept and shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(i32);

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = concat!($text, " (", stringify!($value), ").")] pub const $name: Self = Self($value);)*

            /// The C name, for the numbers this crate's calls are known to answer with.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// What the C library's `strerror` says in essence, for the numbers that have a name here.
            #[must_use]
            pub const fn description(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

// The numbers of the kernel's generic table (x86-64, arm64, riscv64, loongarch64, powerpc64 up to EHWPOISON).
errnos! {
    EPERM = 1, "operation not permitted";
    ENOENT = 2, "no such object";
    ESRCH = 3, "no such process";
    EINTR = 4, "interrupted";
    EIO = 5, "input/output error";
    ENXIO = 6, "no such device or address";
    E2BIG = 7, "argument list too long";
    ENOEXEC = 8, "not in an executable format";
    EBADF = 9, "bad file descriptor";
    EAGAIN = 11, "try again";
    ENOMEM = 12, "out of memory";
    EACCES = 13, "permission denied";
    EFAULT = 14, "bad address";
    EBUSY = 16, "busy";
    EEXIST = 17, "already exists";
    ENODEV = 19, "no such device";
    ENOTDIR = 20, "not a directory";
    EINVAL = 22, "invalid argument";
    ENFILE = 23, "too many open files in the system";
    EMFILE = 24, "too many open files";
    ENOTTY = 25, "no such ioctl";
    ENOSPC = 28, "no space left on the device";
    ERANGE = 34, "out of range";
    EDEADLK = 35, "deadlock avoided";
    ENOSYS = 38, "no such system call";
    ENODATA = 61, "no data available";
    ETIME = 62, "timer expired";
    ENOLINK = 67, "no link";
    EOVERFLOW = 75, "value too large";
    EOPNOTSUPP = 95, "operation not supported";
    EADDRINUSE = 98, "address in use";
    ENOBUFS = 105, "no buffer space";
    ETIMEDOUT = 110, "timed out";
    EALREADY = 114, "already in progress";
    ECANCELED = 125, "cancelled";
    EHWPOISON = 133, "memory page has a hardware error";
    ENOTSUPP = 524, "operation not supported (kernel-internal number)";
}

impl Errno {
    /// From a positive number as the kernel and the C library give it.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Self {
        Self(raw)
    }

    /// The positive number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn numbers_agree_with_the_system_library() {
        use rustix::io::Errno as Sys;
        for (ours, theirs) in [
            (Errno::EINTR, Sys::INTR),
            (Errno::EINVAL, Sys::INVAL),
            (Errno::ENODATA, Sys::NODATA),
            (Errno::ETIME, Sys::TIME),
            (Errno::ENOLINK, Sys::NOLINK),
            (Errno::EOVERFLOW, Sys::OVERFLOW),
            (Errno::EOPNOTSUPP, Sys::OPNOTSUPP),
            (Errno::EADDRINUSE, Sys::ADDRINUSE),
            (Errno::ENOBUFS, Sys::NOBUFS),
            (Errno::ECANCELED, Sys::CANCELED),
            (Errno::EDEADLK, Sys::DEADLK),
            (Errno::EHWPOISON, Sys::HWPOISON),
        ] {
            assert_eq!(ours, Errno::from(theirs));
        }
    }

    #[test]
    fn unknown_numbers_are_kept_and_shown() {
        assert_eq!(Errno::from_raw(999).to_string(), "errno 999");
        assert_eq!(Errno::ENOTSUPP.to_string(), "ENOTSUPP (524)");
    }
}
