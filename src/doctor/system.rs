//! Everything an examination asks of a machine.

use crate::channel::Channel;
use crate::error::{Errno, Result};

/// A machine as one process sees it. Paths are absolute.
///
/// [`ThisMachine`](super::ThisMachine) is the real one.
pub trait System {
    /// The content of a file.
    ///
    /// # Errors
    ///
    /// The errno of `open` or `read`.
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno>;

    /// The names in a directory, in any order, without `.` and `..`.
    ///
    /// # Errors
    ///
    /// The errno of `open` or `getdents`.
    fn list(&self, directory: &str) -> Result<Vec<String>, Errno>;

    /// The text of a symbolic link.
    ///
    /// # Errors
    ///
    /// The errno of `readlink`.
    fn link(&self, path: &str) -> Result<String, Errno>;

    /// Mode, owner and device number of a file, following symbolic links.
    ///
    /// # Errors
    ///
    /// The errno of `stat`.
    fn status(&self, path: &str) -> Result<FileStatus, Errno>;

    /// The access control list of a file (`system.posix_acl_access`), as the kernel stores it.
    ///
    /// # Errors
    ///
    /// The errno of `getxattr`; `ENODATA` when the file has none, `EOPNOTSUPP` when its file system knows none.
    fn acl(&self, path: &str) -> Result<Vec<u8>, Errno>;

    /// Opens a device file for reading and writing.
    ///
    /// # Errors
    ///
    /// The errno of `open`.
    fn open(&self, path: &str) -> Result<Channel, Errno>;

    /// The size of a page in bytes.
    fn page_size(&self) -> u64;

    /// Whether this process can read its own page map, and how.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    fn pagemap(&self) -> Result<PagemapAccess>;

    /// What `userfaultfd` gives this process.
    ///
    /// # Errors
    ///
    /// The errno of the system call, even when only faults of user mode are asked for.
    fn userfaultfd(&self) -> Result<UserfaultfdAccess, Errno>;
}

/// Who may use a file, and which device it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Major and minor number of a device file.
    pub device: Option<(u32, u32)>,
}

/// How a process can read its page map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagemapAccess {
    /// The kernel has the `PAGEMAP_SCAN` ioctl.
    pub scan: bool,
}

/// What `userfaultfd` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserfaultfdAccess {
    /// Faults taken in the kernel, that is, in system calls on the memory, are reported too and not only those of user mode.
    pub kernel_faults: bool,
    /// The `UFFD_FEATURE_*` that the kernel has.
    pub features: u64,
}
