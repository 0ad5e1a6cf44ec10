//! What kinds of memory this process has mapped.
//!
//! Drivers migrate private anonymous memory and little else, so the kind of a mapping explains most refusals. The kernel is asked
//! mapping by mapping (`PROCMAP_QUERY`, since 6.11), or else the text of `/proc/self/maps` is read; neither walks a page table.

use crate::error::{Errno, Error, ErrorKind, Result};
use crate::procmaps::{Entry, Lines, Maps, Name};
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
    fn of(entry: &Entry<'_>) -> Self {
        let &Entry { range, readable, writable, .. } = entry;
        Self { range, kind: kind_of(entry), readable, writable }
    }

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

/// Bytes of text read at once.
const TEXT: usize = 16 << 10;

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
        self.vmas.clear();
        self.read_all(range).map_err(|errno| {
            let failed = Error::from_errno("read", errno).because("cannot read /proc/self/maps");
            if errno == Errno::ENOENT { failed.of_kind(ErrorKind::Unsupported) } else { failed }
        })
    }

    fn read_all(&mut self, range: PageRange) -> Result<(), Errno> {
        let maps = Maps::open()?;
        let mut name: Name = [0; size_of::<Name>()];
        let mut at = range.start();
        while at < range.end() {
            match maps.ask(at, &mut name) {
                Ok(Some(entry)) if entry.range.start() < range.end() && entry.range.end() > at => {
                    let mut vma = Vma::of(&entry);
                    if let (Some(last), true) = (self.vmas.last(), vma.range.start() < at) {
                        // Joined with the one before it since that was asked for.
                        vma.range = PageRange::from_aligned(last.range.end(), vma.range.end());
                    }
                    at = vma.range.end();
                    self.vmas.push(vma);
                }
                Ok(_) => return Ok(()),
                Err(Errno::ENOTTY) => return self.read_text(&maps, range),
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn read_text(&mut self, maps: &Maps, range: PageRange) -> Result<(), Errno> {
        self.vmas.clear();
        self.text.resize(TEXT, 0);
        let mut lines = Lines::new(&mut self.text[..]);
        while let Some(line) = lines.next(|offset, buffer| maps.read(offset, buffer))? {
            let Some(vma) = Entry::parse(line).map(|entry| Vma::of(&entry)) else { continue };
            if vma.range.start() >= range.end() {
                break;
            }
            if vma.range.overlaps(range) {
                self.vmas.push(vma);
            }
        }
        Ok(())
    }

    /// The mappings that were read and overlap `range`.
    pub fn within(&self, range: PageRange) -> impl Iterator<Item = &Vma> {
        let first = self.vmas.partition_point(|vma| vma.range.end() <= range.start());
        self.vmas[first..].iter().take_while(move |vma| vma.range.start() < range.end())
    }
}

fn kind_of(entry: &Entry<'_>) -> VmaKind {
    match (entry.shared, entry.name) {
        _ if entry.hugetlb => VmaKind::HugeTlb,
        (_, b"[vdso]" | b"[vvar]" | b"[vvar_vclock]" | b"[vsyscall]" | b"[uprobes]") => VmaKind::Special,
        (false, b"/dev/zero") => VmaKind::Anonymous,
        (false, _) if !entry.file => VmaKind::Anonymous,
        (true, _) if !entry.file => VmaKind::SharedMemory,
        (_, b"anon_inode:[secretmem]" | b"/secretmem (deleted)") => VmaKind::Special,
        (true, name) if is_shared_memory(name) => VmaKind::SharedMemory,
        (_, name) if name.starts_with(b"/dev/") && !name.starts_with(b"/dev/shm/") => VmaKind::Special,
        (_, name) if name.starts_with(b"anon_inode:") => VmaKind::Special,
        (false, _) => VmaKind::PrivateFile,
        (true, _) => VmaKind::SharedFile,
    }
}

fn is_shared_memory(name: &[u8]) -> bool {
    [&b"/dev/zero (deleted)"[..], b"/memfd:", b"/SYSV"].iter().any(|prefix| name.starts_with(prefix))
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
            let vma = Vma::of(&Entry::parse(line.as_bytes()).unwrap());
            assert_eq!((vma.kind(), vma.is_movable()), (kind, movable), "{line}");
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
        let (asked, maps) = (map.vmas.clone(), Maps::open().unwrap());
        map.read_text(&maps, buffer.range()).unwrap();
        assert_eq!(map.vmas, asked, "the text says what the query said");
        let code = PageRange::rounded_out(our_own_memory_is_found as fn() as usize as u64, 1).unwrap();
        map.read(code).unwrap();
        assert_eq!(map.within(code).next().unwrap().kind(), VmaKind::PrivateFile);
    }
}
