//! An allocator of memory that GPUs migrate well, for collections that take one.
//!
//! A `Vec` from the ordinary heap shares its pages with neighbours that the GPU has nothing to do with, and lies across the 2 MiB
//! blocks in which drivers migrate. [`SvmAlloc`] hands out memory of which that is not true: allocations of more than half a block
//! get a mapping of their own that starts on a 2 MiB boundary; smaller ones lie in blocks of 2 MiB that start on one, with
//! allocations of the same size class only; and those of a page or more share no page.
//!
//! What the allocator knows of its memory is kept elsewhere. So allocating and freeing touch no page that may be in VRAM, which
//! would bring the whole block back.
//!
//! ```
//! use drm_pagemap::alloc::{SvmAlloc, Vec};
//! use drm_pagemap::Gpu;
//!
//! let alloc = SvmAlloc::new();
//! let mut samples: Vec<f32, _> = Vec::with_capacity_in(1 << 20, alloc.clone());
//! samples.extend((0..1 << 20).map(|index| index as f32));
//!
//! let gpu = Gpu::simulated();
//! let mirror = gpu.mirror()?;
//! let outcome = mirror.prefetch(&samples).to(gpu.vram()).run()?;
//! assert!(outcome.is_complete(), "{outcome}");
//! assert_eq!(samples[7], 7.0);
//! # Ok::<(), drm_pagemap::Error>(())
//! ```
//!
//! The allocator speaks version 0.2 of the `allocator-api2` crate, as do `hashbrown` and `bumpalo`; its [`Box`] and [`Vec`] are
//! re-exported here. Needs the feature `allocator-api2`.

use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use allocator_api2::alloc::{AllocError, Allocator, Layout};
pub use allocator_api2::boxed::Box;
pub use allocator_api2::vec::Vec;

use crate::mirror::Mirror;
use crate::range::PageRange;

mod class;
mod convert;
mod heap;
mod slab;
#[cfg(test)]
mod tests;

use heap::{Grant, Heap};

/// An allocator of memory in 2 MiB blocks. Clones are the same allocator; what it maps is unmapped when the last of them and the
/// last allocation are gone.
///
/// Memory comes from [`Buffer`](crate::Buffer)s: private, anonymous, advised to be huge pages. It is not for every small object of
/// a program, but for the data that GPUs work on: one lock guards it, and each size class takes at least 2 MiB of addresses.
///
/// After a `fork`, the child has a copy of the memory and may go on using it as long as no other thread of the parent was inside
/// the allocator at that time.
#[derive(Clone)]
pub struct SvmAlloc {
    inner: Arc<Inner>,
}

struct Inner {
    heap: Mutex<Heap>,
    mirrors: std::vec::Vec<Arc<Mirror>>,
}

/// What an allocator has mapped and given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes of addresses that are mapped.
    pub mapped: u64,
    /// Bytes given out, rounded up to size classes and pages.
    pub used: u64,
    /// Allocations that exist.
    pub allocations: u64,
}

impl SvmAlloc {
    /// An allocator that has mapped nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::for_mirrors([])
    }

    /// An allocator that, when memory of a page or more is freed, takes back the advice that was given for it through any of
    /// these mirrors ([`Mirror::reset_advice`]), so that the next owner of the addresses does not inherit it.
    #[must_use]
    pub fn for_mirrors(mirrors: impl IntoIterator<Item = Arc<Mirror>>) -> Self {
        let mirrors = mirrors.into_iter().collect();
        Self { inner: Arc::new(Inner { heap: Mutex::default(), mirrors }) }
    }

    /// What is mapped and given out.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.heap().usage()
    }

    /// Whether the two are the same allocator.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    fn heap(&self) -> MutexGuard<'_, Heap> {
        // A panic inside leaves at worst memory that is never given out again.
        self.inner.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant(&self, layout: Layout) -> Result<Grant, AllocError> {
        if layout.size() == 0 {
            return Ok(Grant { memory: dangling(layout), zeroed: true });
        }
        self.heap().allocate(layout).ok_or(AllocError)
    }

    fn reset_advice(&self, memory: NonNull<[u8]>) {
        let Ok(range) = PageRange::rounded_out(memory.cast::<u8>().as_ptr() as u64, memory.len() as u64)
        else {
            return;
        };
        for mirror in &self.inner.mirrors {
            // The device may be gone: then there is no advice left to take back.
            let _ = mirror.reset_advice(range);
        }
    }
}

