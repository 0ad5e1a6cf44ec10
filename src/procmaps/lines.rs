//! A listing, line by line, through a buffer of the caller's.

use crate::error::Errno;

/// Where in a listing one is. A line longer than the buffer is cut to it; the fields that matter stand in front.
#[derive(Debug)]
pub(crate) struct Lines<B> {
    buffer: B,
    /// The file's byte behind those in the buffer.
    offset: u64,
    /// The bytes not given out yet.
    unread: std::ops::Range<usize>,
    /// Whether what comes next is the rest of a line that was cut.
    cut: bool,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Lines<B> {
    pub(crate) fn new(buffer: B) -> Self {
        Self { buffer, offset: 0, unread: 0..0, cut: false }
    }

    /// Begins anew: what was read before is forgotten.
    pub(crate) fn rewind(&mut self) {
        (self.offset, self.unread, self.cut) = (0, 0..0, false);
    }

    /// The next line without its end, or `None` at the end of the file. `read` gives the bytes at an offset, 0 at the end.
    pub(crate) fn next(
        &mut self,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<usize, Errno>,
    ) -> Result<Option<&[u8]>, Errno> {
        loop {
            let text = &self.buffer.as_ref()[self.unread.clone()];
            if let Some(length) = text.iter().position(|&byte| byte == b'\n') {
                let line = self.unread.start..self.unread.start + length;
                self.unread.start = line.end + 1;
                if std::mem::take(&mut self.cut) {
                    continue;
                }
                return Ok(Some(&self.buffer.as_ref()[line]));
            }
            let whole = self.buffer.as_ref().len();
            if self.unread.len() == whole {
                self.unread = 0..0;
                if !std::mem::replace(&mut self.cut, true) {
                    return Ok(Some(self.buffer.as_ref()));
                }
            }
            let buffer = self.buffer.as_mut();
            buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            let got = read(self.offset, &mut buffer[self.unread.end..])?.min(whole - self.unread.end);
            if got == 0 {
                let line = std::mem::take(&mut self.unread);
                let nothing = line.is_empty() || self.cut;
                return Ok((!nothing).then(|| &self.buffer.as_ref()[line]));
            }
            self.offset += got as u64;
            self.unread.end += got;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, buffer: usize, at_once: usize) -> Vec<String> {
        let mut lines = Lines::new(vec![0; buffer]);
        let mut found = Vec::new();
        let mut read = |offset: u64, buffer: &mut [u8]| {
            let rest = &text.as_bytes()[offset as usize..];
            let count = rest.len().min(buffer.len()).min(at_once);
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        };
        while let Some(line) = lines.next(&mut read).unwrap() {
            found.push(String::from_utf8(line.to_vec()).unwrap());
        }
        found
    }

    #[test]
    fn lines_come_whole_however_they_are_read() {
        let text = "one\ntwo two\n\nthree\n";
        for buffer in 8..24 {
            for at_once in 1..24 {
                assert_eq!(
                    lines(text, buffer, at_once),
                    ["one", "two two", "", "three"],
                    "{buffer} {at_once}"
                );
            }
        }
        assert_eq!(lines("no end", 16, 3), ["no end"]);
        assert!(lines("", 16, 3).is_empty());
    }

    #[test]
    fn long_lines_are_cut() {
        for at_once in 1..24 {
            assert_eq!(lines("0123456789abcdef\nnext\n", 8, at_once), ["01234567", "next"]);
            assert_eq!(lines("01234567\nnext\n0123456789", 8, at_once), ["01234567", "next", "01234567"]);
        }
    }

    #[test]
    fn an_error_is_handed_on_and_reading_can_go_on() {
        let mut lines = Lines::new([0; 8]);
        assert_eq!(lines.next(|_, _| Err(Errno::EFAULT)), Err(Errno::EFAULT));
        let mut text = &b"ab\n"[..];
        let mut read = |_: u64, buffer: &mut [u8]| {
            let count = text.len();
            buffer[..count].copy_from_slice(std::mem::take(&mut text));
            Ok(count)
        };
        assert_eq!(lines.next(&mut read), Ok(Some(&b"ab"[..])));
        assert_eq!(lines.next(&mut read), Ok(None));
        lines.rewind();
        assert_eq!(lines.next(|offset, _| Ok(usize::from(offset != 0))), Ok(None));
    }
}
