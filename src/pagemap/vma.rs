//! What is mapped where in this process, and whether a device can have it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::Updater;

use super::engine::arena::ArenaVec;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::{PageRange, page_size};
use crate::uapi::procmap_query::*;

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

/// A name that does not fit.
const ENAMETOOLONG: Errno = Errno::from_raw(36);

/// Looks mappings up.
#[derive(Debug)]
pub(crate) struct Maps {
    file: OwnedFd,
    /// Whether `PROCMAP_QUERY` is there (since 6.11); otherwise the list is read as text.
    query: AtomicBool,
}

impl Maps {
    pub(crate) fn open() -> Result<Self> {
        let file = open_proc("/proc/self/maps")?;
        Ok(Self { file, query: AtomicBool::new(true) })
    }

    /// The mapping that covers `at`, or else the next one above it.
    pub(crate) fn at_or_after(&self, at: u64) -> Result<Option<Vma>> {
        if self.query.load(Ordering::Relaxed) {
            match self.ask(at) {
                Err(Errno::ENOTTY | Errno::EINVAL) => self.query.store(false, Ordering::Relaxed),
                Err(Errno::ENOENT) => return Ok(None),
                result => return result.map(Some).map_err(|errno| Error::from_errno("PROCMAP_QUERY", errno)),
            }
        }
        self.read(at)
    }

    fn ask(&self, at: u64) -> Result<Vma, Errno> {
        let mut name = [0u8; 16];
        for _ in 0..64 {
            let mut arg = ProcmapQueryArg {
                size: size_of::<ProcmapQueryArg>() as u64,
                query_flags: PROCMAP_QUERY_COVERING_OR_NEXT_VMA,
                query_addr: at,
                vma_name_size: name.len() as u32,
                vma_name_addr: name.as_mut_ptr() as u64,
                ..ProcmapQueryArg::default()
            };
            match query(self.file.as_fd(), &mut arg) {
                Ok(()) => return Ok(of_query(&arg, &name)),
                // A name that does not fit is a path.
                Err(ENAMETOOLONG) => {
                    arg.vma_name_size = 0;
                    arg.vma_name_addr = 0;
                    match query(self.file.as_fd(), &mut arg) {
                        Ok(()) => return Ok(of_query(&arg, b"/\0")),
                        Err(Errno::EFAULT) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                // This stack is on its way through device memory: touching it brings it back.
                Err(Errno::EFAULT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EFAULT)
    }

    /// The same from the text, for kernels before 6.11.
    fn read(&self, at: u64) -> Result<Option<Vma>> {
        let mut lines = Lines::new(self.file.as_fd())?;
        while let Some(line) = lines.next_line()? {
            if let Some(vma) = parse_maps_line(line).filter(|vma| vma.range.end() > at) {
                return Ok(Some(vma));
            }
        }
        Ok(None)
    }
}

/// The `VmFlags` of the mapping at `at`, from `/proc/self/smaps`: the words the kernel has for what the list does not show.
pub(crate) fn vm_flags(at: u64) -> Result<Vec<[u8; 2]>> {
    let file = open_proc("/proc/self/smaps")?;
    let mut lines = Lines::new(file.as_fd())?;
    let mut inside = false;
    while let Some(line) = lines.next_line()? {
        if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            if inside {
                return Ok(flags.split(|b| *b == b' ').filter_map(|word| word.try_into().ok()).collect());
            }
        } else if let Some((start, end)) = parse_range(line) {
            inside = start <= at && at < end;
        }
    }
    Ok(Vec::new())
}

pub(crate) fn open_proc(path: &'static str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        Error::from_errno("open", errno.into())
            .because(format!("{path} cannot be opened"))
            .hint_is("mount /proc; a process that changed its user must be dumpable (PR_SET_DUMPABLE)")
    })
}

fn query(file: std::os::fd::BorrowedFd<'_>, arg: &mut ProcmapQueryArg) -> Result<(), Errno> {
    // SAFETY: the number and the layout belong together (checked where the struct is defined).
    let call = unsafe { Updater::<{ PROCMAP_QUERY as rustix::ioctl::Opcode }, _>::new(arg) };
    // SAFETY: the kernel writes the struct and at most `vma_name_size` bytes at `vma_name_addr`, which names a buffer of that
    // size in the caller, or nothing.
    unsafe { rustix::ioctl::ioctl(file, call) }.map_err(Errno::from)
}

fn of_query(arg: &ProcmapQueryArg, name: &[u8]) -> Vma {
    let flag = |bit| arg.vma_flags & bit != 0;
    let name = &name[..name.iter().position(|&b| b == 0).unwrap_or(name.len())];
    let backing = if arg.vma_page_size > page_size() {
        Backing::Hugetlb
    } else {
        backing(arg.inode != 0 || arg.dev_major != 0 || arg.dev_minor != 0, name)
    };
    Vma {
        range: PageRange::from_aligned(arg.vma_start, arg.vma_end),
        readable: flag(PROCMAP_QUERY_VMA_READABLE),
        writable: flag(PROCMAP_QUERY_VMA_WRITABLE),
        executable: flag(PROCMAP_QUERY_VMA_EXECUTABLE),
        shared: flag(PROCMAP_QUERY_VMA_SHARED),
        backing,
    }
}

fn backing(file: bool, name: &[u8]) -> Backing {
    match name {
        _ if file => Backing::File,
        b"[stack]" => Backing::Stack,
        b"" | b"[heap]" => Backing::Anonymous,
        // Names given with PR_SET_VMA_ANON_NAME.
        name if name.starts_with(b"[anon") => Backing::Anonymous,
        _ => Backing::Special,
    }
}

fn parse_range(line: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(line.split(|b| *b == b' ').next()?).ok()?;
    let (start, end) = text.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// One line of `/proc/<pid>/maps`: `start-end perms offset major:minor inode name`.
fn parse_maps_line(line: &[u8]) -> Option<Vma> {
    let (start, end) = parse_range(line)?;
    let mut words = line.split(|b| *b == b' ').filter(|word| !word.is_empty()).skip(1);
    let perms = words.next()?;
    let device = words.nth(1)?;
    let inode = words.next()?;
    let name = words.next().unwrap_or(b"");
    let has = |at: usize, letter| perms.get(at) == Some(&letter);
    let file = inode != b"0" || device != b"00:00";
    let hugetlb = name.starts_with(b"/anon_hugepage") || name.starts_with(b"/hugetlb");
    Some(Vma {
        range: PageRange::new(start, end.checked_sub(start)?).ok()?,
        readable: has(0, b'r'),
        writable: has(1, b'w'),
        executable: has(2, b'x'),
        shared: has(3, b's'),
        backing: if hugetlb { Backing::Hugetlb } else { backing(file, name) },
    })
}

/// Reads lines into memory that cannot be on the device: the kernel would refuse to write there.
struct Lines<'a> {
    file: std::os::fd::BorrowedFd<'a>,
    buffer: ArenaVec<u8>,
    offset: u64,
    start: usize,
    filled: usize,
}

impl<'a> Lines<'a> {
    fn new(file: std::os::fd::BorrowedFd<'a>) -> Result<Self> {
        let buffer = ArenaVec::zeroed(64 << 10).map_err(|errno| Error::from_errno("mmap", errno))?;
        Ok(Self { file, buffer, offset: 0, start: 0, filled: 0 })
    }

