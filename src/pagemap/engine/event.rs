//! What the process does to its mappings while the device has some of their pages.
//!
//! The thread that unmaps, discards or moves memory sleeps until the engine has read the report, and the kernel moves no
//! page before that. So whatever the engine does after reading is done with the true addresses. Nothing here moves
//! pages: that waits until the engine is between two windows ([`finish_leaving`](super::Engine::finish_leaving)).

use super::node::{Node, State};
use super::request::{NodeId, Reply};
use super::{Engine, Fault};
use crate::uapi::userfaultfd::{UffdEvent, UffdMsg};

/// What happened to a range, for those who keep a list of ranges of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) number: u64,
    pub(crate) kind: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) to: u64,
}

impl Notice {
    /// Bytes in a payload.
    pub(crate) const BYTES: usize = size_of::<[u64; 5]>();

    fn store(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(bytemuck::bytes_of(&[self.number, self.kind, self.start, self.end, self.to]));
    }

    pub(crate) fn load(bytes: &[u8]) -> Self {
        let [number, kind, start, end, to] = bytemuck::pod_read_unaligned(bytes);
        Self { number, kind, start, end, to }
    }
}

pub(crate) const UNMAPPED: u64 = 1;
pub(crate) const DISCARDED: u64 = 2;
pub(crate) const MOVED: u64 = 3;

/// Addresses that no process has, for windows that have lost theirs: so many places, so far apart.
const NOWHERE: u64 = 1 << 62;
const NOWHERE_PLACES: u64 = 1 << 20;
const NOWHERE_STEP: u64 = 1 << 40;

/// Notices that are kept.
const KEPT: u64 = 4096;

/// A part of a window that moved while a copy of it was under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relocation {
    node: NodeId,
    from: u64,
    to: u64,
    len: u64,
}

impl Relocation {
    pub(super) fn concerns(&self, node: NodeId) -> bool {
        self.node == node
    }
}

impl Engine {
    pub(super) fn note(&mut self, message: &UffdMsg) {
        match message.decode() {
            UffdEvent::Pagefault { address, ptid, .. } => {
                if self.faults.push(Fault { at: address, thread: ptid }).is_err() {
                    // No memory for the list: the thread tries again.
                    self.uffd.wake(address & !(self.page - 1), self.page);
                }
            }
            // Without memory to defer it, acting at once is the lesser evil.
            _ if self.deferring && self.deferred.push(*message).is_ok() => {}
            UffdEvent::Unmap { start, end } => self.unmapped(start, end),
            UffdEvent::Remove { start, end } => self.discarded(start, end),
            UffdEvent::Remap { from, to, len } => self.moved(from, to, len),
            UffdEvent::Fork { ufd } => self.forked(ufd),
            UffdEvent::Other { .. } => {}
        }
    }

    pub(super) fn note_deferred(&mut self) {
        self.deferring = false;
        let mut at = 0;
        while let Some(message) = self.deferred.get(at).copied() {
            self.note(&message);
            at += 1;
        }
        self.deferred.clear();
    }

    fn unmapped(&mut self, start: u64, end: u64) {
        // What remains of a window stays, as the kernel keeps an allocation as long as one of its pages is there. A touch brings back
        // what lies in one mapping: the parts at both sides of the hole are windows of their own from now on.
        for edge in [start, end] {
            let cut =
                |&index: &u32| self.table[index].start < edge && self.table[index].state == State::Resident;
            if let Some(index) = self.table.at(edge).filter(cut) {
                self.split(index, edge, start, start, end - start);
            }
        }
        let mut at = start;
        while let Some(index) = self.table.overlapping(at, end) {
            at = self.end_of(index);
            let pages = self.pages_in(index, start, end);
            self.drop_pages(index, pages.clone());
            self.table[index].gone.set(pages);
            // One that is under way could not be cut: what remains of it goes back.
            self.table[index].leave = true;
            self.leave_later(index);
            self.vacate(index);
        }
        self.tell_unmapped(start, end);
    }

    /// Takes a window off its addresses of which nothing is mapped any more. It ends later, and what is moved to these addresses
    /// before that (`mremap` unmaps the place first) needs them for windows of its own.
    fn vacate(&mut self, index: u32) {
        let node = self.table[index];
        if node.state != State::Resident || node.gone.count() != node.pages {
            return;
        }
        self.uffd.wake(node.start, self.bytes(node.pages));
        self.table.remove(index);
        self.unmapped_windows += 1;
        self.table[index].start = NOWHERE + (self.unmapped_windows % NOWHERE_PLACES) * NOWHERE_STEP;
        self.table.insert(index);
    }

    /// Nobody watches these addresses any more.
    pub(super) fn tell_unmapped(&mut self, start: u64, end: u64) {
        self.cut_watches(start, end);
        self.publish(Notice { kind: UNMAPPED, start, end, ..Notice::default() });
    }

    fn discarded(&mut self, start: u64, end: u64) {
        let mut at = start;
        let mut loose = false;
        while let Some(index) = self.table.overlapping(at, end) {
            loose |= at < self.table[index].start;
            at = self.end_of(index);
            let pages = self.pages_in(index, start, end);
            for page in pages.clone() {
                if !self.table[index].device.get(page) {
                    self.table[index].stale.set(page..page + 1);
                }
            }
            self.drop_pages(index, pages.clone());
            self.table[index].poisoned.clear(pages);
            // A window that is moving in at this moment is given up; one that is there goes on without the pages.
            self.table[index].leave |= self.table[index].request != 0;
            self.leave_later(index);
        }
        if loose || at < end {
            let (low, high, _) = self.loose_discard.unwrap_or((start, end, 0));
            self.loose_discard = Some((low.min(start), high.max(end), super::now()));
        }
        self.publish(Notice { kind: DISCARDED, start, end, ..Notice::default() });
    }

