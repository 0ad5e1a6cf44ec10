//! Having the kernel touch pages: `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE` (since kernel 5.14).

use rustix::mm::Advice;

use crate::error::Errno;
use crate::range::PageRange;

/// Faults the pages in as if they were read. Pages in VRAM come back to system memory, huge ones whole; one system call for
/// all of them.
///
/// # Errors
///
/// `EINVAL` before kernel 5.14; `ENOMEM` where something is not mapped; `EFAULT` for pages that a fault cannot bring.
pub(crate) fn read(range: PageRange) -> Result<(), Errno> {
    populate(range, Advice::LinuxPopulateRead)
}

/// Faults the pages in as if they were written, without changing a byte.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn write(range: PageRange) -> Result<(), Errno> {
    populate(range, Advice::LinuxPopulateWrite)
}

fn populate(range: PageRange, advice: Advice) -> Result<(), Errno> {
    // SAFETY: both kinds of advice make pages present as an access by this process would; the kernel checks the range against
    // the process's mappings, changes no byte, and keeps no pointer.
    unsafe { rustix::mm::madvise(range.start() as *mut _, range.len() as usize, advice) }.map_err(Errno::from)
}
