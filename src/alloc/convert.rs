//! Buffers as boxes and vectors, without copying.

use std::ptr::NonNull;

use bytemuck::Pod;

use super::{Box, SvmAlloc, Vec};
use crate::buffer::Buffer;

impl<T: Pod + Send> Buffer<T> {
    /// Makes the buffer a boxed slice of an allocator. Nothing is copied or moved: the addresses, and what a GPU holds of them, stay.
    ///
    /// ```
    /// use drm_pagemap::Buffer;
    /// use drm_pagemap::alloc::SvmAlloc;
    ///
    /// let buffer = Buffer::from_slice(&[1u32, 2, 3])?;
    /// let address = buffer.as_ptr();
    /// let boxed = buffer.into_boxed_slice_in(&SvmAlloc::new());
    /// assert_eq!((&boxed[..], boxed.as_ptr()), (&[1, 2, 3][..], address));
    /// # Ok::<(), drm_pagemap::Error>(())
    /// ```
    #[must_use]
    pub fn into_boxed_slice_in(mut self, alloc: &SvmAlloc) -> Box<[T], SvmAlloc> {
        let elements = NonNull::from(&mut *self);
        if size_of::<T>() > 0 && !elements.is_empty() {
            let bytes = NonNull::slice_from_raw_parts(elements.cast::<u8>(), self.range().len() as usize);
            alloc.heap().adopt(bytes, std::boxed::Box::new(self));
        }
        // SAFETY: the slice is initialised, aligned, and from now on an allocation of this allocator that fits its layout (or
        // takes no memory); the buffer that was its owner is reached by nothing but its drop.
        unsafe { Box::from_raw_in(elements.as_ptr(), alloc.clone()) }
    }

    /// Makes the buffer a vector of an allocator, which can grow. Nothing is copied or moved until it grows beyond its pages.
    #[must_use]
    pub fn into_vec_in(self, alloc: &SvmAlloc) -> Vec<T, SvmAlloc> {
        Vec::from(self.into_boxed_slice_in(alloc))
    }
}
