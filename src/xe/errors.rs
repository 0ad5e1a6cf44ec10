//! From errno to [`Error`]: each call has a table of what its errnos mean; this file has what they mean everywhere.

use crate::error::{Errno, Error, ErrorKind};

/// What one errno means to one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meaning {
    pub(super) errno: Errno,
    pub(super) kind: ErrorKind,
    pub(super) reason: &'static str,
    pub(super) hint: &'static str,
}

pub(super) const fn means(
    errno: Errno,
    kind: ErrorKind,
    reason: &'static str,
    hint: &'static str,
) -> Meaning {
    Meaning { errno, kind, reason, hint }
}

/// What every xe ioctl can answer, from the dispatchers of DRM and xe (`xe_device.c`, `drm_ioctl.c`).
pub(super) const EVERYWHERE: &[Meaning] = &[
    means(
        Errno::ENODEV,
        ErrorKind::DeviceLost,
        "the device was unplugged or unbound from its driver",
        "open the device again when it is back",
    ),
    means(
        Errno::ECANCELED,
        ErrorKind::DeviceLost,
        "the driver declared the device wedged after an error it could not recover from",
        "look into the kernel log, then rebind the driver or reboot",
    ),
    means(
        Errno::ENOTTY,
        ErrorKind::Unsupported,
        "the file is not a DRM device",
        "open a render node (/dev/dri/renderD*)",
    ),
    means(
        Errno::EBADF,
        ErrorKind::InvalidArgument,
        "the file is not open",
        "open a render node (/dev/dri/renderD*)",
    ),
    means(
        Errno::EFAULT,
        ErrorKind::NotMapped,
        "an address that was passed to the driver is not mapped",
        "keep the memory that the call names mapped until it returns",
    ),
    means(
        Errno::ENOMEM,
        ErrorKind::OutOfMemory,
        "the kernel is out of memory",
        "free memory and repeat the call",
    ),
];

/// Adds to an error of the channel what its errno means to this call: `own` first, then what it means everywhere.
#[cold]
pub(super) fn explain(error: Error, own: &[Meaning]) -> Error {
    // A call that ran out of repetitions already says so, and its errno is not a refusal.
    if error.kind() == ErrorKind::TryAgain && matches!(error.errno(), Some(Errno::EINTR)) {
        return error;
    }
    let Some(errno) = error.errno() else { return error };
    match own.iter().chain(EVERYWHERE).find(|meaning| meaning.errno == errno) {
        Some(meaning) => error.of_kind(meaning.kind).because(meaning.reason).hint_is(meaning.hint),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meaning_of_the_call_goes_before_the_general_one() {
        let own = [means(Errno::ECANCELED, ErrorKind::Busy, "banned", "make a new one")];
        let error = explain(Error::from_errno("f", Errno::ECANCELED), &own);
        assert_eq!(
            (error.kind(), error.reason(), error.hint()),
            (ErrorKind::Busy, "banned", Some("make a new one"))
        );
        let error = explain(Error::from_errno("f", Errno::ENODEV), &own);
        assert_eq!(error.kind(), ErrorKind::DeviceLost);
        assert!(error.reason().contains("unplugged"));
        let error = explain(Error::from_errno("f", Errno::EDEADLK), &own);
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Other, Some(Errno::EDEADLK)));
    }
}
