//! One mapping, as the kernel lists it.

use crate::range::{PageRange, page_size};
use crate::uapi::procmap_query::*;

/// What a line of `/proc/self/maps`, or an answer of `PROCMAP_QUERY`, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) range: PageRange,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
    pub(crate) shared: bool,
    /// Whether a file is behind it, be it one of the kernel's own (shared memory, a memfd).
    pub(crate) file: bool,
    /// Whether it has huge pages of hugetlbfs, as far as that is to be seen here: by the size of its pages, or by its name.
    pub(crate) hugetlb: bool,
    /// The last column: a path, a name in brackets, or nothing.
    pub(crate) name: &'a [u8],
}

impl<'a> Entry<'a> {
    /// A line: `start-end perms offset major:minor inode   name`. `None` for any other, as `smaps` has them.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut rest = line;
        let (start, end) = split_at(word(&mut rest)?, b'-')?;
        let (start, end) = (number(start, 16)?, number(end, 16)?);
        let &[read, write, execute, sharing, ..] = word(&mut rest)? else { return None };
        let (_offset, device, inode) = (word(&mut rest)?, word(&mut rest)?, word(&mut rest)?);
        let name = rest.trim_ascii_start();
        Some(Self {
            range: PageRange::new(start, end.checked_sub(start)?).ok()?,
            readable: read == b'r',
            writable: write == b'w',
            executable: execute == b'x',
            shared: sharing == b's',
            file: inode != b"0" || device != b"00:00",
            hugetlb: is_hugetlb(name),
            name,
        })
    }

    pub(super) fn of_query(arg: &ProcmapQueryArg, name: &'a [u8]) -> Self {
        let flag = |bit| arg.vma_flags & bit != 0;
        Self {
            range: PageRange::from_aligned(arg.vma_start, arg.vma_end),
            readable: flag(PROCMAP_QUERY_VMA_READABLE),
            writable: flag(PROCMAP_QUERY_VMA_WRITABLE),
            executable: flag(PROCMAP_QUERY_VMA_EXECUTABLE),
            shared: flag(PROCMAP_QUERY_VMA_SHARED),
            file: arg.inode != 0 || arg.dev_major != 0 || arg.dev_minor != 0,
            hugetlb: arg.vma_page_size > page_size(),
            name,
        }
    }
}

/// The words of a `VmFlags:` line of `smaps`, or `None` for any other.
pub(crate) fn vm_flags(line: &[u8]) -> Option<impl Iterator<Item = [u8; 2]> + '_> {
    let flags = line.strip_prefix(b"VmFlags:")?;
    Some(flags.split(u8::is_ascii_whitespace).filter_map(|word| word.try_into().ok()))
}

fn is_hugetlb(name: &[u8]) -> bool {
    let contains = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
    name.starts_with(b"/")
        && (name.starts_with(b"/anon_hugepage") || contains(b"/hugepages/") || contains(b"/hugetlbfs/"))
}

/// Takes the next word off `rest`.
fn word<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let text = rest.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (word, behind) = text.split_at(end);
    *rest = behind;
    (!word.is_empty()).then_some(word)
}

fn split_at(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = text.iter().position(|&byte| byte == at)?;
    Some((&text[..index], &text[index + 1..]))
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_everything() {
        let line =
            b"7f0000000000-7f0000200000 r-xs 00001000 fe:01 1234                       /usr/lib/a b.so";
        let expected = Entry {
            range: PageRange::new(0x7f00_0000_0000, 0x20_0000).unwrap(),
            readable: true,
            writable: false,
            executable: true,
            shared: true,
            file: true,
            hugetlb: false,
            name: b"/usr/lib/a b.so",
        };
        assert_eq!(Entry::parse(line), Some(expected));
        let plain = Entry::parse(b"7f0000000000-7f0000200000 -w-p 00000000 00:00 0 ").unwrap();
        assert_eq!((plain.readable, plain.writable, plain.shared), (false, true, false));
        assert_eq!((plain.file, plain.name), (false, &b""[..]));
        // Some file systems have an inode 0.
        assert!(Entry::parse(b"1000-2000 rw-p 00000000 fe:01 0  /x").unwrap().file);
    }

    #[test]
    fn huge_pages_are_told_by_the_name() {
        let huge = |name: &str| {
            let line = format!("7f0000000000-7f0000200000 rw-p 00000000 00:10 77    {name}");
            Entry::parse(line.as_bytes()).unwrap().hugetlb
        };
        assert!(huge("/anon_hugepage (deleted)") && huge("/dev/hugepages/a") && huge("/mnt/hugetlbfs/b"));
        assert!(!huge("/home/hugepages") && !huge("[anon:/hugepages/]"));
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "garbage",
            "1000-2000",
            "1000-2000 rw 0 0 0",
            "x-y rw-p 0 0 0 ",
            "2000-1000 rw-p 0 0 0 ",
            "1001-2000 rw-p 0 0 0 ",
            "Swap:                  4 kB",
            "VmFlags: rd wr mr mw me ac sd",
            "FilePmdMapped:         0 kB",
        ] {
            assert_eq!(Entry::parse(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn flags_are_words_of_two_letters() {
        let flags: Vec<_> = vm_flags(b"VmFlags: rd wr mr um ").unwrap().collect();
        assert_eq!(flags, [*b"rd", *b"wr", *b"mr", *b"um"]);
        assert!(vm_flags(b"Swap: 4 kB").is_none());
    }
}
