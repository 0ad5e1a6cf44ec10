//! One window: a piece of the address space whose pages are a device's, all in one allocation.

use super::mask::Mask;
use super::request::{NodeId, RegionId};
use super::treap::{Link, NIL};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// On the free list.
    Free,
    /// In device memory.
    Resident,
    /// Copy mode: on the way in, pages in staging memory.
    CopyIn,
    /// Copy mode: on the way out; a copy thread has it, or will.
    CopyOut,
}

/// The counterpart of a `struct drm_pagemap_devmem` with the `zdd` references of its pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// First address.
    pub(super) start: u64,
    pub(super) pages: u32,
    pub(super) region: RegionId,
    /// First page: in the region, or in copy mode within the allocation.
    pub(super) base: u32,
    pub(super) serial: u64,
    pub(super) state: State,
    /// Pages whose contents are the device's: the references that keep the allocation.
    pub(super) device: Mask,
    /// Those of them that are known to have a page in the pool; the others may be holes, which read as zero.
    pub(super) present: Mask,
    /// Pages somebody waits for.
    pub(super) wanted: Mask,
    /// Pages marked with `UFFDIO_POISON`.
    pub(super) poisoned: Mask,
    /// Pages of system memory inside the window that the process is discarding at this moment.
    pub(super) stale: Mask,
    /// Pages that are unmapped: their addresses are somebody else's by now, perhaps.
    pub(super) gone: Mask,
    /// Monotonic nanoseconds before which a CPU touch does not bring the window back; 0 for none.
    pub(super) expires: u64,
    /// A thread waits for the expiry.
    pub(super) parked: bool,
    /// Part of the range was unmapped: the rest is to go back.
    pub(super) leave: bool,
    /// The pool pages may hold something although no page is the device's.
    pub(super) dirty: bool,
    /// Set while the request that made the node can still undo it; 0 otherwise.
    pub(super) request: u64,
    /// Copy mode: the allocation; 0 in move mode.
    pub(super) token: u64,
    /// Copy mode: other windows may hold parts of the allocation.
    pub(super) shared: bool,
    /// Copy mode: staging slot in use.
    pub(super) staging: u32,
    /// Copy mode: the thread that copies.
    pub(super) copier: u32,
    /// Failed ways out, and the errno of the last.
    pub(super) failures: u32,
    pub(super) errno: i32,
    /// In the tree, or `left` alone on the free list.
    pub(super) link: Link,
    /// Order of use.
    pub(super) older: u32,
    pub(super) newer: u32,
}

impl Node {
    pub(super) const FREE: Self = Self {
        start: 0,
        pages: 0,
        region: 0,
        base: 0,
        serial: 0,
        state: State::Free,
        device: Mask::EMPTY,
        present: Mask::EMPTY,
        wanted: Mask::EMPTY,
        poisoned: Mask::EMPTY,
        stale: Mask::EMPTY,
        gone: Mask::EMPTY,
        expires: 0,
        parked: false,
        leave: false,
        dirty: false,
        request: 0,
        token: 0,
        shared: false,
        staging: NIL,
        copier: 0,
        failures: 0,
        errno: 0,
        link: Link::NONE,
        older: NIL,
        newer: NIL,
    };

    pub(super) fn id(&self, index: u32) -> NodeId {
        NodeId { index, serial: self.serial }
    }

    pub(super) fn is_copied(&self) -> bool {
        self.token != 0
    }
}
