//! Memory for the tests: mappings of their own, so that nothing else lives in the pages that migrate.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};

use crate::range::{PageRange, page_size};

/// A private anonymous mapping that starts at a multiple of 2 MiB, unmapped when dropped.
pub(crate) struct Memory {
    base: *mut u8,
    len: u64,
    /// Offsets that are not the test's any more; other tests may have mapped something there.
    gone: Mutex<Vec<(u64, u64)>>,
}

// SAFETY: plain memory, touched through atomics only.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `len` bytes of absent pages, without huge pages.
    pub(crate) fn absent(len: u64) -> Self {
        Self::mapped(len, MapFlags::PRIVATE)
    }

    pub(crate) fn mapped(len: u64, flags: MapFlags) -> Self {
        let slack = super::MB2;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping.
        let raw =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), (len + slack) as usize, prot, flags) };
        let raw = raw.unwrap() as u64;
        let base = raw.next_multiple_of(slack);
        let memory = Self { base: base as *mut u8, len, gone: Mutex::default() };
        // The slack is given back, so that the mapping has edges where the range has.
        for (start, end) in [(raw, base), (base + len, raw + len + slack)] {
            if start < end {
                // SAFETY: part of the mapping just made, not used.
                unsafe { rustix::mm::munmap(start as *mut _, (end - start) as usize) }.unwrap();
            }
        }
        if flags.contains(MapFlags::PRIVATE) {
            memory.advise(memory.range(), Advice::LinuxNoHugepage).unwrap();
        }
        memory
    }

    /// `len` bytes, each page filled with a byte of its own.
    pub(crate) fn filled(len: u64) -> Self {
        let memory = Self::absent(len);
        memory.fill();
        memory
    }

    /// The same in huge pages, if the system has them.
    pub(crate) fn huge(len: u64) -> Self {
        let memory = Self::absent(len);
        memory.advise(memory.range(), Advice::LinuxHugepage).unwrap();
        memory.fill();
        memory
    }

    pub(crate) fn fill(&self) {
        for page in 0..self.pages() {
            self.set(page * page_size(), Self::pattern(page));
        }
    }

    /// What [`fill`](Self::fill) writes to the first byte of a page.
    pub(crate) fn pattern(page: u64) -> u8 {
        (page % 251) as u8 + 1
    }

    /// Asserts that every page is as [`fill`](Self::fill) left it. Touches all of them.
    pub(crate) fn check(&self) {
        self.check_pages(0..self.pages());
    }

    pub(crate) fn check_pages(&self, pages: std::ops::Range<u64>) {
        for page in pages {
            assert_eq!(self.get(page * page_size()), Self::pattern(page), "page {page}");
        }
    }

    pub(crate) fn pages(&self) -> u64 {
        self.len / page_size()
    }

    pub(crate) fn start(&self) -> u64 {
        self.base as u64
    }

    pub(crate) fn range(&self) -> PageRange {
        PageRange::new(self.base as u64, self.len).unwrap()
    }

    /// `count` pages from page `first`.
    pub(crate) fn part(&self, first: u64, count: u64) -> PageRange {
        assert!(first + count <= self.pages());
        PageRange::new(self.start() + first * page_size(), count * page_size()).unwrap()
    }

    fn at(&self, offset: u64) -> &AtomicU8 {
        assert!(offset < self.len);
        // SAFETY: within the mapping, which lives as long as `self` and is touched through atomics only.
        unsafe { AtomicU8::from_ptr(self.base.wrapping_add(offset as usize)) }
    }

    pub(crate) fn get(&self, offset: u64) -> u8 {
        self.at(offset).load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, offset: u64, value: u8) {
        self.at(offset).store(value, Ordering::SeqCst);
    }

    pub(crate) fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(offset + 8 <= self.len && offset % 8 == 0);
        // SAFETY: as in `at`, and aligned.
        unsafe { AtomicU64::from_ptr(self.base.wrapping_add(offset as usize).cast()) }
    }

    pub(crate) fn advise(&self, range: PageRange, advice: Advice) -> rustix::io::Result<()> {
        assert!(self.range().contains_range(range));
        // SAFETY: within the mapping, which holds bytes that may change at any time.
        unsafe { rustix::mm::madvise(range.start() as *mut _, range.len() as usize, advice) }
    }

    pub(crate) fn protect(&self, range: PageRange, prot: MprotectFlags) {
        assert!(self.range().contains_range(range));
        // SAFETY: within the mapping; the test touches it accordingly.
        unsafe { rustix::mm::mprotect(range.start() as *mut _, range.len() as usize, prot) }.unwrap();
    }

    /// A part was unmapped or moved away. The test must not touch it afterwards.
    pub(crate) fn give_up(&self, range: PageRange) {
        assert!(self.range().contains_range(range));
        let offset = range.start() - self.start();
        self.gone.lock().unwrap().push((offset, offset + range.len()));
    }

    /// Unmaps a part. The test must not touch it afterwards.
    pub(crate) fn unmap(&self, range: PageRange) {
        self.give_up(range);
        // SAFETY: within the mapping; the test touches it no more.
        unsafe { rustix::mm::munmap(range.start() as *mut _, range.len() as usize) }.unwrap();
    }

    /// Maps absent pages over all of it.
    pub(crate) fn map_anew(&self) {
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED);
        // SAFETY: the mapping is the test's own, and touched through atomics only.
        unsafe { rustix::mm::mmap_anonymous(self.base.cast(), self.len as usize, prot, flags) }.unwrap();
        self.advise(self.range(), Advice::LinuxNoHugepage).unwrap();
    }

    /// Moves all of it, which the kernel must take for one mapping, to new addresses.
    pub(crate) fn relocate(self) -> Self {
        let to = Self::absent(self.len);
        let start = to.start();
        std::mem::forget(to);
        self.relocate_to(start)
    }

    /// Moves all of it to `to`, which is free or the test's own.
    pub(crate) fn relocate_to(mut self, to: u64) -> Self {
        let (len, flags) = (self.len as usize, MremapFlags::MAYMOVE);
        // SAFETY: the whole mapping; nothing refers to the old addresses any more, nor to what is at the new ones.
        let moved = unsafe { rustix::mm::mremap_fixed(self.base.cast(), len, len, flags, to as *mut _) };
        self.base = moved.unwrap().cast();
        self
    }

    /// Whether all of it is huge pages.
    pub(crate) fn is_huge(&self) -> bool {
        huge_kilobytes(self.start()) * 1024 >= self.len
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut gone = self.gone.lock().map(|mut gone| std::mem::take(&mut *gone)).unwrap_or_default();
        gone.sort_unstable();
        gone.push((self.len, self.len));
        let mut at = 0;
        for (start, end) in gone {
            if at < start {
                // SAFETY: part of the test's own mapping, used no more.
                unsafe {
                    rustix::mm::munmap(self.base.wrapping_add(at as usize).cast(), (start - at) as usize)
                }
                .unwrap();
            }
            at = end;
        }
    }
}

/// `AnonHugePages` of the mapping at `at`.
fn huge_kilobytes(at: u64) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap_or("");
        if let Some((start, end)) = first.split_once('-') {
            let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
            inside = number(start) <= at && at < number(end);
        } else if inside && first == "AnonHugePages:" {
            return line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        }
    }
    0
}
