//! The arena: memory at a fixed address that the steps of every driver work on, what is mapped in it, and what its words mean.

mod around;
mod cpu;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use drm_pagemap::PageRange;
use drm_pagemap::residency::{self, Place};
use rustix::mm::{MapFlags, ProtFlags};

pub(crate) use around::READ_AROUND;

pub(crate) const PAGE: u64 = 4096;
/// First address of the arena: 2 MiB-aligned, far from where the kernel puts anything.
pub(crate) const ARENA: u64 = 0x1000_0000_0000;
/// Pages of the arena: four blocks of 2 MiB.
pub(crate) const PAGES: u64 = 2048;
/// Pages of 2 MiB.
pub(crate) const HUGE: u64 = 512;
/// First control page.
pub(crate) const CONTROL: u64 = 3072;
const CONTROL_PAGES: u64 = 16;

/// What the CPU may do with a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) mapped: bool,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

/// What is mapped in the arena, by page, so that steps need not try what would be a SIGSEGV.
#[derive(Clone, Debug)]
pub(crate) struct Arena(Vec<Access>);

/// The address of a page by number.
pub(crate) const fn address(page: u64) -> u64 {
    ARENA.wrapping_add(page.wrapping_mul(PAGE))
}

impl Arena {
    /// Nothing is mapped but the control pages, which are shared memory: it stays where it is.
    pub(crate) fn new() -> Result<Self, String> {
        let len = (CONTROL_PAGES * PAGE) as usize;
        // SAFETY: nothing of this process is at that address, which is far from all that the kernel and the loader chose.
        unsafe {
            rustix::mm::mmap_anonymous(
                address(CONTROL) as *mut _,
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::FIXED_NOREPLACE | MapFlags::POPULATE,
            )
        }
        .map_err(|errno| format!("the control pages: {errno}"))?;
        Ok(Self(vec![Access::default(); PAGES as usize]))
    }

    /// Whether `[page, page + pages)` lies in the arena.
    pub(crate) fn holds(page: u64, pages: u64) -> bool {
        page.checked_add(pages).is_some_and(|end| end <= PAGES)
    }

    pub(crate) fn set(&mut self, page: u64, pages: u64, access: Access) {
        self.0[page as usize..(page + pages) as usize].fill(access);
    }

    /// Changes what may be done with pages that are mapped.
    pub(crate) fn protect(&mut self, page: u64, pages: u64, readable: bool, writable: bool) {
        for access in self.0[page as usize..(page + pages) as usize].iter_mut().filter(|access| access.mapped)
        {
            (access.readable, access.writable) = (readable, writable);
        }
    }

    pub(crate) fn take(&mut self, page: u64, pages: u64) -> Vec<Access> {
        let range = page as usize..(page + pages) as usize;
        let taken = self.0[range.clone()].to_vec();
        self.0[range].fill(Access::default());
        taken
    }

    pub(crate) fn put(&mut self, page: u64, accesses: &[Access]) {
        self.0[page as usize..page as usize + accesses.len()].copy_from_slice(accesses);
    }

    /// A word of a page that may be read, and written if `write`.
    pub(crate) fn word(&self, page: u64, offset: u64, write: bool) -> Option<&AtomicU64> {
        let access = match page {
            CONTROL.. if page < CONTROL + CONTROL_PAGES => {
                Access { mapped: true, readable: true, writable: true }
            }
            _ => *self.0.get(usize::try_from(page).ok()?)?,
        };
        // x86 has no pages that are writable and not readable.
        let allowed = if write { access.writable } else { access.readable || access.writable };
        if !access.mapped || !allowed || offset % 8 != 0 || offset >= PAGE {
            return None;
        }
        let at = NonNull::new(address(page).wrapping_add(offset) as *mut u64)?;
        // SAFETY: mapped, for what is asked, as the arena knows; GPUs and kernel write to it atomically as far as this test can
        // tell, and the borrow of `self` keeps steps from unmapping it.
        Some(unsafe { AtomicU64::from_ptr(at.as_ptr()) })
    }
}

/// Runs of equal things: `what*count what*count`.
pub(crate) fn runs<T: PartialEq>(items: impl Iterator<Item = T>, show: impl Fn(&T) -> String) -> String {
    let mut text = String::new();
    let mut current: Option<(T, u64)> = None;
    let mut flush = |run: &Option<(T, u64)>| {
        if let Some((item, count)) = run {
            if !text.is_empty() {
                text.push(' ');
            }
            text += &show(item);
            if *count > 1 {
                text += &format!("*{count}");
            }
        }
    };
    for item in items {
        match &mut current {
            Some((known, count)) if *known == item => *count += 1,
            _ => {
                flush(&current);
                current = Some((item, 1));
            }
        }
    }
    flush(&current);
    if text.is_empty() { "nothing".to_owned() } else { text }
}

/// One word for each item of a text that [`runs`] made.
pub(crate) fn expand(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for run in text.split_whitespace() {
        let (word, count) = run.split_once('*').unwrap_or((run, "1"));
        words.extend(std::iter::repeat_n(word.to_owned(), count.parse().unwrap_or(1)));
    }
    words
}

/// What page `page` holds when `value` was written to it: pages are told apart, so that swapped ones are noticed.
pub(crate) const fn stamp(page: u64, value: u64) -> u64 {
    value << 16 | page
}

/// Where pages are, by class.
pub(crate) fn places(page: u64, pages: u64) -> String {
    let range = PageRange::new(address(page), pages * PAGE).expect("whole pages of the arena");
    let found = match residency::of_range(range) {
        Ok(found) => found,
        Err(error) => return format!("unknown: {error}"),
    };
    // Zero pages are system memory as far as a device is concerned.
    let found = found.pages().map(|place| if place == Place::Zero { Place::System } else { place });
    runs(found, |place| place.name().to_owned())
}

/// Loads a word that devices may write at any time.
pub(crate) fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Acquire)
}

/// Stores one.
pub(crate) fn store(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
}

impl Arena {
    /// How many pages in a row are mapped from `page` on.
    pub(crate) fn mapped_from(&self, page: u64) -> u64 {
        self.0[page as usize..].iter().take_while(|access| access.mapped).count() as u64
    }
}
