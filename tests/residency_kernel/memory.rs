//! Mappings with chosen contents.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use drm_pagemap::PageRange;
use drm_pagemap::range::page_size;
use rustix::mm::{MapFlags, ProtFlags};

/// Pages that are unmapped when dropped.
pub(crate) struct Memory {
    base: NonNull<u8>,
    len: usize,
}

impl Memory {
    fn adopt(base: *mut core::ffi::c_void, len: usize) -> Self {
        Self { base: NonNull::new(base.cast()).unwrap(), len }
    }

    pub(crate) fn anonymous(pages: usize, flags: MapFlags) -> Self {
        let len = pages * page_size() as usize;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, prot, flags) };
        let memory = Self::adopt(base.unwrap(), len);
        // Contents must be what the test makes them.
        memory.advise(0..pages, libc::MADV_NOHUGEPAGE).unwrap();
        memory
    }

    /// Private and anonymous, absent everywhere.
    pub(crate) fn private(pages: usize) -> Self {
        Self::anonymous(pages, MapFlags::PRIVATE)
    }

    pub(crate) fn file(fd: BorrowedFd<'_>, pages: usize, flags: MapFlags) -> Self {
        let len = pages * page_size() as usize;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; only this process changes the file.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, flags, fd, 0) };
        Self::adopt(base.unwrap(), len)
    }

    fn at(&self, page: usize) -> *mut u8 {
        let offset = page * page_size() as usize;
        assert!(offset <= self.len);
        // SAFETY: within the mapping, or one past its end.
        unsafe { self.base.as_ptr().add(offset) }
    }

    pub(crate) fn write(&self, pages: Range<usize>) {
        for page in pages {
            // SAFETY: the page is mapped, and no reference to it exists.
            unsafe { self.at(page).write_volatile(page as u8 | 1) };
        }
    }

    pub(crate) fn read(&self, pages: Range<usize>) {
        for page in pages {
            // SAFETY: the page is mapped, and no reference to it exists.
            unsafe { self.at(page).read_volatile() };
        }
    }

    pub(crate) fn advise(&self, pages: Range<usize>, advice: i32) -> std::io::Result<()> {
        let len = pages.len() * page_size() as usize;
        // SAFETY: part of the mapping, to which no reference exists.
        match unsafe { libc::madvise(self.at(pages.start).cast(), len, advice) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    pub(crate) fn protect(&self, pages: Range<usize>, prot: rustix::mm::MprotectFlags) {
        let len = pages.len() * page_size() as usize;
        // SAFETY: part of the mapping, which no one touches without the right to.
        unsafe { rustix::mm::mprotect(self.at(pages.start).cast(), len, prot) }.unwrap();
    }

    /// The mapping cut in two, with a hole of these pages between.
    pub(crate) fn split(self, hole: Range<usize>) -> (Self, Self) {
        let size = page_size() as usize;
        let second = Self { base: NonNull::new(self.at(hole.end)).unwrap(), len: self.len - hole.end * size };
        // SAFETY: part of the mapping, to which no reference exists.
        unsafe { rustix::mm::munmap(self.at(hole.start).cast(), hole.len() * size) }.unwrap();
        let first = Self { base: self.base, len: hole.start * size };
        std::mem::forget(self);
        (first, second)
    }

    pub(crate) fn range(&self) -> PageRange {
        PageRange::new(self.base.as_ptr() as u64, self.len as u64).unwrap()
    }

    pub(crate) fn part(&self, pages: Range<usize>) -> PageRange {
        PageRange::new(self.at(pages.start) as u64, pages.len() as u64 * page_size()).unwrap()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
