//! What is mapped where in this process, and whether a device can have it.

use std::os::fd::{AsFd, OwnedFd};

use super::engine::arena::ArenaVec;
use crate::error::{Errno, Error, Result};
use crate::procmaps::{self, Entry, Lines, read_at};
use crate::range::PageRange;

/// One mapping of this process, as the kernel lists it.
///
/// The kernel lists what it keeps apart: two mappings that touch may have been made by one `mmap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vma {
    /// Its addresses.
    pub range: PageRange,
    /// `PROT_READ`.
    pub readable: bool,
    /// `PROT_WRITE`.
    pub writable: bool,
    /// `PROT_EXEC`.
    pub executable: bool,
    /// `MAP_SHARED`.
    pub shared: bool,
    /// What is behind it.
    pub backing: Backing,
}

/// What is behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// Nothing: anonymous memory.
    Anonymous,
    /// The main thread's stack.
    Stack,
    /// A file, a device, or shared memory.
    File,
    /// Huge pages that were set aside (hugetlbfs).
    Hugetlb,
    /// The kernel's own pages (`[vdso]`, `[vvar]`).
    Special,
}

impl Vma {
    fn of(entry: &Entry<'_>) -> Self {
        let &Entry { range, readable, writable, executable, shared, .. } = entry;
        Self { range, readable, writable, executable, shared, backing: backing(entry) }
    }

    /// Why pages of this mapping cannot be moved to a device, if that can be told from here.
    pub(crate) fn refusal(&self, kernel_touch: bool) -> Option<(Errno, &'static str)> {
        match self.backing {
            Backing::Hugetlb => Some((Errno::EINVAL, "hugetlb memory does not migrate")),
            Backing::Special => Some((Errno::EINVAL, "the kernel's own pages do not migrate")),
            _ if self.shared => Some((Errno::EBUSY, "shared memory does not migrate")),
            Backing::File => Some((Errno::EBUSY, "file-backed memory does not migrate")),
            _ if !self.writable || !self.readable => {
                Some((Errno::EPERM, "the memory is not readable and writable"))
            }
            _ if self.executable => Some((Errno::EINVAL, "executable memory does not migrate")),
            Backing::Stack if !kernel_touch => {
                Some((Errno::EBUSY, "the kernel writes to stacks, and its touches are not reported here"))
            }
            _ => None,
        }
    }
}

/// Looks mappings up.
#[derive(Debug)]
pub(crate) struct Maps(procmaps::Maps);

impl Maps {
    pub(crate) fn open() -> Result<Self> {
        procmaps::Maps::open().map(Self).map_err(|errno| not_opened("/proc/self/maps", errno))
    }

    /// The mapping that covers `at`, or else the next one above it.
    pub(crate) fn at_or_after(&self, at: u64) -> Result<Option<Vma>> {
        self.0.at_or_after(at, buffer, Vma::of).map_err(|errno| Error::from_errno("PROCMAP_QUERY", errno))
    }
}

/// Room for lines that cannot be on the device: the kernel would refuse to write there.
fn buffer() -> Result<ArenaVec<u8>, Errno> {
    ArenaVec::zeroed(64 << 10)
}

/// The `VmFlags` of the mapping at `at`, from `/proc/self/smaps`: the words the kernel has for what the list does not show.
pub(crate) fn vm_flags(at: u64) -> Result<Vec<[u8; 2]>> {
    let file = open_proc("/proc/self/smaps")?;
    let buffer = buffer().map_err(|errno| Error::from_errno("mmap", errno))?;
    let mut lines = Lines::new(buffer);
    let mut inside = false;
    let mut next = || -> Result<Option<Vec<[u8; 2]>>, Errno> {
        while let Some(line) = lines.next(|offset, buffer| read_at(file.as_fd(), buffer, offset))? {
            if let Some(entry) = Entry::parse(line) {
                inside = entry.range.contains(at);
            } else if let (true, Some(flags)) = (inside, procmaps::vm_flags(line)) {
                return Ok(Some(flags.collect()));
            }
        }
        Ok(None)
    };
    next().map(Option::unwrap_or_default).map_err(|errno| Error::from_errno("read", errno))
}

pub(crate) fn open_proc(path: &'static str) -> Result<OwnedFd> {
    procmaps::open(path).map_err(|errno| not_opened(path, errno))
}

fn not_opened(path: &'static str, errno: Errno) -> Error {
    Error::from_errno("open", errno)
        .because(format!("{path} cannot be opened"))
        .hint_is("mount /proc; a process that changed its user must be dumpable (PR_SET_DUMPABLE)")
}

fn backing(entry: &Entry<'_>) -> Backing {
    match entry.name {
        _ if entry.hugetlb => Backing::Hugetlb,
        _ if entry.file => Backing::File,
        b"[stack]" => Backing::Stack,
        b"" | b"[heap]" => Backing::Anonymous,
        // Names given with PR_SET_VMA_ANON_NAME.
        name if name.starts_with(b"[anon") => Backing::Anonymous,
        _ => Backing::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vma {
        Vma::of(&Entry::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn lines_of_all_kinds() {
        let heap = line("55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0                          [heap]");
        assert_eq!((heap.backing, heap.refusal(false)), (Backing::Anonymous, None));
        let plain = line("7f0000000000-7f0000200000 rw-p 00000000 00:00 0 ");
        assert_eq!(plain.range, PageRange::new(0x7f00_0000_0000, 0x20_0000).unwrap());
        assert_eq!(plain.refusal(false), None);
        let stack = line("7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]");
        assert_eq!(stack.refusal(true), None);
        assert_eq!(stack.refusal(false).map(|r| r.0), Some(Errno::EBUSY));
        let vvar = line("7ffc00100000-7ffc00104000 r--p 00000000 00:00 0                          [vvar]");
        assert_eq!(vvar.refusal(true).map(|r| r.0), Some(Errno::EINVAL));
        let file =
            line("7f0000000000-7f0000001000 rw-p 00001000 fe:01 1234                       /usr/lib/a b.so");
        assert_eq!(file.refusal(true).map(|r| r.0), Some(Errno::EBUSY));
        let shared = line(
            "7f0000000000-7f0000001000 rw-s 00000000 00:01 42                         /dev/zero (deleted)",
        );
        assert_eq!(shared.refusal(true).map(|r| r.0), Some(Errno::EBUSY));
        let read_only = line("7f0000000000-7f0000001000 r--p 00000000 00:00 0 ");
        assert_eq!(read_only.refusal(true).map(|r| r.0), Some(Errno::EPERM));
        let code = line("7f0000000000-7f0000001000 rwxp 00000000 00:00 0 ");
        assert_eq!(code.refusal(true).map(|r| r.0), Some(Errno::EINVAL));
        let huge = line(
            "7f0000000000-7f0000200000 rw-p 00000000 00:10 77                         /anon_hugepage (deleted)",
        );
        assert_eq!(huge.refusal(true).map(|r| r.0), Some(Errno::EINVAL));
        assert_eq!(
            line("7f0000000000-7f0000001000 rw-p 00000000 00:00 0  [anon:x]").backing,
            Backing::Anonymous
        );
    }

    #[test]
    fn flags_are_found() {
        let flags = vm_flags(std::ptr::from_ref(&0u8) as u64).unwrap();
        assert!(flags.contains(b"rd"), "{flags:?}");
        assert!(vm_flags(0).unwrap().is_empty());
    }
}
