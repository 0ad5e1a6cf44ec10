//! Memory laid out the way drivers like to migrate it.
//!
//! Any memory of the process can be mirrored and prefetched; [`Buffer`] only removes the friction. Drivers migrate in
//! naturally aligned blocks of up to 2 MiB, and a transparent huge page moves as one, so a buffer starts on a 2 MiB
//! boundary, asks for huge pages, and shares no page with anything else.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use bytemuck::Pod;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::error::{Errno, Error, ErrorKind, Result};
use crate::populate;
use crate::range::{PageRange, SIZE_2M, page_size};

/// A fixed-size array of plain data in its own private mapping, aligned to 2 MiB.
///
/// It dereferences to a slice. Pages come into being when first touched, unless [`populate`](Self::populate) makes them
/// beforehand. The mapping is returned to the system on drop, which also ends what any driver knows about its addresses.
///
/// ```
/// use drm_pagemap::Buffer;
///
/// let mut samples = Buffer::<f32>::zeroed(1 << 20)?;
/// samples[3] = 1.5;
/// assert_eq!(samples.iter().sum::<f32>(), 1.5);
/// assert_eq!(samples.as_ptr() as usize % (2 << 20), 0);
/// # Ok::<(), drm_pagemap::Error>(())
/// ```
pub struct Buffer<T: Pod> {
    start: NonNull<T>,
    len: usize,
    mapped: usize,
    element: PhantomData<T>,
}

// SAFETY: a `Buffer` owns its mapping as a `Box<[T]>` owns its memory; plain data may move between threads.
unsafe impl<T: Pod + Send> Send for Buffer<T> {}
// SAFETY: as for a `Box<[T]>`: shared references give shared references to plain data.
unsafe impl<T: Pod + Sync> Sync for Buffer<T> {}

impl<T: Pod> Buffer<T> {
    /// `len` elements, all zero bytes. No page is touched yet.
    ///
    /// Types that want to be aligned to more than 2 MiB do not compile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] when `len` elements exceed `isize::MAX` bytes; the errno of `mmap`, notably `ENOMEM`
    /// when the addresses or the commit limit are exhausted.
    pub fn zeroed(len: usize) -> Result<Self> {
        const { assert!(align_of::<T>() <= SIZE_2M as usize, "a buffer is aligned to 2 MiB, not to more") };
        let bytes = len
            .checked_mul(size_of::<T>())
            .filter(|&bytes| bytes <= isize::MAX as usize - 2 * SIZE_2M as usize);
        let bytes = bytes.ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, "Buffer::zeroed")
                .because(format!("{len} elements of {} bytes exceed the address space", size_of::<T>()))
        })?;
        if bytes == 0 {
            return Ok(Self { start: NonNull::dangling(), len, mapped: 0, element: PhantomData });
        }
        let mapped = bytes.next_multiple_of(page_size() as usize);
        let start = map_aligned(mapped)?;
        // SAFETY: the range is the mapping just made; the advice chooses page sizes and changes no byte.
        match unsafe { rustix::mm::madvise(start.as_ptr().cast(), mapped, Advice::LinuxHugepage) } {
            // A kernel without transparent huge pages answers EINVAL; small pages serve as well, only slower.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(errno) => {
                unmap(start, mapped);
                return Err(
                    Error::from_errno("madvise", errno.into()).because("MADV_HUGEPAGE on a fresh mapping")
                );
            }
        }
        Ok(Self { start: start.cast(), len, mapped, element: PhantomData })
    }

    /// A copy of `data`.
    ///
    /// # Errors
    ///
    /// As [`zeroed`](Self::zeroed).
    pub fn from_slice(data: &[T]) -> Result<Self> {
        let mut buffer = Self::zeroed(data.len())?;
        buffer.copy_from_slice(data);
        Ok(buffer)
    }

    /// Makes all pages now, so that later first touches do not fault: `MADV_POPULATE_WRITE` (since kernel 5.14). Where the
    /// kernel lacks it, the pages are touched one by one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] when the system has too little memory.
    pub fn populate(&mut self) -> Result<()> {
        if self.mapped == 0 {
            return Ok(());
        }
        match populate::write(self.range()) {
            Ok(()) => Ok(()),
            Err(Errno::EINVAL) => {
                let step = page_size() as usize;
                let first = self.start.as_ptr().cast::<u8>();
                for offset in (0..self.mapped).step_by(step) {
                    // SAFETY: the offset is inside our own mapping, to which `&mut self` is the only access.
                    let byte = unsafe { first.add(offset) };
                    // SAFETY: as above.
                    let value = unsafe { byte.read_volatile() };
                    // SAFETY: as above; writing back the byte that was read makes the page without changing it.
                    unsafe { byte.write_volatile(value) };
                }
                Ok(())
            }
            Err(errno) => Err(Error::from_errno("madvise", errno)
                .over(self.range())
                .because("the pages cannot all be made (MADV_POPULATE_WRITE)")
                .hint_is("use a smaller buffer, or raise the memory limit of the process")),
        }
    }

    /// The pages the buffer occupies, all of them its own.
    #[must_use]
    pub fn range(&self) -> PageRange {
        let start = if self.mapped == 0 { 0 } else { self.start.as_ptr() as u64 };
        PageRange::from_aligned(start, start + self.mapped as u64)
    }
}

