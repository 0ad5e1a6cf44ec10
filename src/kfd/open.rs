//! Opening `/dev/kfd`, with a cure for each way it fails.

use std::path::Path;

use crate::channel::Channel;
use crate::error::{Errno, Error, ErrorKind, Result};

/// Where the kernel puts KFD's device node.
pub const DEVICE: &str = "/dev/kfd";

/// Opens `/dev/kfd`.
///
/// # Errors
///
/// As [`open`].
pub fn open_device() -> Result<Channel> {
    open(Path::new(DEVICE))
}

/// Opens a KFD device node.
///
/// # Errors
///
/// | errno | kind | meaning |
/// |---|---|---|
/// | `ENOENT` | [`NotFound`](ErrorKind::NotFound) | amdgpu is not loaded, or the container lacks the node |
/// | `ENXIO`, `ENODEV` | [`Unsupported`](ErrorKind::Unsupported) | the node is there but no driver is behind it |
/// | `EACCES` | [`PermissionDenied`](ErrorKind::PermissionDenied) | the file mode: usually group `render` |
/// | `EPERM` | [`PermissionDenied`](ErrorKind::PermissionDenied) | the container's device cgroup, or a 32-bit process |
/// | `EINVAL` | [`NotFound`](ErrorKind::NotFound) | no GPU is visible to this process (newer kernels), or a GPU is being reset |
/// | `ENOMEM` | [`OutOfMemory`](ErrorKind::OutOfMemory) | the kernel could not make the process's state |
pub fn open(path: &Path) -> Result<Channel> {
    Channel::open(path).map_err(|error| match error.errno() {
        Some(errno) => diagnose(error, errno, path),
        None => error,
    })
}

fn diagnose(error: Error, errno: Errno, path: &Path) -> Error {
    let path = path.display();
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => error
            .of_kind(ErrorKind::NotFound)
            .because(format!("{path} does not exist"))
            .hint_is("load amdgpu; in a container, pass the device in (--device /dev/kfd --device /dev/dri)"),
        Errno::ENXIO | Errno::ENODEV => error
            .of_kind(ErrorKind::Unsupported)
            .because(format!("no driver answers behind {path}"))
            .hint_is("load amdgpu, built with CONFIG_HSA_AMD"),
        Errno::EACCES => error
            .because(format!("the mode of {path} does not allow this user"))
            .hint_is("add the user to the group that owns the node (usually render) and log in again"),
        Errno::EPERM => error
            .because(format!("the device cgroup denies {path}, or this is a 32-bit process"))
            .hint_is("allow the device in the container's configuration"),
        Errno::EINVAL => error
            .of_kind(ErrorKind::NotFound)
            .because("no GPU that KFD supports is visible to this process, or a GPU is being reset")
            .hint_is(
                "in a container, pass the render nodes in (--device /dev/dri); after a reset, try again",
            ),
        Errno::ENOMEM => error.because("the kernel lacks memory for the process's KFD state"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnosed(errno: Errno) -> Error {
        diagnose(Error::from_errno("open", errno), errno, Path::new(DEVICE))
    }

    #[test]
    fn each_errno_of_open_is_told_apart_and_has_a_cure() {
        for (errno, kind, word) in [
            (Errno::ENOENT, ErrorKind::NotFound, "amdgpu"),
            (Errno::ENXIO, ErrorKind::Unsupported, "CONFIG_HSA_AMD"),
            (Errno::ENODEV, ErrorKind::Unsupported, "CONFIG_HSA_AMD"),
            (Errno::EACCES, ErrorKind::PermissionDenied, "render"),
            (Errno::EPERM, ErrorKind::PermissionDenied, "container"),
            (Errno::EINVAL, ErrorKind::NotFound, "render nodes"),
        ] {
            let error = diagnosed(errno);
            assert_eq!((error.kind(), error.errno()), (kind, Some(errno)));
            assert!(error.hint().unwrap().contains(word), "{error}");
        }
        assert_eq!(diagnosed(Errno::ENOMEM).kind(), ErrorKind::OutOfMemory);
        assert_eq!(diagnosed(Errno::EMFILE).errno(), Some(Errno::EMFILE));
    }

    #[test]
    fn a_missing_node_names_itself() {
        let error = open(Path::new("/dev/no-such-kfd")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.reason().contains("/dev/no-such-kfd"), "{error}");
    }
}
