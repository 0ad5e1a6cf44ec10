//! Keeping what the device has visible to a forked child.
//!
//! A child inherits the page tables, not the engine: where the parent's page is in device memory the child would find
//! nothing, that is, zeroes. So everything goes back before a `fork`, and stays back until it is over. Where the
//! kernel reports forks (that takes a privilege) the child's copy is filled as well, which covers forks that bypass
//! the C library.

use super::node::State;
use super::request::Reply;
use super::step::{Step, Work};
use super::treap::NIL;
use super::uffd::Uffd;
use super::{Engine, now};
use crate::error::Errno;

/// How long a fork waits for copies under way.
const PATIENCE_NS: u64 = 1_000_000_000;

impl Engine {
    /// Before a fork: sends everything back. What cannot go back is withheld from the child, which gets `SIGSEGV` and not
    /// zeroes if it looks there.
    pub(super) fn freeze(&mut self, work: &mut Work) -> Step {
        if !work.begun {
            work.begun = true;
            self.frozen += 1;
        }
        let Some(index) = self.table.ending_after(work.progress.cursor) else {
            return Step::Done(Reply::Unit);
        };
        let end = self.end_of(index);
        if self.table[index].state == State::Resident {
            match self.send_back(index, work) {
                Step::Done(Reply::Failed(_)) => {}
                Step::Done(_) => return Step::Again,
                Step::Wait => return self.wait_a_while(work, index, end),
                Step::Again => return Step::Again,
            }
            self.hide(index);
            work.progress.cursor = end;
            return Step::Again;
        }
        self.wait_a_while(work, index, end)
    }

    fn wait_a_while(&mut self, work: &mut Work, index: u32, end: u64) -> Step {
        let limit = work.since + PATIENCE_NS;
        if now() < limit {
            self.deadline = self.deadline.min(limit);
            return Step::Wait;
        }
        self.hide(index);
        work.progress.cursor = end;
        Step::Again
    }

    fn hide(&mut self, index: u32) {
        let (start, end) = (self.table[index].start, self.end_of(index));
        if self.hidden.push((start, end)).is_ok() {
            self.advise_fork(start, end, rustix::mm::Advice::LinuxDontFork);
        }
    }

    pub(super) fn thaw(&mut self) -> Reply {
        self.frozen = self.frozen.saturating_sub(1);
        if self.frozen == 0 {
            while let Some((start, end)) = self.hidden.pop() {
                self.advise_fork(start, end, rustix::mm::Advice::LinuxDoFork);
            }
        }
        Reply::Unit
    }

    fn advise_fork(&self, start: u64, end: u64, advice: rustix::mm::Advice) {
        // SAFETY: changes what children inherit of the range, nothing in this process. Fails where nothing is mapped.
        let _ = unsafe { rustix::mm::madvise(start as *mut _, (end - start) as usize, advice) };
    }

    /// A fork that nobody announced: gives the child a copy of what the device has.
    ///
    /// The forking thread waits until the report is read, and no page moves before, so the device still has what it had.
    pub(super) fn forked(&mut self, descriptor: u32) {
        // SAFETY: the descriptor is that of the event just decoded, which is decoded once.
        let child = unsafe { Uffd::of_child(descriptor, &self.uffd) };
        let outer = std::mem::replace(&mut self.deferring, true);
        let mut at = 0;
        while let Some(index) = self.table.ending_after(at) {
            at = self.end_of(index);
            self.fill_child(&child, index);
            let (start, len) = (self.table[index].start, self.bytes(self.table[index].pages));
            let _ = child.unregister(start, len);
        }
        if !outer {
            self.note_deferred();
        }
        // Dropping the descriptor makes what else the child inherited of the registrations ordinary memory.
    }

    fn fill_child(&mut self, child: &Uffd, index: u32) {
        let mut from = 0;
        while let Some(run) = self.table[index].device.next_run(from, self.table[index].pages) {
            from = run.end;
            for page in run {
                let at = self.table[index].start + self.bytes(page);
                let reachable = !self.table[index].is_copied() && self.table[index].staging == NIL;
                let Some(src) = self.pool_address(index, page).filter(|_| reachable) else {
                    // Only a driver's own operations have the contents: better a signal than zeroes.
                    let _ = child.poison(at, self.page);
                    continue;
                };
                if self.pool_page_exists(index, page, src) {
                    let _ = child.copy(at, src, self.page);
                }
            }
        }
    }

    fn pool_page_exists(&mut self, index: u32, page: u32, address: u64) -> bool {
        if self.table[index].present.get(page) {
            return true;
        }
        let mut round = 0;
        loop {
            match self.uffd.zero(address, self.page) {
                Ok(()) => {
                    self.table[index].dirty = true;
                    self.table[index].present.set(page..page + 1);
                    return false;
                }
                Err((_, Errno::EAGAIN)) => self.let_mappings_settle(round),
                Err(_) => return true,
            }
            round += 1;
        }
    }
}
