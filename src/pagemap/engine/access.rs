//! What the device does to memory: reads, writes, atomic operations, at the process's addresses.

use super::node::State;
use super::request::{AtomicOp, Failure, Reply, Why};
use super::scratch::{Scratch, Standing};
use super::slots::BOUNCE;
use super::step::{Step, Work};
use super::{Engine, Stop};
use crate::error::Errno;

impl Engine {
    /// Reads or writes the device pages at the start of a range. What is system memory the asking thread accesses itself.
    pub(super) fn access(&mut self, slot: usize, work: &mut Work, at: u64, len: u64, write: bool) -> Step {
        let len = len.min(BOUNCE as u64);
        let end = at.saturating_add(len);
        let mut cursor = at;
        while cursor < end {
            let Some(index) = self.table.at(cursor) else { break };
            if self.table[index].state != State::Resident || self.table[index].is_copied() {
                if cursor > at {
                    break;
                }
                // Memory that only a driver's own operations can reach: it has to come back first.
                return match self.table[index].state {
                    State::Resident => match self.send_back(index, work) {
                        Step::Done(Reply::Unit) => Step::Again,
                        other => other,
                    },
                    _ => Step::Wait,
                };
            }
            let page = ((cursor - self.table[index].start) >> self.shift) as u32;
            if !self.table[index].device.get(page) {
                // System memory inside a window. If it is absent, the kernel could not fill it in for the asking thread.
                self.fill_with_zero(index, page);
                break;
            }
            let within = cursor & (self.page - 1);
            let piece = (self.page - within).min(end - cursor);
            if let Err(Stop::Failed(errno)) = self.ensure_present(index, page) {
                let failure = Failure { errno, why: Why::Mapping, start: cursor, end };
                return Step::Done(Reply::Failed(failure));
            }
            let offset = self.bytes(self.table[index].base + page) + within;
            let place = (cursor - at) as usize..(cursor - at + piece) as usize;
            if let Some(pool) = self.region(self.table[index].region).and_then(|region| region.pool.as_ref())
            {
                self.slots.payload(slot, |payload| {
                    let payload = &mut payload[place];
                    if write { pool.write(offset, payload) } else { pool.read(offset, payload) }
                });
            }
            if cursor == at {
                self.touch(index);
            }
            cursor += piece;
        }
        let system = match self.table.overlapping(cursor, end) {
            // At least to the end of the page, if it is a page of the window that is system memory.
            Some(index) if self.table[index].start <= cursor => {
                (self.page - (cursor & (self.page - 1))).min(end - cursor)
            }
            Some(index) => self.table[index].start - cursor,
            None => end - cursor,
        };
        Step::Done(Reply::Accessed { device: cursor - at, system })
    }

    /// Makes the pool page of a device page one that can be touched.
    fn ensure_present(&mut self, index: u32, page: u32) -> Result<(), Stop> {
        if self.table[index].present.get(page) {
            return Ok(());
        }
        let Some(at) = self.pool_address(index, page) else { return Err(Stop::Failed(Errno::ENODEV)) };
        let mut round = 0;
        loop {
            match self.uffd.zero(at, self.page) {
                Ok(()) | Err((_, Errno::EEXIST)) => break,
                // Nothing is going to happen to the pool, and the window is looked at again below.
                Err((_, Errno::EAGAIN)) => {
                    self.deferring = true;
                    self.let_mappings_settle(round);
                    round += 1;
                }
                Err((_, errno)) => {
                    self.note_deferred();
                    return Err(Stop::Failed(errno));
                }
            }
        }
        self.table[index].present.set(page..page + 1);
        self.note_deferred();
        Ok(())
    }

    /// An atomic operation, on device memory or, by taking the page away from everybody for a moment, on system memory.
    pub(super) fn atomic(
        &mut self,
        work: &mut Work,
        at: u64,
        bytes: u32,
        op: AtomicOp,
        operand: u64,
        expected: u64,
    ) -> Step {
        let fail = |errno, why| {
            Step::Done(Reply::Failed(Failure { errno, why, start: at, end: at + u64::from(bytes) }))
        };
        if !matches!(bytes, 4 | 8) || at % u64::from(bytes) != 0 {
            return fail(Errno::EINVAL, Why::BadAtomic);
        }
        let page_at = at & !(self.page - 1);
        let within = at - page_at;
        if let Some(index) = self.table.at(at) {
            let node = &self.table[index];
            let page = ((page_at - node.start) >> self.shift) as u32;
            if node.state != State::Resident {
                return Step::Wait;
            }
            if node.is_copied() && node.device.get(page) {
                return match self.send_back(index, work) {
                    Step::Done(Reply::Unit) => Step::Again,
                    other => other,
                };
            }
            if node.device.get(page) {
                if let Err(Stop::Failed(errno)) = self.ensure_present(index, page) {
                    return fail(errno, Why::Mapping);
                }
                let (region, offset) =
                    (self.table[index].region, self.bytes(self.table[index].base + page) + within);
                let pool = self.region(region).and_then(|region| region.pool.as_ref());
                let old = pool.and_then(|pool| pool.atomic(offset, bytes, op, operand, expected));
                self.touch(index);
                return old.map_or(fail(Errno::EINVAL, Why::BadAtomic), |old| Step::Done(Reply::Number(old)));
            }
        }
        if self.is_own(page_at, page_at + self.page) {
            return fail(Errno::EBUSY, Why::OwnMemory);
        }
        match self
            .exclusively(page_at, |pool| pool.atomic(Scratch::PAGE + within, bytes, op, operand, expected))
        {
            Ok(Some(old)) => Step::Done(Reply::Number(old)),
            Ok(None) => fail(Errno::EINVAL, Why::BadAtomic),
            Err(Stop::Events) => Step::Again,
            Err(Stop::Failed(errno)) => fail(errno, Why::Move),
        }
    }

