//! What is to be done next: order, chunks, and neighbours that are done together. No thread and no driver in here.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::options::{Prepare, Priority};
use crate::outcome::Observe;
use crate::range::PageRange;

/// The place of a request in the queue: by priority, then by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    priority: Reverse<Priority>,
    number: u64,
}

/// What requests must have in common to be done together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Which of the prefetcher's known targets.
    pub(super) target: usize,
    pub(super) priority: Priority,
    pub(super) observe: Observe,
    pub(super) prepare: Prepare,
    /// Bytes of one chunk: a power of two.
    pub(super) chunk: u64,
    /// Whether the budget is asked before the first chunk.
    pub(super) budgeted: bool,
}

#[derive(Debug)]
struct Entry<T> {
    task: T,
    terms: Terms,
    rest: PageRange,
    begun: bool,
    /// Waits for the budget's word on its first chunk.
    held: bool,
}

/// Requests with something left to begin.
#[derive(Debug)]
pub(super) struct Queue<T> {
    entries: BTreeMap<Ticket, Entry<T>>,
    last: u64,
}

/// One chunk to do, for one request or for several neighbours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch<T> {
    pub(super) terms: Terms,
    pub(super) parts: Vec<Part<T>>,
}

/// What one request has of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<T> {
    pub(super) ticket: Ticket,
    pub(super) task: T,
    pub(super) range: PageRange,
    /// The request's first chunk.
    pub(super) first: bool,
    /// Nothing of the request is left after it.
    pub(super) last: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), last: 0 }
    }
}

impl<T: Clone> Queue<T> {
    /// Requests with something left to begin.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn push(&mut self, task: T, range: PageRange, terms: Terms) -> Ticket {
        self.last += 1;
        let ticket = Ticket { priority: Reverse(terms.priority), number: self.last };
        self.entries.insert(ticket, Entry { task, terms, rest: range, begun: false, held: false });
        ticket
    }

    /// Takes a request out, as far as it was not begun.
    pub(super) fn remove(&mut self, ticket: Ticket) {
        self.entries.remove(&ticket);
    }

    /// Takes everything out.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        std::mem::take(&mut self.entries).into_values().map(|entry| entry.task).collect()
    }

    /// The budget has spoken: the request goes on, up to `end` and no further.
    pub(super) fn release(&mut self, ticket: Ticket, end: u64) {
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        entry.held = false;
        if entry.rest.start() >= end {
            self.entries.remove(&ticket);
        } else {
            entry.rest = PageRange::from_aligned(entry.rest.start(), entry.rest.end().min(end));
        }
    }

    /// Whether there is anything to take.
    pub(super) fn has_work(&self) -> bool {
        self.entries.values().any(|entry| !entry.held)
    }

    /// The next chunk of the first request, and whatever neighbours of it fit into one chunk together.
    pub(super) fn take(&mut self) -> Option<Batch<T>> {
        let (&ticket, entry) = self.entries.iter_mut().find(|(_, entry)| !entry.held)?;
        let terms = entry.terms;
        let piece = entry.rest.blocks(terms.chunk).next().unwrap_or(entry.rest);
        let first = !entry.begun;
        let last = piece == entry.rest;
        let task = entry.task.clone();
        if last {
            self.entries.remove(&ticket);
        } else {
            entry.rest = entry.rest.without(piece).1;
            entry.begun = true;
            entry.held = terms.budgeted && first;
        }
        let mut parts = vec![Part { ticket, task, range: piece, first, last }];
        if piece.len() < terms.chunk {
            self.absorb(piece, terms, &mut parts);
        }
        Some(Batch { terms, parts })
    }

    /// Adds requests that touch `hull` and fit into a chunk with it, none of them begun.
    fn absorb(&mut self, mut hull: PageRange, terms: Terms, parts: &mut Vec<Part<T>>) {
        let alike = self.entries.iter().filter(|(_, entry)| {
            entry.terms == terms && !entry.begun && !entry.held && entry.rest.len() <= terms.chunk
        });
        let mut near: Vec<(PageRange, Ticket)> = alike.map(|(&ticket, entry)| (entry.rest, ticket)).collect();
        near.sort_unstable();
        loop {
            let before = near.len();
            // Upward, then downward: neighbours in a row are all met in one pass.
            near.retain(|&candidate| !self.join(candidate, &mut hull, terms.chunk, parts));
            near.reverse();
            near.retain(|&candidate| !self.join(candidate, &mut hull, terms.chunk, parts));
            near.reverse();
            if near.len() == before || near.is_empty() {
                return;
            }
        }
    }

    fn join(
        &mut self,
        (range, ticket): (PageRange, Ticket),
        hull: &mut PageRange,
        chunk: u64,
        parts: &mut Vec<Part<T>>,
    ) -> bool {
        let touches = range.start() <= hull.end() && hull.start() <= range.end();
        let joined = hull.hull(range);
        if !touches || joined.len() > chunk {
            return false;
        }
        let Some(entry) = self.entries.remove(&ticket) else { return false };
        *hull = joined;
        parts.push(Part { ticket, task: entry.task, range, first: true, last: true });
        true
    }
}

/// The union of ranges as disjoint runs that do not touch, in ascending order.
pub(super) fn runs(ranges: impl IntoIterator<Item = PageRange>) -> Vec<PageRange> {
    let mut sorted: Vec<PageRange> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
    sorted.sort_unstable();
    let mut runs: Vec<PageRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match runs.last_mut() {
            Some(last) if range.start() <= last.end() => *last = last.hull(range),
            _ => runs.push(range),
        }
    }
    runs
}
