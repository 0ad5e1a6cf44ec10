//! What errnos mean that every KFD call can answer.

use crate::error::{Errno, Error, ErrorKind};

/// Adds what two errnos mean to every KFD call.
pub(super) fn foreign(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EBADF) => error
            .of_kind(ErrorKind::ForeignProcess)
            .because("the open /dev/kfd belongs to another process")
            .hint_is("open /dev/kfd again in this process"),
        _ => error,
    }
}
