//! Mappings of `/proc/self/maps` or `smaps`, in ascending order, as far as a scan asks.

use super::decide::Kind;
use super::kernel::{Kernel, Listing};
use crate::error::Errno;
use crate::procmaps::{Entry, Lines, vm_flags};
use crate::range::{PageRange, page_size};

/// One mapping, as far as a scan asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vma {
    pub(super) range: PageRange,
    pub(super) kind: Kind,
    /// From `smaps` only: pages in swap slots (`Swap:`).
    pub(super) swapped: u64,
    /// From `smaps` only: registered with userfaultfd (`VmFlags:` um, uw, ui).
    pub(super) userfaultfd: bool,
}

const BUFFER: usize = 4096;

/// Where in a listing one is.
#[derive(Debug)]
pub(super) struct Reader {
    listing: Listing,
    lines: Lines<Box<[u8]>>,
    /// A mapping whose lines are being read.
    open: Option<Vma>,
    /// The mapping last given out.
    last: Option<Vma>,
}

impl Reader {
    pub(super) fn new(listing: Listing) -> Self {
        let lines = Lines::new(vec![0; BUFFER].into_boxed_slice());
        Self { listing, lines, open: None, last: None }
    }

    /// Begins anew: what was read before is forgotten.
    pub(super) fn rewind(&mut self) {
        self.lines.rewind();
        (self.open, self.last) = (None, None);
    }

    /// The mapping that holds `addr`, which must not be below that of an earlier call since the last
    /// [`rewind`](Self::rewind). `None` when nothing is mapped there.
    pub(super) fn containing(&mut self, kernel: &mut impl Kernel, addr: u64) -> Result<Option<Vma>, Errno> {
        loop {
            if let Some(vma) = self.last.filter(|vma| vma.range.end() > addr) {
                return Ok(vma.range.contains(addr).then_some(vma));
            }
            self.last = self.next(kernel)?;
            if self.last.is_none() {
                return Ok(None);
            }
        }
    }

    fn next(&mut self, kernel: &mut impl Kernel) -> Result<Option<Vma>, Errno> {
        let listing = self.listing;
        while let Some(line) = self.lines.next(|offset, buffer| kernel.read(listing, offset, buffer))? {
            if let Some(entry) = Entry::parse(line) {
                // Each mapping ends where the next begins; in `maps` that is every line.
                if let Some(whole) = self.open.replace(Vma::of(&entry)) {
                    return Ok(Some(whole));
                }
            } else if let Some(vma) = &mut self.open {
                if let Some(flags) = vm_flags(line) {
                    vma.note_flags(flags);
                    // The last line of a mapping; waiting for the next would walk the page tables of another one.
                    return Ok(self.open.take());
                }
                vma.note_swapped(line);
            }
        }
        Ok(self.open.take())
    }
}

impl Vma {
    fn of(entry: &Entry<'_>) -> Self {
        let kind = match (entry.shared || entry.hugetlb, entry.file) {
            (true, _) => Kind::Fixed,
            (false, true) => Kind::PrivateFile,
            (false, false) => Kind::Anonymous,
        };
        Self { range: entry.range, kind, swapped: 0, userfaultfd: false }
    }

    fn note_swapped(&mut self, line: &[u8]) {
        let Some(value) = line.strip_prefix(b"Swap:") else { return };
        let digits = value.trim_ascii().split(|&byte| byte == b' ').next();
        let kib = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
        self.swapped = kib.unwrap_or(0) * 1024 / page_size();
    }

    fn note_flags(&mut self, flags: impl Iterator<Item = [u8; 2]>) {
        for flag in flags {
            match &flag {
                b"um" | b"uw" | b"ui" => self.userfaultfd = true,
                b"ht" => self.kind = Kind::Fixed,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vma {
        Vma::of(&Entry::parse(line.as_bytes()).unwrap())
    }

    #[test]
    fn headers_tell_the_kind() {
        assert_eq!(of("7f12a000-7f13a000 rw-p 00000000 00:00 0 ").kind, Kind::Anonymous);
        assert_eq!(of("7f12a000-7f13a000 rw-p 00000000 00:00 0 [heap]").kind, Kind::Anonymous);
        assert_eq!(of("7f12a000-7f13a000 r--p 00001000 fe:01 1234  /a b-c d").kind, Kind::PrivateFile);
        assert_eq!(of("7f12a000-7f13a000 rw-s 00000000 00:01 99 /dev/zero (deleted)").kind, Kind::Fixed);
        assert_eq!(of("7f12a000-7f13a000 rw-p 00000000 00:0f 9 /anon_hugepage (deleted)").kind, Kind::Fixed);
    }

    #[test]
    fn fields_are_counted_in_pages() {
        let mut vma = of("1000-9000 rw-p 00000000 00:00 0");
        vma.note_swapped(b"Swap:                 16 kB");
        vma.note_swapped(b"SwapPss:              12 kB");
        assert_eq!((vma.swapped, vma.userfaultfd), (16 * 1024 / page_size(), false));
        vma.note_flags(vm_flags(b"VmFlags: rd wr mr mw me ac um sd ").unwrap());
        assert!(vma.userfaultfd);
        vma.note_flags(vm_flags(b"VmFlags: rd wr mr mw me ac ht sd ").unwrap());
        assert_eq!(vma.kind, Kind::Fixed);
    }
}
