//! Memory of the engine's own: shared anonymous mappings.
//!
//! The engine's thread must never touch a page that it might itself have to bring back. Migration takes private anonymous
//! memory only, and nothing here is private, so nothing here can be migrated. See [the module](crate::pagemap).

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::error::Errno;

/// A shared anonymous mapping that children do not inherit, zeroed, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct SharedMem {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; who may touch which bytes is the business of the users.
unsafe impl Send for SharedMem {}
// SAFETY: as above; the type itself only hands out the address.
unsafe impl Sync for SharedMem {}

impl SharedMem {
    pub(crate) fn new(len: usize) -> Result<Self, Errno> {
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: a null hint lets the kernel choose free addresses, so nothing existing is replaced.
        let base = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags)
        }?;
        let Some(base) = NonNull::new(base.cast()) else { return Err(Errno::ENOMEM) };
        let mem = Self { base, len };
        // SAFETY: the range is the mapping just made; the advice changes what children inherit, nothing here.
        unsafe { rustix::mm::madvise(mem.base.as_ptr().cast(), len, Advice::LinuxDontFork) }?;
        Ok(mem)
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for SharedMem {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever holds addresses into it holds `self` too. Failure leaks it.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A vector in [`SharedMem`].
#[derive(Debug)]
pub(crate) struct ArenaVec<T> {
    mem: Option<SharedMem>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Copy> ArenaVec<T> {
    pub(crate) const fn new() -> Self {
        Self { mem: None, len: 0, of: PhantomData }
    }

    fn capacity(&self) -> usize {
        self.mem.as_ref().map_or(0, |mem| mem.len() / size_of::<T>())
    }

    /// Makes room for `capacity` elements, so that pushing up to there cannot fail.
    pub(crate) fn reserve(&mut self, capacity: usize) -> Result<(), Errno> {
        if capacity <= self.capacity() {
            return Ok(());
        }
        let mem = room_for(capacity, size_of::<T>())?;
        // SAFETY: both are mappings of at least `len` elements, page-aligned, and distinct; `T` is `Copy`.
        unsafe { std::ptr::copy_nonoverlapping(self.as_ptr(), mem.base().as_ptr().cast(), self.len) };
        self.mem = Some(mem);
        Ok(())
    }

    pub(crate) fn push(&mut self, value: T) -> Result<(), Errno> {
        if self.len == self.capacity() {
            self.reserve((self.len * 2).max(64))?;
        }
        // SAFETY: `len < capacity`, so the place lies within the mapping.
        let place = unsafe { self.as_mut_ptr().add(self.len) };
        // SAFETY: as above; the mapping is `self`'s and aligned.
        unsafe { place.write(value) };
        self.len += 1;
        Ok(())
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = *self.last()?;
        self.len -= 1;
        Some(last)
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    fn as_ptr(&self) -> *const T {
        self.mem.as_ref().map_or(NonNull::dangling(), |mem| mem.base().cast::<T>()).as_ptr()
    }

    fn as_mut_ptr(&mut self) -> *mut T {
        self.as_ptr().cast_mut()
    }
}

/// A mapping for at least `count` elements of `size` bytes.
fn room_for(count: usize, size: usize) -> Result<SharedMem, Errno> {
    let bytes = count.checked_mul(size).ok_or(Errno::ENOMEM)?;
    SharedMem::new(bytes.checked_next_multiple_of(1 << 16).ok_or(Errno::ENOMEM)?)
}

impl ArenaVec<u8> {
    /// `len` zeroes.
    pub(crate) fn zeroed(len: usize) -> Result<Self, Errno> {
        let mut vec = Self::new();
        vec.reserve(len)?;
        // A new mapping is all zeroes.
        vec.len = len;
        Ok(vec)
    }
}

impl<T: Copy> AsRef<[T]> for ArenaVec<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Copy> AsMut<[T]> for ArenaVec<T> {
    fn as_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T: Copy> Deref for ArenaVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the first `len` elements were written by `push`, live in a mapping that `self` owns, and are aligned:
        // the mapping starts at a page.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }
}

impl<T: Copy> DerefMut for ArenaVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` excludes other references.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_keeps_what_it_has() {
        let mut vec = ArenaVec::new();
        assert!(vec.is_empty());
        for n in 0..100_000u64 {
            vec.push(n * 3).unwrap();
        }
        assert!(vec.iter().copied().eq((0..100_000).map(|n| n * 3)));
        assert_eq!(vec.pop(), Some(99_999 * 3));
        vec.clear();
        assert_eq!(vec.pop(), None);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let mut vec = ArenaVec::<u64>::new();
        assert_eq!(vec.reserve(usize::MAX), Err(Errno::ENOMEM));
        assert_eq!(vec.reserve(usize::MAX / 16), Err(Errno::ENOMEM));
        assert!(vec.push(1).is_ok());
    }
}
