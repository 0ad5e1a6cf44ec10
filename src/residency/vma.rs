//! Mappings, read from `/proc/self/maps` or `smaps` in ascending order without allocation.

use super::decide::Kind;
use super::kernel::{Kernel, Listing};
use crate::error::Errno;
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

/// Bytes of a line that are kept; the fields that matter end well before.
const KEPT: usize = 512;
const BUFFER: usize = 4096;

/// Where in a listing one is.
#[derive(Debug)]
pub(super) struct Reader {
    listing: Listing,
    offset: u64,
    buffer: Box<[u8]>,
    filled: usize,
    at: usize,
    /// A mapping whose lines are being read.
    open: Option<Vma>,
    /// The mapping last given out.
    last: Option<Vma>,
}

impl Reader {
    pub(super) fn new(listing: Listing) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { listing, offset: 0, buffer, filled: 0, at: 0, open: None, last: None }
    }

    /// Begins anew: what was read before is forgotten.
    pub(super) fn rewind(&mut self) {
        (self.offset, self.filled, self.at, self.open, self.last) = (0, 0, 0, None, None);
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
        let mut line = [0; KEPT];
        while let Some(length) = self.line(kernel, &mut line)? {
            let text = &line[..length];
            if let Some(header) = parse_header(text) {
                // Each mapping ends where the next begins; in `maps` that is every line.
                if let Some(whole) = self.open.replace(header) {
                    return Ok(Some(whole));
                }
            } else if let Some(vma) = &mut self.open {
                parse_field(text, vma);
                if text.starts_with(b"VmFlags:") {
                    // The last line of a mapping; waiting for the next would walk the page tables of another one.
                    return Ok(self.open.take());
                }
            }
        }
        Ok(self.open.take())
    }

    /// The next line without its end, cut to what is kept; `None` at the end of the file.
    fn line(&mut self, kernel: &mut impl Kernel, line: &mut [u8; KEPT]) -> Result<Option<usize>, Errno> {
        let mut length = 0;
        let mut any = false;
        loop {
            if self.at == self.filled {
                self.filled = kernel.read(self.listing, self.offset, &mut self.buffer)?;
                self.at = 0;
                self.offset += self.filled as u64;
                if self.filled == 0 {
                    return Ok(any.then_some(length));
                }
            }
            any = true;
            let rest = &self.buffer[self.at..self.filled];
            let end = rest.iter().position(|&byte| byte == b'\n');
            let part = &rest[..end.unwrap_or(rest.len())];
            let kept = part.len().min(KEPT - length);
            line[length..length + kept].copy_from_slice(&part[..kept]);
            length += kept;
            self.at += part.len();
            if end.is_some() {
                self.at += 1;
                return Ok(Some(length));
            }
        }
    }
}

fn fields(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| byte.is_ascii_whitespace()).filter(|field| !field.is_empty())
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

/// `start-end perms offset device inode [path]`; `None` for any other line.
fn parse_header(text: &[u8]) -> Option<Vma> {
    let mut fields = fields(text);
    let mut ends = fields.next()?.split(|&byte| byte == b'-');
    let (start, end) = (number(ends.next()?, 16)?, number(ends.next()?, 16)?);
    let shared = *fields.next()?.get(3)? == b's';
    let file = number(fields.nth(2)?, 10)? != 0;
    let kind = match (shared, file) {
        (true, _) => Kind::Fixed,
        (false, true) => Kind::PrivateFile,
        (false, false) => Kind::Anonymous,
    };
    // The top gate page ("vsyscall") lies where no range of this process can.
    (start <= end).then_some(Vma {
        range: PageRange::from_aligned(start, end),
        kind,
        swapped: 0,
        userfaultfd: false,
    })
}

fn parse_field(text: &[u8], vma: &mut Vma) {
    let mut fields = fields(text);
    match fields.next() {
        Some(b"Swap:") => {
            let kib = fields.next().and_then(|field| number(field, 10)).unwrap_or(0);
            vma.swapped = kib * 1024 / page_size();
        }
        Some(b"VmFlags:") => {
            for flag in fields {
                match flag {
                    b"um" | b"uw" | b"ui" => vma.userfaultfd = true,
                    b"ht" => vma.kind = Kind::Fixed,
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_tell_the_kind() {
        let kind = |text: &str| parse_header(text.as_bytes()).map(|vma| vma.kind);
        assert_eq!(kind("7f12a000-7f13a000 rw-p 00000000 00:00 0 "), Some(Kind::Anonymous));
        assert_eq!(kind("7f12a000-7f13a000 rw-p 00000000 00:00 0 [heap]"), Some(Kind::Anonymous));
        assert_eq!(kind("7f12a000-7f13a000 r--p 00001000 fe:01 1234  /a b-c d"), Some(Kind::PrivateFile));
        assert_eq!(kind("7f12a000-7f13a000 rw-s 00000000 00:01 99 /dev/zero (deleted)"), Some(Kind::Fixed));
        assert_eq!(kind("Swap:                  4 kB"), None);
        assert_eq!(kind("VmFlags: rd wr mr mw me ac sd"), None);
        assert_eq!(kind("FilePmdMapped:         0 kB"), None);
        assert_eq!(kind(""), None);
    }

    #[test]
    fn fields_are_counted_in_pages() {
        let mut vma = parse_header(b"1000-9000 rw-p 00000000 00:00 0").unwrap();
        parse_field(b"Swap:                 16 kB", &mut vma);
        parse_field(b"SwapPss:              12 kB", &mut vma);
        assert_eq!((vma.swapped, vma.userfaultfd), (16 * 1024 / page_size(), false));
        parse_field(b"VmFlags: rd wr mr mw me ac um sd ", &mut vma);
        assert!(vma.userfaultfd);
        parse_field(b"VmFlags: rd wr mr mw me ac ht sd ", &mut vma);
        assert_eq!(vma.kind, Kind::Fixed);
    }
}
