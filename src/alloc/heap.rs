//! Slabs and mappings, by address and by size.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;

use allocator_api2::alloc::Layout;

use super::Usage;
use super::class::slot_size;
use super::slab::{self, Slab};
use crate::buffer::Buffer;
use crate::range::{SIZE_2M, page_size};

/// Memory given out.
pub(super) struct Grant {
    pub(super) memory: NonNull<[u8]>,
    /// It holds nothing but zeroes.
    pub(super) zeroed: bool,
}

/// A mapping that is one allocation.
struct Mapping {
    memory: NonNull<[u8]>,
    /// Keeps it mapped.
    owner: Box<dyn Any + Send>,
}

// SAFETY: the pointer is to memory that the owner, which may move between threads, keeps.
unsafe impl Send for Mapping {}

/// Everything an allocator has.
#[derive(Default)]
pub(super) struct Heap {
    /// By the address of the block.
    slabs: BTreeMap<usize, Slab>,
    /// For each size, the blocks with a free slot. The lowest is used first, so that the others empty.
    with_room: BTreeMap<usize, BTreeSet<usize>>,
    mappings: BTreeMap<usize, Mapping>,
    used: u64,
    allocations: u64,
    mapped: u64,
}

/// What is to be unmapped, outside of the lock.
#[derive(Default)]
pub(super) struct Unused {
    _slab: Option<Slab>,
    _mapping: Option<Box<dyn Any + Send>>,
}

/// Whether memory that was given out can serve as a layout: aligned, large enough, and not more than twice as large as needed,
/// unless nothing smaller would be given out.
pub(super) fn serves(memory: NonNull<[u8]>, layout: Layout) -> bool {
    let aligned = memory.cast::<u8>().as_ptr() as usize % layout.align() == 0;
    let fits = layout.size() <= memory.len();
    let tight = layout.size() > memory.len() / 2 || slot_size(layout) == Some(memory.len());
    aligned && layout.size() > 0 && fits && tight
}

impl Heap {
    pub(super) fn allocate(&mut self, layout: Layout) -> Option<Grant> {
        let grant = match slot_size(layout) {
            Some(slot) => self.allocate_slot(slot)?,
            None => self.allocate_mapping(layout)?,
        };
        self.used += grant.memory.len() as u64;
        self.allocations += 1;
        Some(grant)
    }

    fn allocate_slot(&mut self, slot: usize) -> Option<Grant> {
        let room = self.with_room.entry(slot).or_default();
        let start = match room.first() {
            Some(&start) => start,
            None => {
                let slab = Slab::new(slot).ok()?;
                let start = slab.start();
                self.slabs.insert(start, slab);
                self.mapped += slab::BYTES as u64;
                room.insert(start);
                start
            }
        };
        let slab = self.slabs.get_mut(&start)?;
        let (memory, zeroed) = slab.take()?;
        if slab.is_full() {
            room.remove(&start);
        }
        Some(Grant { memory, zeroed })
    }

    fn allocate_mapping(&mut self, layout: Layout) -> Option<Grant> {
        let size = layout.size().checked_next_multiple_of(page_size() as usize)?;
        // A buffer starts on a multiple of 2 MiB; beyond that, room to move up.
        let slack = if layout.align() as u64 > SIZE_2M { layout.align() } else { 0 };
        let mut buffer = Buffer::<u8>::zeroed(size.checked_add(slack)?).ok()?;
        let start = NonNull::from(&mut *buffer).cast::<u8>();
        let skip = start.as_ptr() as usize;
        let skip = skip.next_multiple_of(layout.align()) - skip;
        // SAFETY: `skip` is at most the slack, which the buffer is longer than `size` by.
        let start = unsafe { start.add(skip) };
        let memory = NonNull::slice_from_raw_parts(start, size);
        self.mapped += buffer.range().len();
        self.mappings.insert(start.as_ptr() as usize, Mapping { memory, owner: Box::new(buffer) });
        Some(Grant { memory, zeroed: true })
    }

    /// Takes a mapping in as an allocation that exists.
    pub(super) fn adopt(&mut self, memory: NonNull<[u8]>, owner: Box<dyn Any + Send>) {
        self.mapped += memory.len() as u64;
        self.used += memory.len() as u64;
        self.allocations += 1;
        self.mappings.insert(memory.cast::<u8>().as_ptr() as usize, Mapping { memory, owner });
    }

    /// The whole of the allocation that starts at `start`.
    pub(super) fn find(&self, start: NonNull<u8>) -> Option<NonNull<[u8]>> {
        let address = start.as_ptr() as usize;
        match self.mappings.get(&address) {
            Some(mapping) => Some(mapping.memory),
            None => self.slabs.get(&block_of(address))?.find(address),
        }
    }

    /// Takes an allocation back. What the allocator never gave out is left alone.
    pub(super) fn deallocate(&mut self, start: NonNull<u8>) -> Unused {
        let address = start.as_ptr() as usize;
        if let Some(mapping) = self.mappings.remove(&address) {
            self.allocations -= 1;
            self.used -= mapping.memory.len() as u64;
            self.mapped -= mapping.memory.len() as u64 + self.slack_of(&mapping);
            return Unused { _mapping: Some(mapping.owner), _slab: None };
        }
        let block = block_of(address);
        let Some(slab) = self.slabs.get_mut(&block) else { return Unused::default() };
        let Some(slot) = slab.give_back(address) else { return Unused::default() };
        self.allocations -= 1;
        self.used -= slot as u64;
        let room = self.with_room.entry(slot).or_default();
        let empty = slab.is_empty();
        room.insert(block);
        // One empty block of each size is kept, so that a single allocation that comes and goes maps nothing.
        if empty && room.len() > 1 {
            room.remove(&block);
            self.mapped -= slab::BYTES as u64;
            return Unused { _slab: self.slabs.remove(&block), _mapping: None };
        }
        Unused::default()
    }

    fn slack_of(&self, mapping: &Mapping) -> u64 {
        let buffer = mapping.owner.downcast_ref::<Buffer<u8>>();
        buffer.map_or(0, |buffer| buffer.range().len().saturating_sub(mapping.memory.len() as u64))
    }

    pub(super) const fn usage(&self) -> Usage {
        Usage { mapped: self.mapped, used: self.used, allocations: self.allocations }
    }
}

/// The block that an address lies in.
const fn block_of(address: usize) -> usize {
    address & !(slab::BYTES - 1)
}
