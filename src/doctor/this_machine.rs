//! The machine this process runs on.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::mm::UserfaultfdFlags;

use super::system::{FileStatus, PagemapAccess, System, UserfaultfdAccess};
use crate::channel::{Channel, Retry};
use crate::error::{Errno, Result};
use crate::residency::Scanner;
use crate::uapi::userfaultfd::{UFFD_API, UFFD_USER_MODE_ONLY, UffdioApi};

const USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(UFFD_USER_MODE_ONLY);

/// The machine this process runs on, with the rights this process has.
#[derive(Clone, Debug)]
pub struct ThisMachine {
    root: PathBuf,
}

impl Default for ThisMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl ThisMachine {
    /// The machine as this process sees it.
    #[must_use]
    pub fn new() -> Self {
        Self::below("/")
    }

    /// The same process, with every file taken from below `root` instead of `/`: a copy of another machine's `/proc`, `/sys`
    /// and `/dev`. What is no file (page size, page map, userfaultfd) is still that of this process.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

impl System for ThisMachine {
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        std::fs::read(self.path(path)).map_err(|error| errno(&error))
    }

    fn list(&self, directory: &str) -> Result<Vec<String>, Errno> {
        let entries = std::fs::read_dir(self.path(directory)).map_err(|error| errno(&error))?;
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).map_err(|error| errno(&error))
        };
        entries.map(name).collect()
    }

    fn link(&self, path: &str) -> Result<String, Errno> {
        let target = std::fs::read_link(self.path(path)).map_err(|error| errno(&error))?;
        Ok(target.to_string_lossy().into_owned())
    }

    fn status(&self, path: &str) -> Result<FileStatus, Errno> {
        let stat = rustix::fs::stat(self.path(path))?;
        let is_device = matches!(
            rustix::fs::FileType::from_raw_mode(stat.st_mode),
            rustix::fs::FileType::CharacterDevice | rustix::fs::FileType::BlockDevice
        );
        let device = is_device.then(|| (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)));
        Ok(FileStatus { mode: stat.st_mode, uid: stat.st_uid, gid: stat.st_gid, device })
    }

    fn acl(&self, path: &str) -> Result<Vec<u8>, Errno> {
        // 500 entries; longer lists answer ERANGE.
        let mut list = vec![0; 4 + 500 * 8];
        let len = rustix::fs::getxattr(self.path(path), "system.posix_acl_access", list.as_mut_slice())?;
        list.truncate(len);
        Ok(list)
    }

    fn open(&self, path: &str) -> Result<Channel, Errno> {
        Channel::open(&self.path(path)).map_err(|error| error.errno().unwrap_or(Errno::EIO))
    }

    fn page_size(&self) -> u64 {
        crate::range::page_size()
    }

    fn pagemap(&self) -> Result<PagemapAccess> {
        let scanner = Scanner::new()?;
        Ok(PagemapAccess { scan: scanner.support().pagemap_scan() })
    }

    fn userfaultfd(&self) -> Result<UserfaultfdAccess, Errno> {
        let (fd, kernel_faults) = match userfaultfd(UserfaultfdFlags::CLOEXEC) {
            Ok(fd) => (fd, true),
            Err(Errno::EPERM) => {
                let fd = userfaultfd(UserfaultfdFlags::CLOEXEC | USER_MODE_ONLY)?;
                (fd, self.open("/dev/userfaultfd").is_ok())
            }
            Err(other) => return Err(other),
        };
        let mut api = UffdioApi { api: UFFD_API, ..UffdioApi::default() };
        let channel = Channel::from_fd(fd);
        // SAFETY: the kernel reads and writes the argument only, which holds no address.
        let answer = unsafe { channel.call(&mut api, Retry::Interrupted) };
        answer.map_err(|error| error.errno().unwrap_or(Errno::EIO))?;
        Ok(UserfaultfdAccess { kernel_faults, features: api.features })
    }
}

fn userfaultfd(flags: UserfaultfdFlags) -> Result<OwnedFd, Errno> {
    // SAFETY: a descriptor on which no range is ever registered observes and changes no memory.
    unsafe { rustix::mm::userfaultfd(flags) }.map_err(Errno::from)
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_below_another_root_is_read_in_its_place() {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc/sys");
        std::fs::create_dir_all(&proc).unwrap();
        std::fs::write(proc.join("osrelease"), "6.18.15\n").unwrap();
        std::os::unix::fs::symlink("../drivers/xe", proc.join("driver")).unwrap();
        let machine = ThisMachine::below(root.path());
        assert_eq!(machine.read("/proc/sys/osrelease").unwrap(), b"6.18.15\n");
        assert_eq!(machine.link("/proc/sys/driver").unwrap(), "../drivers/xe");
        let mut names = machine.list("/proc/sys").unwrap();
        names.sort();
        assert_eq!(names, ["driver", "osrelease"]);
        let status = machine.status("/proc/sys/osrelease").unwrap();
        assert_eq!((status.uid, status.device), (rustix::process::geteuid().as_raw(), None));
        assert_eq!(machine.read("/proc/nothing"), Err(Errno::ENOENT));
        assert_eq!(machine.list("/proc/sys/osrelease"), Err(Errno::ENOTDIR));
        assert_eq!(machine.open("/dev/dri/renderD128").unwrap_err(), Errno::ENOENT);
    }

    #[test]
    fn a_device_file_has_its_numbers() {
        let null = ThisMachine::new().status("/dev/null").unwrap();
        assert_eq!((null.device, null.mode & 0o170_000), (Some((1, 3)), 0o020_000));
    }

    #[test]
    fn userfaultfd_answers_or_says_why_not() {
        // Containers forbid it by seccomp (EPERM), kernels lack it (ENOSYS).
        match ThisMachine::new().userfaultfd() {
            Ok(access) => assert_ne!(access.features, 0),
            Err(errno) => assert!(matches!(errno, Errno::EPERM | Errno::ENOSYS), "{errno}"),
        }
    }
}
