//! The engine's failures in words.

use super::engine::request::{Failure, Why};
use super::vma::vm_flags;
use crate::error::{Errno, Error, ErrorKind};
use crate::range::PageRange;

/// The engine does not answer any more.
#[cold]
pub(crate) fn closed(call: &'static str) -> Error {
    Error::new(ErrorKind::Other, call).because("the migration engine has ended")
}

/// What the caller is told of a failure, with what can be found out about the memory it concerns.
#[cold]
pub(crate) fn error(call: &'static str, failure: Failure) -> Error {
    let Failure { errno, why, start, end } = failure;
    let base = Error::from_errno(call, errno);
    let base = match PageRange::rounded_out(start, end.saturating_sub(start)) {
        Ok(range) if !range.is_empty() => base.over(range),
        _ => base,
    };
    match why {
        Why::Register => registration(base, errno, start),
        Why::Move => movement(base, errno, start),
        Why::OwnMemory => base
            .because("the range holds memory of the migration engine itself")
            .hint_is("leave out the VRAM pools and the thread named drm-pagemap"),
        Why::CallerStack => base
            .because(
                "the range holds the stack of the calling thread, which the kernel must be able to write to",
            )
            .hint_is("move the data to the heap, or allow kernel touches (KernelTouch::IfPermitted)"),
        Why::Fragmented => base
            .because("part of the range is in device memory already")
            .hint_is("bring the range back first, or migrate per window"),
        Why::Raced => base.because("the mapping changed while its pages were moving").hint_is("try again"),
        Why::Removed => base.of_kind(ErrorKind::DeviceLost).because("the device was removed"),
        Why::Full => base
            .of_kind(ErrorKind::OutOfVram)
            .because("device memory is full, and nothing in it can be evicted")
            .hint_is("ask for less at a time than the region's capacity"),
        Why::TooLarge => {
            base.of_kind(ErrorKind::InvalidArgument).because("more than one allocation can hold")
        }
        Why::NoSuchRegion => base.of_kind(ErrorKind::DeviceLost).because("the VRAM region is gone"),
        Why::TooMany => {
            base.of_kind(ErrorKind::OutOfMemory).because("the space has as many VRAM regions as it can (32)")
        }
        Why::Mapping => base.because("the engine could not map memory of its own"),
        Why::Timeslice => base
            .because("the window's timeslice lasts for more than another second")
            .hint_is("wait for the timeslice to end, or evict"),
        Why::Detach => base.because("after three tries the window still has pages in device memory"),
        Why::Injected => base.because("injected failure"),
        Why::Copy => base.because("the driver's operation to copy to system memory failed"),
        Why::BadAtomic => base
            .of_kind(ErrorKind::InvalidArgument)
            .because("the address is not aligned to the operand's size"),
    }
}

fn registration(error: Error, errno: Errno, at: u64) -> Error {
    match errno {
        Errno::EBUSY => error
            .because("the memory is registered with another userfaultfd")
            .hint_is("another library (or another Space) handles the page faults of this range"),
        Errno::ENOMEM => error
            .because("the kernel cannot split the mapping any further")
            .hint_is("migrate larger windows, or raise vm.max_map_count"),
        Errno::EINVAL | Errno::EPERM => {
            kind_of_memory(error, at, "userfaultfd does not take this kind of memory")
        }
        _ => error.because("the range could not be registered with userfaultfd"),
    }
}

fn movement(error: Error, errno: Errno, at: u64) -> Error {
    match errno {
        Errno::EBUSY => error
            .because(
                "a page is pinned for I/O, or shared with a forked process since before it was last written",
            )
            .hint_is("release buffers registered for I/O; MADV_POPULATE_WRITE ends the sharing"),
        Errno::EINVAL => kind_of_memory(error, at, "the pages of this mapping cannot be moved"),
        Errno::ENOENT => error.of_kind(ErrorKind::NotMapped).because("part of the range is not mapped"),
        Errno::EFAULT => error
            .of_kind(ErrorKind::Busy)
            .because("a page is in the memory of a real device, or was lost to a hardware error")
            .hint_is("bring the range back to system memory first (MADV_POPULATE_READ)"),
        _ => error.because("the pages could not be moved"),
    }
}

/// Asks the kernel what is special about the memory.
fn kind_of_memory(error: Error, at: u64, otherwise: &'static str) -> Error {
    let flags = vm_flags(at).unwrap_or_default();
    let has = |flag: &[u8; 2]| flags.contains(flag);
    let error = error.of_kind(ErrorKind::MemoryKind);
    if has(b"lo") {
        error.because("the memory is locked (mlock)").hint_is("munlock it, or migrate before locking")
    } else if has(b"io") || has(b"pf") || has(b"mm") {
        error.because("the memory is a device mapping")
    } else if has(b"ht") {
        error.because("hugetlb memory does not migrate")
    } else if has(b"sh") {
        error.because("shared memory does not migrate")
    } else if !has(b"wr") {
        error.because("the memory is not writable")
    } else if has(b"ex") {
        error.because("executable memory does not migrate")
    } else if has(b"ss") {
        error.because("the memory is a shadow stack")
    } else if flags.is_empty() {
        error.of_kind(ErrorKind::NotMapped).because("nothing is mapped there any more")
    } else {
        error.because(otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_pages_they_concern() {
        let failure = |start, end| Failure { errno: Errno::EBUSY, why: Why::Move, start, end };
        let range =
            error("move", failure(0x10_0000, 0x10_2000)).range().map(|range| (range.start(), range.end()));
        assert_eq!(range, Some((0x10_0000, 0x10_2000)));
        assert!(error("move", failure(0x10_0000, 0x10_0000)).range().is_none());
    }
}
