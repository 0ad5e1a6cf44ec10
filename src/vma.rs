//! What kinds of memory this process has mapped, from `/proc/self/maps`.
//!
//! Drivers migrate private anonymous memory and little else, so the kind of a mapping explains most refusals. Reading the
//! file costs about a microsecond per mapping and walks no page table; it is done only when something needs explaining.

use std::fs::File;
use std::io::Read;

use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::PageRange;

/// What a mapping is a mapping of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VmaKind {
    /// Private anonymous memory: heap, stack, `MAP_PRIVATE | MAP_ANONYMOUS`. The kind that migrates.
    Anonymous,
    /// A file, mapped privately. Pages that were written to are anonymous, the others are the file's.
    PrivateFile,
    /// A file, mapped shared.
    SharedFile,
    /// Shared memory without a file in a file system: `MAP_SHARED | MAP_ANONYMOUS`, memfd, System V.
    SharedMemory,
    /// Huge pages of hugetlbfs, as far as the name tells (`MAP_HUGETLB`, files below a mount of that name).
    HugeTlb,
    /// A device file, or one of the kernel's own mappings such as the vDSO.
    Special,
}

/// One mapping of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vma {
    range: PageRange,
    kind: VmaKind,
    readable: bool,
    writable: bool,
}

impl Vma {
    /// The addresses.
    #[must_use]
    pub const fn range(&self) -> PageRange {
        self.range
    }

    /// What it is a mapping of.
    #[must_use]
    pub const fn kind(&self) -> VmaKind {
        self.kind
    }

    /// Whether the process may read it.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether the process may write it.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether its pages are of the kind that drivers move to VRAM: private, anonymous, readable and writable.
    #[must_use]
    pub const fn is_movable(&self) -> bool {
        matches!(self.kind, VmaKind::Anonymous) && self.readable && self.writable
    }
}

/// The mappings of a range, in ascending order. Reused between readings, it keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct VmaMap {
    text: Vec<u8>,
    vmas: Vec<Vma>,
}

impl VmaMap {
    /// Without any mapping yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: Vec::new(), vmas: Vec::new() }
    }

    /// Reads the mappings that overlap `range`.
    ///
    /// # Errors
    ///
    /// The errno of opening or reading `/proc/self/maps`; [`ErrorKind::Unsupported`] where `/proc` is not mounted.
    pub fn read(&mut self, range: PageRange) -> Result<()> {
        self.text.clear();
        self.vmas.clear();
        File::open("/proc/self/maps").and_then(|mut file| file.read_to_end(&mut self.text)).map_err(
            |error| {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                let failed = Error::from_errno("read", errno).because("cannot read /proc/self/maps");
                if errno == Errno::ENOENT { failed.of_kind(ErrorKind::Unsupported) } else { failed }
            },
        )?;
        let lines = self.text.split(|&byte| byte == b'\n');
        self.vmas.extend(lines.filter_map(parse_line).filter(|vma| vma.range.overlaps(range)));
        Ok(())
    }

    /// The mappings that were read and overlap `range`.
    pub fn within(&self, range: PageRange) -> impl Iterator<Item = &Vma> {
        let first = self.vmas.partition_point(|vma| vma.range.end() <= range.start());
        self.vmas[first..].iter().take_while(move |vma| vma.range.start() < range.end())
    }
}

/// One line: `start-end perms offset dev inode  name`.
fn parse_line(line: &[u8]) -> Option<Vma> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?.as_bytes();
    let (_offset, _device) = (fields.next()?, fields.next()?);
    let inode = fields.next()?;
    let name = fields.next().unwrap_or("").trim_start();
    let &[read, write, _, private] = permissions else { return None };
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let range = PageRange::new(start, end.checked_sub(start)?).ok()?;
    let kind = kind_of(private == b'p', inode != "0", name);
    Some(Vma { range, kind, readable: read == b'r', writable: write == b'w' })
}