    fn next_line(&mut self) -> Result<Option<&[u8]>> {
        loop {
            let unread = &self.buffer[self.start..self.filled];
            if let Some(len) = unread.iter().position(|&b| b == b'\n') {
                let line = self.start..self.start + len;
                self.start = line.end + 1;
                return Ok(Some(&self.buffer[line]));
            }
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
            if self.filled == self.buffer.len() {
                // No line is this long.
                return Err(
                    Error::new(ErrorKind::Other, "read").because("a line of /proc/self/maps does not end")
                );
            }
            let got = rustix::io::pread(self.file, &mut self.buffer[self.filled..], self.offset)
                .map_err(|errno| Error::from_errno("read", errno.into()))?;
            if got == 0 {
                return Ok(None);
            }
            self.offset += got as u64;
            self.filled += got;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vma {
        parse_maps_line(text.as_bytes()).unwrap()
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
        assert!(parse_maps_line(b"").is_none());
        assert!(parse_maps_line(b"Rss:   12 kB").is_none());
    }

    #[test]
    fn the_query_and_the_text_agree() {
        let maps = Maps::open().unwrap();
        let text = Maps { file: open_proc("/proc/self/maps").unwrap(), query: AtomicBool::new(false) };
        let here = std::ptr::from_ref(&text) as u64;
        let code = Maps::open as *const () as u64;
        let constant = std::ptr::from_ref("constant").cast::<u8>() as u64;
        for at in [here, code, constant, 0] {
            let (a, b) = (maps.at_or_after(at).unwrap().unwrap(), text.at_or_after(at).unwrap().unwrap());
            if maps.query.load(Ordering::Relaxed) {
                // Other tests map and unmap beside us: the ends may move.
                assert_eq!(
                    (a.readable, a.writable, a.executable, a.backing),
                    (b.readable, b.writable, b.executable, b.backing)
                );
            }
            assert!(at == 0 || b.range.contains(at));
        }
        assert_eq!(text.at_or_after(u64::MAX - 1).unwrap(), None);
    }

    #[test]
    fn flags_are_found() {
        let flags = vm_flags(std::ptr::from_ref(&0u8) as u64).unwrap();
        assert!(flags.contains(b"rd"), "{flags:?}");
        assert!(vm_flags(0).unwrap().is_empty());
    }
}
