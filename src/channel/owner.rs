//! Which process a driver object belongs to.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::error::{Error, ErrorKind, Result};
use crate::range::page_size;

/// Remembers the process that made a driver object and refuses its use in a forked child.
///
/// xe's VMs and KFD's processes belong to the address space that made them. A child inherits the file descriptors, but its
/// ioctls would act on the *parent's* memory (xe) or fail with `EBADF` (KFD).
///
/// The check is one load from a page that the kernel zeroes in every child (`MADV_WIPEONFORK`, since kernel 4.14), and no
/// system call, so that calls can afford it each time.
#[derive(Clone, Copy, Debug)]
pub struct ProcessGuard {
    page: &'static AtomicU64,
    generation: u64,
}

impl ProcessGuard {
    /// The calling process is the owner.
    ///
    /// # Errors
    ///
    /// The errno of `mmap` or `madvise`, the first time only, where the page cannot be had.
    pub fn current() -> Result<Self> {
        let page = page()?;
        Ok(Self { page, generation: generation(page) })
    }

    /// Whether the calling process is the owner.
    #[must_use]
    #[inline]
    pub fn is_owner(self) -> bool {
        self.page.load(Ordering::Relaxed) == self.generation
    }

    /// Refuses a call made in a child of the owner.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`].
    #[inline]
    pub fn check(self, call: &'static str) -> Result<()> {
        if self.is_owner() { Ok(()) } else { Err(foreign(call)) }
    }
}

impl PartialEq for ProcessGuard {
    fn eq(&self, other: &Self) -> bool {
        self.generation == other.generation
    }
}

impl Eq for ProcessGuard {}

#[cold]
fn foreign(call: &'static str) -> Error {
    Error::new(ErrorKind::ForeignProcess, call)
        .because("the object belongs to the process that this one was forked from")
        .hint_is("open the device again after fork")
}

/// The number of this process among its ancestors that used the crate: made when first asked for after a fork.
fn generation(page: &AtomicU64) -> u64 {
    // A child's copy of the counter goes on from its parent's, so no child ever repeats an inherited number.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let current = page.load(Ordering::Relaxed);
    if current != 0 {
        return current;
    }
    let fresh = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    match page.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => fresh,
        Err(other_thread) => other_thread,
    }
}

/// The word that reads zero in a forked child until the child asks for its own number.
fn page() -> Result<&'static AtomicU64> {
    static PAGE: OnceLock<Result<&'static AtomicU64, rustix::io::Errno>> = OnceLock::new();
    PAGE.get_or_init(map_page)
        .map_err(|errno| Error::from_errno("mmap", errno.into()).because("no page for telling a fork"))
}

fn map_page() -> Result<&'static AtomicU64, rustix::io::Errno> {
    let len = page_size() as usize;
    // SAFETY: a null hint lets the kernel choose free addresses, so nothing existing is replaced.
    let start = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )?
    };
    // SAFETY: the range is the mapping just made; the advice changes what a child sees, nothing in this process.
    unsafe { rustix::mm::madvise(start, len, Advice::LinuxWipeOnFork)? };
    // SAFETY: the mapping is page-aligned, zeroed, never unmapped, and reached through this atomic only; the kernel's wipe
    // happens in the child's own copy before the child runs.
    Ok(unsafe { &*start.cast::<AtomicU64>() })
}