fn kind_of(private: bool, has_inode: bool, name: &str) -> VmaKind {
    let huge =
        name.starts_with("/anon_hugepage") || name.contains("/hugepages/") || name.contains("/hugetlbfs/");
    match (private, name) {
        _ if huge => VmaKind::HugeTlb,
        (_, "[vdso]" | "[vvar]" | "[vvar_vclock]" | "[vsyscall]" | "[uprobes]") => VmaKind::Special,
        (true, "/dev/zero") => VmaKind::Anonymous,
        (true, _) if !has_inode => VmaKind::Anonymous,
        (false, _) if !has_inode => VmaKind::SharedMemory,
        (_, "anon_inode:[secretmem]" | "/secretmem (deleted)") => VmaKind::Special,
        (false, _) if is_shared_memory(name) => VmaKind::SharedMemory,
        _ if name.starts_with("/dev/") && !name.starts_with("/dev/shm/") => VmaKind::Special,
        (_, _) if name.starts_with("anon_inode:") => VmaKind::Special,
        (true, _) => VmaKind::PrivateFile,
        (false, _) => VmaKind::SharedFile,
    }
}

fn is_shared_memory(name: &str) -> bool {
    ["/dev/zero (deleted)", "/memfd:", "/SYSV"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Buffer;

    #[test]
    fn lines_of_every_kind() {
        for (line, kind, movable) in [
            ("7f0000000000-7f0000200000 rw-p 00000000 00:00 0 ", VmaKind::Anonymous, true),
            ("7f0000000000-7f0000200000 r--p 00000000 00:00 0 ", VmaKind::Anonymous, false),
            (
                "55d000000000-55d000021000 rw-p 00000000 00:00 0                          [heap]",
                VmaKind::Anonymous,
                true,
            ),
            ("7f0000000000-7f0000200000 rw-p 00000000 00:00 0   [anon:arena 1]", VmaKind::Anonymous, true),
            (
                "7f0000000000-7f0000001000 r-xp 00001000 fe:00 77   /usr/lib/a b.so",
                VmaKind::PrivateFile,
                false,
            ),
            ("7f0000000000-7f0000001000 rw-s 00000000 fe:00 77   /tmp/data", VmaKind::SharedFile, false),
            (
                "7f0000000000-7f0000001000 rw-s 00000000 00:01 9    /dev/zero (deleted)",
                VmaKind::SharedMemory,
                false,
            ),
            (
                "7f0000000000-7f0000001000 rw-s 00000000 00:01 9    /memfd:x (deleted)",
                VmaKind::SharedMemory,
                false,
            ),
            ("7f0000000000-7f0000001000 rw-s 00000000 00:1a 9    /dev/shm/x", VmaKind::SharedFile, false),
            (
                "7f0000000000-7f0000200000 rw-p 00000000 00:0f 9    /anon_hugepage (deleted)",
                VmaKind::HugeTlb,
                false,
            ),
            (
                "7f0000000000-7f0000001000 rw-s 100000000 00:06 9   /dev/dri/renderD128",
                VmaKind::Special,
                false,
            ),
            ("7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0    [vdso]", VmaKind::Special, false),
        ] {
            let vma = parse_line(line.as_bytes()).unwrap();
            assert_eq!((vma.kind(), vma.is_movable()), (kind, movable), "{line}");
        }
        for line in
            ["", "garbage", "1000-2000", "1000-2000 rw 0 0 0", "x-y rw-p 0 0 0 ", "2000-1000 rw-p 0 0 0 "]
        {
            assert_eq!(parse_line(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn our_own_memory_is_found() {
        let mut buffer = Buffer::<u8>::zeroed(4 << 20).unwrap();
        buffer[0] = 1;
        let mut map = VmaMap::new();
        map.read(buffer.range()).unwrap();
        let vmas: Vec<&Vma> = map.within(buffer.range()).collect();
        assert!(vmas.iter().all(|vma| vma.is_movable()), "{vmas:?}");
        let covered: u64 =
            vmas.iter().filter_map(|v| v.range().intersection(buffer.range())).map(|r| r.len()).sum();
        assert_eq!(covered, buffer.range().len());
        let code = PageRange::rounded_out(our_own_memory_is_found as fn() as usize as u64, 1).unwrap();
        map.read(code).unwrap();
        assert_eq!(map.within(code).next().unwrap().kind(), VmaKind::PrivateFile);
    }
}
