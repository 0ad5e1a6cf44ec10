//! What a space can do.

use crate::uapi::userfaultfd::UFFD_FEATURE_MOVE;

/// Whether the kernel's own touches of device pages are to be resolved.
///
/// When a system call reads or writes a buffer that is in device memory (`write`, `read`, `process_vm_readv`, `futex`),
/// a real device's pages come back as for any other touch. Here that takes a privilege.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelTouch {
    /// No: such a system call fails with `EFAULT`. Needs no privilege.
    #[default]
    Never,
    /// If it is permitted. [`Capabilities::kernel_touch`] tells.
    IfPermitted,
    /// Yes, or the space cannot be opened. Takes `CAP_SYS_PTRACE`, access to `/dev/userfaultfd`, or the sysctl
    /// `vm.unprivileged_userfaultfd`.
    Required,
}

/// What a space can do on this kernel, with these permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// System calls on device pages bring them back. Otherwise they fail with `EFAULT`: the one visible difference from a
    /// real device.
    pub kernel_touch: bool,
    /// Forks that bypass the C library are noticed, and the child gets its copy of what the device has. Forks
    /// through the C library are always dealt with.
    pub fork_events: bool,
    /// [`Space::watch`](super::Space::watch) works (the architecture can write-protect with userfaultfd).
    pub watch: bool,
}

pub(crate) fn missing_move(features: u64) -> &'static str {
    if features & UFFD_FEATURE_MOVE != 0 { " (UFFDIO_MOVE among them)" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_move_is_named() {
        assert!(missing_move(UFFD_FEATURE_MOVE).contains("UFFDIO_MOVE"));
        assert!(missing_move(u64::MAX).contains("UFFDIO_MOVE"));
        for others in [0, UFFD_FEATURE_MOVE >> 1, !UFFD_FEATURE_MOVE] {
            assert_eq!(missing_move(others), "", "{others:#x}");
        }
    }
}
