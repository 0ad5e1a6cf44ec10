//! When an interrupted call is simply made again.

use crate::error::{Errno, Error, ErrorKind, Result};

/// How often a call that was interrupted (`EINTR`) or asked to come back (`EAGAIN`) is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// Never: the caller decides, because a repetition would not be the same call (a wait with a relative timeout).
    Never,
    /// After `EINTR` only, up to [`Retry::LIMIT`] times: `EAGAIN` means something to the caller (a full queue).
    Interrupted,
    /// After `EINTR` and `EAGAIN`, up to [`Retry::LIMIT`] times, yielding the processor before each repetition: for calls
    /// that the driver unwinds completely, or that are idempotent.
    Always,
}

impl Retry {
    /// The most repetitions of one call. An interruption needs a signal, and `EAGAIN` from a driver a concurrent change of
    /// the process's mappings, so a call that gets this far is being starved and its caller should know.
    pub const LIMIT: u32 = 1000;

    const fn repeats(self, errno: Errno) -> bool {
        match errno {
            Errno::EINTR => !matches!(self, Self::Never),
            Errno::EAGAIN => matches!(self, Self::Always),
            _ => false,
        }
    }

    /// Makes `call` again after an attempt that ended with `errno`, until it succeeds, fails for good, or the limit is reached.
    pub(super) fn go_on(
        self,
        name: &'static str,
        mut errno: Errno,
        mut call: impl FnMut() -> Result<(), Errno>,
    ) -> Result<()> {
        let mut repetitions = 0;
        loop {
            if !self.repeats(errno) {
                return Err(Error::from_errno(name, errno));
            }
            if repetitions == Self::LIMIT {
                return Err(Error::new(ErrorKind::TryAgain, name)
                    .errno_is(errno)
                    .because(format!("still interrupted after {} attempts", Self::LIMIT + 1))
                    .hint_is("repeat the call when fewer signals arrive and fewer threads change the process's mappings"));
            }
            repetitions += 1;
            if errno == Errno::EAGAIN {
                std::thread::yield_now();
            }
            errno = match call() {
                Ok(()) => return Ok(()),
                Err(errno) => errno,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(retry: Retry, errno: Errno, failures: u32) -> (u32, Result<()>) {
        let mut made = 0;
        let mut attempt = || {
            made += 1;
            if made <= failures { Err(errno) } else { Ok(()) }
        };
        let result = match attempt() {
            Ok(()) => Ok(()),
            Err(errno) => retry.go_on("f", errno, attempt),
        };
        (made, result)
    }

    #[test]
    fn each_policy_repeats_what_it_says() {
        for (retry, errno, expected) in [
            (Retry::Never, Errno::EINTR, 1),
            (Retry::Never, Errno::EAGAIN, 1),
            (Retry::Interrupted, Errno::EINTR, 4),
            (Retry::Interrupted, Errno::EAGAIN, 1),
            (Retry::Always, Errno::EINTR, 4),
            (Retry::Always, Errno::EAGAIN, 4),
            (Retry::Always, Errno::EINVAL, 1),
        ] {
            let (made, result) = attempts(retry, errno, 3);
            assert_eq!(made, expected, "{retry:?} {errno}");
            assert_eq!(result.is_ok(), expected == 4, "{retry:?} {errno}");
        }
    }

    #[test]
    fn the_limit_ends_a_starved_call_with_its_errno() {
        let (made, result) = attempts(Retry::Always, Errno::EAGAIN, u32::MAX);
        let error = result.unwrap_err();
        assert_eq!(made, Retry::LIMIT + 1);
        assert_eq!((error.kind(), error.errno()), (ErrorKind::TryAgain, Some(Errno::EAGAIN)));
        let (made, result) = attempts(Retry::Always, Errno::EINTR, Retry::LIMIT);
        assert_eq!((made, result.is_ok()), (Retry::LIMIT + 1, true));
    }
}
