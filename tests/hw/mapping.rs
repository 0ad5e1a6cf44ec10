//! Memory of the kinds that a `Vec` is not.

use std::fs::File;
use std::num::NonZero;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use drm_pagemap::PageRange;
use nix::sys::mman::{MapFlags, ProtFlags};

/// A mapping made for a test, unmapped on drop.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Far from where the kernel puts anything by itself: what a test unmaps stays a hole then, and nothing else,
    /// such as the stack of a new thread, is there when the rest is unmapped.
    pub(crate) fn anonymous(len: usize, flags: MapFlags) -> nix::Result<Self> {
        const ALIGNMENT: usize = 2 << 20;
        static FREE: AtomicUsize = AtomicUsize::new(0x1000_0000_0000);
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let size = len.try_into().expect("not empty");
        let room = len.next_multiple_of(ALIGNMENT) + ALIGNMENT;
        let at = NonZero::new(FREE.fetch_add(room, Ordering::Relaxed));
        let flags = flags | MapFlags::MAP_FIXED_NOREPLACE;
        // SAFETY: the kernel refuses addresses where something is, so nothing existing is replaced.
        let start = unsafe { nix::sys::mman::mmap_anonymous(at, size, protection, flags)? };
        Ok(Self { start: start.cast(), len })
    }

    pub(crate) fn of_file(file: &File, len: usize, flags: MapFlags) -> nix::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let size = len.try_into().expect("not empty");
        // SAFETY: no fixed address is asked for, so nothing existing is replaced; the file is the test's own.
        let start = unsafe { nix::sys::mman::mmap(None, size, protection, flags, file.as_fd(), 0)? };
        Ok(Self { start: start.cast(), len })
    }

    pub(crate) fn range(&self) -> PageRange {
        PageRange::rounded_out(self.start.as_ptr() as u64, self.len as u64).expect("a mapping does not wrap")
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `len` bytes, readable and writable, and this is the only reference to it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    pub(crate) fn words(&mut self) -> &mut [u64] {
        bytemuck::cast_slice_mut(self.bytes())
    }

    /// Has the kernel use small pages only.
    pub(crate) fn without_huge_pages(self) -> Self {
        // SAFETY: the advice chooses page sizes and changes no byte.
        let advised = unsafe {
            nix::sys::mman::madvise(self.start.cast(), self.len, nix::sys::mman::MmapAdvise::MADV_NOHUGEPAGE)
        };
        // A kernel without huge pages answers EINVAL, and has small pages only.
        assert!(matches!(advised, Ok(()) | Err(nix::errno::Errno::EINVAL)), "{advised:?}");
        self
    }

    /// Changes the protection of `part`, given in bytes from the start.
    pub(crate) fn protect(&mut self, part: std::ops::Range<usize>, protection: ProtFlags) {
        assert!(part.end <= self.len);
        // SAFETY: the part lies inside the mapping, to which no reference exists while `&mut self` is held.
        unsafe {
            let start = self.start.add(part.start);
            nix::sys::mman::mprotect(start.cast(), part.len(), protection)
                .expect("own memory can be protected");
        }
    }

    /// Unmaps `part`, given in bytes from the start. Only addresses outside of it may be used afterwards.
    pub(crate) fn punch(&mut self, part: std::ops::Range<usize>) {
        assert!(part.end <= self.len);
        // SAFETY: the part lies inside the mapping, to which no reference exists while `&mut self` is held.
        unsafe {
            let start = self.start.add(part.start);
            nix::sys::mman::munmap(start.cast(), part.len()).expect("own memory can be unmapped");
        }
    }
}

impl Mapping {
    /// Maps fresh memory over `part`, given in bytes from the start.
    pub(crate) fn renew(&mut self, part: std::ops::Range<usize>) {
        assert!(part.end <= self.len && !part.is_empty());
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED;
        let start = NonZero::new(self.start.as_ptr() as usize + part.start);
        let len = NonZero::new(part.len()).expect("not empty");
        // SAFETY: what is replaced lies inside the mapping, to which no reference exists while `&mut self` is held.
        unsafe { nix::sys::mman::mmap_anonymous(start, len, protection, flags) }
            .expect("own memory can be renewed");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference to it outlives the value.
        let unmapped = unsafe { nix::sys::mman::munmap(self.start.cast(), self.len) };
        assert_eq!(unmapped, Ok(()));
    }
}
