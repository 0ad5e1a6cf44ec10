//! One block of 2 MiB, cut into slots of one size.

use std::ptr::NonNull;

use crate::buffer::Buffer;
use crate::error::Result;
use crate::range::SIZE_2M;

/// Bytes of a slab.
pub(super) const BYTES: usize = SIZE_2M as usize;

const BITS: usize = u64::BITS as usize;

/// A block and its slots. Nothing is written into the block itself.
pub(super) struct Slab {
    /// Keeps the block mapped; it is reached through `start` only.
    _block: Buffer<u8>,
    start: NonNull<u8>,
    slot: usize,
    slots: usize,
    /// One bit for each slot that is given out.
    taken: Vec<u64>,
    /// One bit for each slot that was ever given out, and so may hold something else than zeroes.
    used: Vec<u64>,
    count: usize,
    /// No word before it has a free slot.
    first: usize,
}

// SAFETY: the pointer is to memory that the slab owns.
unsafe impl Send for Slab {}

impl Slab {
    pub(super) fn new(slot: usize) -> Result<Self> {
        let mut block = Buffer::<u8>::zeroed(BYTES)?;
        let start = NonNull::from(&mut *block).cast();
        let slots = BYTES / slot;
        let words = slots.div_ceil(BITS);
        Ok(Self {
            _block: block,
            start,
            slot,
            slots,
            taken: vec![0; words],
            used: vec![0; words],
            count: 0,
            first: 0,
        })
    }

    pub(super) fn start(&self) -> usize {
        self.start.as_ptr() as usize
    }

    pub(super) const fn is_full(&self) -> bool {
        self.count == self.slots
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Gives a free slot out, and whether it is still all zeroes.
    pub(super) fn take(&mut self) -> Option<(NonNull<[u8]>, bool)> {
        for word in self.first..self.taken.len() {
            let bit = self.taken[word].trailing_ones() as usize;
            let index = word * BITS + bit;
            if bit == BITS || index >= self.slots {
                continue;
            }
            self.first = word;
            self.taken[word] |= 1 << bit;
            let zeroed = self.used[word] & 1 << bit == 0;
            self.used[word] |= 1 << bit;
            self.count += 1;
            return Some((self.memory(index), zeroed));
        }
        None
    }

    /// The slot that starts at an address and is given out.
    pub(super) fn find(&self, address: usize) -> Option<NonNull<[u8]>> {
        let index = self.index(address)?;
        (self.taken[index / BITS] >> (index % BITS) & 1 == 1).then(|| self.memory(index))
    }

    /// Takes a slot back. Answers its size; `None` when it was not given out.
    pub(super) fn give_back(&mut self, address: usize) -> Option<usize> {
        self.find(address)?;
        let index = self.index(address)?;
        self.taken[index / BITS] &= !(1 << (index % BITS));
        self.first = self.first.min(index / BITS);
        self.count -= 1;
        Some(self.slot)
    }

    fn index(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.start())?;
        (offset % self.slot == 0 && offset / self.slot < self.slots).then_some(offset / self.slot)
    }

    fn memory(&self, index: usize) -> NonNull<[u8]> {
        // SAFETY: `index < slots`, so the slot lies inside the block of `slots * slot` bytes or more.
        let start = unsafe { self.start.add(index * self.slot) };
        NonNull::slice_from_raw_parts(start, self.slot)
    }
}