/// No memory, at an address that is aligned as asked.
fn dangling(layout: Layout) -> NonNull<[u8]> {
    let aligned = std::ptr::without_provenance_mut(layout.align());
    // The alignment is a power of two, and so not null.
    let start = NonNull::new(aligned).unwrap_or(NonNull::dangling());
    NonNull::slice_from_raw_parts(start, 0)
}

// SAFETY: memory given out lies in mappings that stay until it is given back or the last clone of the allocator is gone; no two
// allocations overlap (the heap gives each slot or mapping out once); moving or cloning the handle moves no memory.
unsafe impl Allocator for SvmAlloc {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.grant(layout).map(|grant| grant.memory)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let Grant { memory, zeroed } = self.grant(layout)?;
        if !zeroed {
            // SAFETY: the memory was just given out, so nothing else refers to it, and is as long as the slice says.
            unsafe { memory.cast::<u8>().as_ptr().write_bytes(0, memory.len()) };
        }
        Ok(memory)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        // Advice first: once the memory is given back, the addresses may be somebody else's.
        let memory = self.heap().find(ptr);
        if let Some(memory) = memory.filter(|memory| memory.len() as u64 >= crate::range::page_size()) {
            self.reset_advice(memory);
        }
        let unused = self.heap().deallocate(ptr);
        // Unmapping takes a while; the lock is free again.
        drop(unused);
    }

    unsafe fn grow(
        &self,
        ptr: NonNull<u8>,
        old_layout: Layout,
        new_layout: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promises are the same.
        unsafe { self.resize(ptr, old_layout, new_layout, false) }
    }

    unsafe fn grow_zeroed(
        &self,
        ptr: NonNull<u8>,
        old_layout: Layout,
        new_layout: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promises are the same.
        unsafe { self.resize(ptr, old_layout, new_layout, true) }
    }

    unsafe fn shrink(
        &self,
        ptr: NonNull<u8>,
        old_layout: Layout,
        new_layout: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promises are the same.
        unsafe { self.resize(ptr, old_layout, new_layout, false) }
    }
}

impl SvmAlloc {
    /// Gives memory of another size, in place where the old has room and is not much too large.
    ///
    /// # Safety
    ///
    /// `ptr` is memory of this allocator that fits `old_layout`.
    unsafe fn resize(
        &self,
        ptr: NonNull<u8>,
        old_layout: Layout,
        new_layout: Layout,
        zeroed: bool,
    ) -> Result<NonNull<[u8]>, AllocError> {
        let (old, new) = (old_layout.size(), new_layout.size());
        let kept = old.min(new);
        let there = if old == 0 { None } else { self.heap().find(ptr) };
        let memory = match there {
            Some(memory) if heap::serves(memory, new_layout) => memory,
            _ => {
                let memory = self.allocate(new_layout)?;
                // SAFETY: both hold at least `kept` bytes, and cannot overlap: the new memory was just given out.
                unsafe { memory.cast::<u8>().copy_from_nonoverlapping(ptr, kept) };
                // SAFETY: the caller gives the old memory up.
                unsafe { self.deallocate(ptr, old_layout) };
                memory
            }
        };
        if zeroed {
            // SAFETY: `kept` is inside the memory.
            let tail = unsafe { memory.cast::<u8>().add(kept) };
            // SAFETY: the rest of the memory is the caller's alone, and holds nothing yet.
            unsafe { tail.as_ptr().write_bytes(0, memory.len() - kept) };
        }
        Ok(memory)
    }
}

impl Default for SvmAlloc {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SvmAlloc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SvmAlloc").field("usage", &self.usage()).finish_non_exhaustive()
    }
}