    /// Takes one page of system memory away from everybody, lets `act` have it in the scratch pool, and puts it back: what
    /// `make_device_exclusive` is for in the kernel.
    fn exclusively<T>(&mut self, at: u64, act: impl FnOnce(&super::pool::Pool) -> T) -> Result<T, Stop> {
        let scratch = self.scratch_address().map_err(Stop::Failed)?;
        let in_window = self.table.at(at).is_some();
        if !in_window {
            self.register_window(at, self.page).map_err(Stop::Failed)?;
        }
        let result = match self.uffd.move_pages(scratch, at, self.page) {
            // Nothing else puts anything into the scratch page: moved, though the kernel does not say so.
            Ok(()) | Err((_, Errno::EEXIST)) => Ok(()),
            // A hole, unless nothing is mapped there.
            Err((_, Errno::ENOENT)) => match self.standing(at, self.page) {
                Standing::Ours => Ok(()),
                Standing::Changing => Err(Errno::EAGAIN),
                Standing::NotOurs => Err(Errno::ENOENT),
            },
            Err((_, errno)) => Err(errno),
        };
        let value = match result {
            Ok(()) => {
                // If it was a hole, there is nothing in the scratch page yet.
                let mut round = 0;
                while let Err((_, Errno::EAGAIN)) = self.uffd.zero(scratch, self.page) {
                    self.deferring = true;
                    self.let_mappings_settle(round);
                    round += 1;
                }
                let value = self.scratch.as_ref().map(|scratch| act(scratch.pool()));
                self.put_back(scratch, at);
                value.ok_or(Stop::Failed(Errno::ENOMEM))
            }
            Err(Errno::EAGAIN) => Err(Stop::Events),
            Err(errno) => Err(Stop::Failed(errno)),
        };
        if in_window {
            self.uffd.wake(at, self.page);
        } else {
            self.release_page(scratch, at);
        }
        self.note_deferred();
        value
    }

    /// Ends the registration of one page. As with a window ([`finish`](Self::finish)), a discard on its way is completed first.
    fn release_page(&mut self, scratch: u64, at: u64) {
        self.end_window_registration(at, self.page);
        let mut round = 0;
        while self.uffd.is_changing() {
            self.deferring = true;
            let _ = self.register_window(at, self.page);
            self.let_mappings_settle(round);
            round += 1;
            if self.deferred_change(at) == Some(None) {
                while let Err((_, Errno::EAGAIN)) = self.uffd.move_pages(scratch, at, self.page) {
                    self.let_mappings_settle(round);
                    round += 1;
                }
                self.empty_scratch();
            }
            self.end_window_registration(at, self.page);
        }
    }

    /// Moves the scratch page to `at`, unless the process unmapped or discarded `at` meanwhile.
    fn put_back(&mut self, scratch: u64, at: u64) {
        let mut round = 0;
        loop {
            match self.uffd.move_pages(at, scratch, self.page) {
                Ok(()) => return,
                Err((_, Errno::EAGAIN)) => {
                    self.deferring = true;
                    self.let_mappings_settle(round);
                    round += 1;
                    if let Some(gone) = self.deferred_change(at) {
                        let Some(now_at) = gone else { return self.empty_scratch() };
                        return self.put_back(scratch, now_at);
                    }
                }
                // Made read-only meanwhile: a copy still gets there.
                Err((_, Errno::EINVAL | Errno::EBUSY)) if self.uffd.copy(at, scratch, self.page).is_ok() => {
                    return self.empty_scratch();
                }
                Err(_) => return self.empty_scratch(),
            }
        }
    }

    /// What the reports read since the page was taken say of `at`: nothing, gone, or moved.
    fn deferred_change(&self, at: u64) -> Option<Option<u64>> {
        use crate::uapi::userfaultfd::UffdEvent as Event;
        self.deferred.iter().find_map(|message| match message.decode() {
            Event::Unmap { start, end } | Event::Remove { start, end } if start <= at && at < end => {
                Some(None)
            }
            Event::Remap { from, to, len } if from <= at && at < from + len => Some(Some(at - from + to)),
            _ => None,
        })
    }
}
