//! The archive format of an initramfs: "newc" cpio. Archives may be put one after another; the kernel unpacks all.

use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive under construction. Owner is root, times are zero, so equal content gives equal bytes.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// A file; the directories above it are added as needed. Paths are relative to the root, without a leading `/`.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.parents(path);
        self.entry(path, REGULAR | permissions, (0, 0), content);
    }

    /// A directory, and those above it. Adding one twice does nothing.
    pub(crate) fn directory(&mut self, path: &str) {
        self.parents(path);
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
        }
    }

    /// A character device.
    pub(crate) fn character_device(&mut self, path: &str, permissions: u32, major: u32, minor: u32) {
        self.parents(path);
        self.entry(path, CHARACTER_DEVICE | permissions, (major, minor), &[]);
    }

    /// The archive with its trailer.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let links = 1;
        let fields = [
            self.entries, // inode
            mode,
            0, // user
            0, // group
            links,
            0, // time
            content.len() as u32,
            0, // the archive's own device
            0,
            device.0,
            device.1,
            path.len() as u32 + 1,
            0, // checksum, unused in this variant
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_documented_bytes() {
        let mut archive = Archive::default();
        archive.file("hi", 0o755, b"hello");
        let mut expected = b"070701".to_vec();
        expected.extend_from_slice(b"00000001"); // inode
        expected.extend_from_slice(b"000081ed"); // 0100755
        expected.extend_from_slice(b"0000000000000000"); // user, group
        expected.extend_from_slice(b"00000001"); // links
        expected.extend_from_slice(b"00000000"); // time
        expected.extend_from_slice(b"00000005"); // size
        expected.extend_from_slice(b"00000000000000000000000000000000"); // devices
        expected.extend_from_slice(b"00000003"); // name with its NUL
        expected.extend_from_slice(b"00000000"); // checksum
        expected.extend_from_slice(b"hi\0\0\0\0"); // 110 + 3 bytes, padded to 116
        expected.extend_from_slice(b"hello\0\0\0");
        assert_eq!(archive.bytes, expected);
    }

    #[test]
    fn the_trailer_ends_the_archive_on_a_boundary() {
        let bytes = Archive::default().finish();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[110..121], b"TRAILER!!!\0");
    }

    #[test]
    fn directories_come_before_their_files_and_once() {
        let mut archive = Archive::default();
        archive.file("lib/firmware/a", 0o644, b"");
        archive.file("lib/firmware/b", 0o644, b"");
        archive.directory("lib");
        let text = String::from_utf8(archive.finish()).unwrap();
        let names: Vec<&str> = text
            .split("070701")
            .filter_map(|entry| entry.get(104..))
            .map(|rest| rest.split('\0').next().unwrap())
            .collect();
        assert_eq!(names, ["lib", "lib/firmware", "lib/firmware/a", "lib/firmware/b", "TRAILER!!!"]);
    }

    #[test]
    fn devices_carry_their_kind_and_number() {
        let mut archive = Archive::default();
        archive.character_device("console", 0o600, 5, 1);
        let text = String::from_utf8(archive.finish()).unwrap();
        assert_eq!(&text[14..22], "00002180");
        assert_eq!(&text[78..94], "0000000500000001");
    }
}