/// A private anonymous mapping of `bytes` that starts at a multiple of 2 MiB.
fn map_aligned(bytes: usize) -> Result<NonNull<u8>> {
    let align = SIZE_2M as usize;
    let reserved = bytes + align;
    // SAFETY: a null hint lets the kernel choose free addresses, so nothing existing is replaced.
    let first = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            reserved,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    let first = first.map_err(|errno| {
        Error::from_errno("mmap", errno.into())
            .because(format!("cannot map {bytes} bytes of anonymous memory"))
            .hint_is("check the size, ulimit -v and vm.overcommit_memory")
    })?;
    let first = NonNull::new(first.cast::<u8>()).ok_or_else(|| {
        Error::from_errno("mmap", Errno::ENOMEM).because("the kernel mapped memory at address 0")
    })?;
    let skip = first.as_ptr().align_offset(align);
    // SAFETY: `skip < align`, so the start stays inside the reservation of `bytes + align`.
    let start = unsafe { first.add(skip) };
    // SAFETY: `skip + bytes <= reserved`, so the end is at most one past the reservation.
    let end = unsafe { start.add(bytes) };
    if skip > 0 {
        unmap(first, skip);
    }
    if align > skip {
        unmap(end, align - skip);
    }
    Ok(start)
}

fn unmap(start: NonNull<u8>, bytes: usize) {
    // SAFETY: callers pass parts of their own mapping to which no reference exists (any more); the kernel removes exactly
    // these pages. A failure leaves them mapped, which leaks addresses and nothing else.
    let _ = unsafe { rustix::mm::munmap(start.as_ptr().cast(), bytes) };
}

impl<T: Pod> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.mapped > 0 {
            unmap(self.start.cast(), self.mapped);
        }
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `len` elements, aligned to 2 MiB (or dangling and empty), zeroed by the kernel, and every
        // bit pattern is a `T`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Pod> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).field("range", &self.range()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn starts_on_two_mebibytes_and_owns_whole_pages() {
        for len in [1, 1000, 1 << 20, (3 << 20) + 17] {
            let buffer = Buffer::<u8>::zeroed(len).unwrap();
            assert_eq!(buffer.range().start() % SIZE_2M, 0);
            assert_eq!(buffer.range(), PageRange::covering(&buffer));
            assert!(buffer.iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn empty_buffers_map_nothing() {
        let mut buffer = Buffer::<u64>::zeroed(0).unwrap();
        assert!(buffer.is_empty() && buffer.range().is_empty());
        buffer.populate().unwrap();
        assert_eq!(Buffer::<()>::zeroed(5).unwrap().len(), 5);
    }

    #[test]
    fn sizes_beyond_the_address_space_are_refused() {
        for len in [usize::MAX, isize::MAX as usize / 8] {
            let error = Buffer::<u64>::zeroed(len).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        // Rounding up and aligning must not go beyond what a pointer can be offset by.
        let error = Buffer::<u8>::zeroed(isize::MAX as usize - 3 * (1 << 20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let error = Buffer::<u8>::zeroed(1 << 60).unwrap_err();
        assert_eq!((error.call(), error.errno()), ("mmap", Some(Errno::ENOMEM)));
    }

    #[test]
    fn populating_makes_every_page_and_keeps_the_bytes() {
        let mut buffer = Buffer::from_slice(&vec![7u8; 3 << 20]).unwrap();
        buffer.populate().unwrap();
        assert!(buffer.iter().all(|&byte| byte == 7));
        let mut entries = vec![0u8; buffer.range().pages() as usize * 8];
        let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
        pagemap.read_exact_at(&mut entries, buffer.range().start() / page_size() * 8).unwrap();
        assert!(entries.chunks(8).all(|entry| entry[7] & 0x80 != 0), "every page is present");
    }

    #[test]
    fn the_mapping_goes_away_with_the_buffer() {
        // In a child with one thread, so that nothing else can take the addresses in between.
        // SAFETY: the child makes system calls only before it exits.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                let buffer = Buffer::<u8>::zeroed(8 << 20).unwrap();
                let (start, len) = (buffer.range().start() as *mut _, buffer.range().len() as usize);
                // SAFETY: synchronising anonymous memory changes nothing; unmapped addresses answer ENOMEM.
                let mapped = || unsafe { rustix::mm::msync(start, len, rustix::mm::MsyncFlags::ASYNC) };
                let before = mapped();
                drop(buffer);
                let gone = before.is_ok() && mapped() == Err(rustix::io::Errno::NOMEM);
                // SAFETY: ends the child at once, without running destructors of the test process.
                unsafe { nix::libc::_exit(i32::from(!gone)) }
            }
            nix::unistd::ForkResult::Parent { child } => {
                let status = nix::sys::wait::waitpid(child, None).unwrap();
                assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
            }
        }
    }
}