    fn moved(&mut self, from: u64, to: u64, len: u64) {
        let end = from.saturating_add(len);
        for edge in [from, end] {
            if let Some(index) = self.table.at(edge).filter(|&index| self.table[index].start < edge) {
                self.split(index, edge, from, to, len);
            }
        }
        let mut at = from;
        while let Some(index) = self.table.overlapping(at, end) {
            at = self.end_of(index);
            if self.table[index].start < from || at > end {
                // A window under way that could not be split: it follows when it is done.
                continue;
            }
            self.table.remove(index);
            self.table[index].start = self.table[index].start - from + to;
            self.table[index].leave |= self.table[index].request != 0;
            self.table.insert(index);
            if self.table[index].leave {
                self.leave_later(index);
            }
        }
        self.move_watches(from, to, len);
        self.publish(Notice { kind: MOVED, start: from, end, to, ..Notice::default() });
    }

    /// Makes two windows of one. One that is being copied is split when that is done.
    fn split(&mut self, index: u32, edge: u64, from: u64, to: u64, len: u64) {
        let node = self.table[index];
        if node.state != State::Resident {
            let relocation = Relocation { node: node.id(index), from, to, len };
            let known =
                |r: &Relocation| r.node == relocation.node && (r.from, r.to, r.len) == (from, to, len);
            if !self.relocations.iter().any(known) {
                let _ = self.relocations.push(relocation);
            }
            return;
        }
        let cut = ((edge - node.start) >> self.shift) as u32;
        let upper = cut..node.pages;
        let part = Node {
            start: edge,
            pages: node.pages - cut,
            base: node.base + cut,
            device: node.device.cut(upper.clone()),
            present: node.present.cut(upper.clone()),
            wanted: node.wanted.cut(upper.clone()),
            poisoned: node.poisoned.cut(upper.clone()),
            stale: node.stale.cut(upper.clone()),
            gone: node.gone.cut(upper.clone()),
            shared: true,
            ..node
        };
        let Ok(new) = self.table.allocate(part) else {
            // No memory to describe two windows. The pages behind the edge cannot be followed.
            self.drop_pages(index, upper);
            return;
        };
        let lower = &mut self.table[index];
        lower.pages = cut;
        lower.shared = true;
        for mask in [
            &mut lower.device,
            &mut lower.present,
            &mut lower.wanted,
            &mut lower.poisoned,
            &mut lower.stale,
            &mut lower.gone,
        ] {
            mask.clear(upper.clone());
        }
        lower.leave |= lower.request != 0;
        self.table[new].leave = self.table[index].leave;
        self.table.insert(new);
        self.link_newest(new);
        if self.table[new].leave {
            self.leave_later(index);
        }
        if self.table[new].leave || part.device.is_empty() {
            self.leave_later(new);
        }
        if self.table[new].parked {
            let _ = self.parked.push(self.table[new].id(new));
        }
    }

    /// A copy is done: the window follows the parts of it that moved meanwhile. `true` if there were any.
    pub(super) fn follow_relocations(&mut self, id: NodeId) -> bool {
        let mut any = false;
        while let Some(at) = self.relocations.iter().position(|r| r.node == id) {
            let relocation = self.relocations[at];
            // Order matters, and the list is all but always empty.
            self.relocations[at..].rotate_left(1);
            self.relocations.pop();
            self.moved(relocation.from, relocation.to, relocation.len);
            self.uffd.wake(relocation.to, relocation.len);
            any = true;
        }
        any
    }

    /// Whether the address belongs to a window that will follow it there.
    pub(super) fn is_relocating(&self, at: u64) -> bool {
        self.relocations.iter().any(|r| r.to <= at && at < r.to + r.len)
    }

    pub(super) fn leave_later(&mut self, index: u32) {
        let id = self.table[index].id(index);
        if self.leaving.push(id).is_err() {
            // It stays until it is touched.
            self.table[index].leave = false;
        }
    }

    fn publish(&mut self, notice: Notice) {
        self.notices_seen += 1;
        let notice = Notice { number: self.notices_seen, ..notice };
        let place = ((self.notices_seen - 1) % KEPT) as usize;
        if place < self.notices.len() {
            self.notices[place] = notice;
        } else {
            // Without memory the readers find a gap in the numbers.
            let _ = self.notices.push(notice);
        }
    }

    /// Tells the notices after number `after`, as many as fit.
    pub(super) fn notices_after(&self, slot: usize, after: u64) -> Reply {
        let oldest = self.notices_seen.saturating_sub(KEPT);
        // A reader that has seen nothing yet starts with what comes.
        let mut next = if after == u64::MAX { self.notices_seen } else { after.max(oldest) };
        let mut lost = after != u64::MAX && next > after;
        let mut count = 0;
        self.slots.payload(slot, |payload| {
            let mut places = payload.chunks_exact_mut(Notice::BYTES);
            while next < self.notices_seen {
                match self.notices.get((next % KEPT) as usize).filter(|notice| notice.number == next + 1) {
                    Some(notice) => {
                        let Some(place) = places.next() else { break };
                        notice.store(place);
                        count += 1;
                    }
                    // There was no memory to keep it.
                    None => lost = true,
                }
                next += 1;
            }
        });
        Reply::Filled { count, next, lost }
    }
}
