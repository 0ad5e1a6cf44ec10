//! Copy mode: pages move through staging memory, and somebody else's operations copy between there and the device.
//!
//! The staging memory is what makes the copy consistent. On the way in, the pages are *moved* there first: nobody can touch
//! them while they are copied, and on failure the very same pages go back. On the way out they are copied there, and then
//! moved to their place at once. The operations run in other threads, so they may touch whatever they like.

use std::os::fd::AsFd;

use super::mask::{MAX_PAGES, Mask};
use super::node::{Node, State};
use super::pool::Pool;
use super::request::{Failure, Populate, Reply, Why};
use super::step::{Step, Work};
use super::treap::NIL;
use super::{Engine, Stop, now};
use crate::error::Errno;
use crate::range::SIZE_2M;

/// Copies that can be under way at a time.
const COPIES: u32 = 16;

/// Memory that pages pass through, in slots of 2 MiB.
#[derive(Debug)]
pub(super) struct Staging {
    /// On the way in: registered, because pages are moved to it.
    into: Pool,
    /// On the way out: not registered, so that it fills like ordinary memory.
    out: Pool,
    used: u32,
}

impl Staging {
    pub(super) fn pools(&self) -> [&Pool; 2] {
        [&self.into, &self.out]
    }

    pub(super) fn unregister(&mut self, uffd: &super::uffd::Uffd) {
        self.into.unregister(uffd);
    }

    fn take(&mut self) -> Option<u32> {
        let slot = (!self.used).trailing_zeros();
        if slot >= COPIES {
            return None;
        }
        self.used |= 1 << slot;
        Some(slot)
    }
}

fn offset(slot: u32) -> u64 {
    u64::from(slot) * SIZE_2M
}

impl Engine {
    /// The first half of the way in. The pages are in staging memory afterwards, the payload tells which exist.
    pub(super) fn begin_copy(
        &mut self,
        work: &mut Work,
        request_slot: usize,
        p: &Populate,
        token: u64,
    ) -> Step {
        if self.frozen > 0 {
            return Step::Wait;
        }
        let fail = |errno, why| Step::Done(Reply::Failed(Failure { errno, why, start: p.start, end: p.end }));
        if self.region(p.region).is_none_or(|region| region.removed) {
            return fail(Errno::ENODEV, Why::Removed);
        }
        let pages = (p.end - p.start) >> self.shift;
        if pages == 0 || pages > u64::from(MAX_PAGES) {
            return fail(Errno::EINVAL, Why::TooLarge);
        }
        if let Some(step) = self.refuse_overlap(p) {
            return step;
        }
        if let Err(why) = self.check_window(p, p.start, p.end) {
            return fail(Errno::EBUSY, why);
        }
        let strikes = self.region_mut(p.region).is_some_and(|region| region.injection.allocation.strikes());
        if strikes {
            return fail(Errno::ENOSPC, Why::Injected);
        }
        let slot = match self.take_staging() {
            Ok(Some(slot)) => slot,
            Ok(None) => return Step::Wait,
            Err(errno) => return fail(errno, Why::Mapping),
        };
        let node = Node {
            start: p.start,
            pages: pages as u32,
            region: p.region,
            staging: slot,
            request: work.serial,
            state: State::CopyIn,
            ..Node::FREE
        };
        let index = match self.open_window(node) {
            Ok(index) => index,
            Err(failure) => {
                self.release_slot(slot);
                return Step::Done(Reply::Failed(failure));
            }
        };
        let outcome = self.move_in(index, p);
        let raced = self.table[index].leave || self.table[index].device.is_empty();
        if raced || outcome.is_err() {
            self.count(p.region, |c| c.rollbacks += 1);
            self.cancel_copy(index);
            let failure = outcome.err().map(|failure| Step::Done(Reply::Failed(failure)));
            return failure.unwrap_or(fail(Errno::EBUSY, Why::Raced));
        }
        let present = match &self.staging {
            Some(staging) => {
                let pagemap = self.pagemap.as_ref().map(|fd| fd.as_fd());
                staging.into.present(pagemap, offset(slot), pages as u32, self.page).0
            }
            None => Mask::EMPTY,
        };
        let timeslice = p.timeslice_ns;
        let node = &mut self.table[index];
        node.present = present;
        node.request = 0;
        node.token = token;
        node.expires = timeslice;
        let id = node.id(index);
        self.slots.payload(request_slot, |payload| present.store(payload));
        let staging = self.pool_address(index, 0).unwrap_or(0);
        Step::Done(Reply::Staged { node: id, staging })
    }

    fn refuse_overlap(&self, p: &Populate) -> Option<Step> {
        let mut at = p.start;
        let mut already = 0;
        let mut any = false;
        while let Some(index) = self.table.overlapping(at, p.end) {
            let node = &self.table[index];
            if node.state != State::Resident {
                return Some(Step::Wait);
            }
            any = true;
            if node.region == p.region {
                already += self.bytes(node.device.count_in(self.pages_in(index, p.start, p.end)));
            }
            at = self.end_of(index);
        }
        if !any {
            return None;
        }
        if already == p.end - p.start {
            let progress = super::Progress { cursor: p.end, already, ..Default::default() };
            return Some(Step::Done(Reply::Progress(progress)));
        }
        let failure = Failure { errno: Errno::EBUSY, why: Why::Fragmented, start: p.start, end: p.end };
        Some(Step::Done(Reply::Failed(failure)))
    }

    /// The second half: the device has the contents, or the pages go back.
    pub(super) fn end_copy(&mut self, index: u32, result: Result<(), Errno>) -> Reply {
        if result.is_err() {
            let region = self.table[index].region;
            self.count(region, |c| c.rollbacks += 1);
            self.cancel_copy(index);
            return Reply::Unit;
        }
        self.free_staging(index);
        let node = &mut self.table[index];
        let id = node.id(index);
        node.state = State::Resident;
        node.expires = if node.expires == 0 { 0 } else { now().saturating_add(node.expires) };
        let (region, device) = (node.region, node.device);
        let holes = device.count() - node.present.count();
        let progress = super::Progress {
            cursor: self.end_of(index),
            moved: self.bytes(device.count()),
            holes: self.bytes(holes),
            ..Default::default()
        };
        self.count(region, |c| {
            c.windows_in += 1;
            c.bytes_in += progress.moved;
            c.bytes_holes += progress.holes;
        });
        let (start, len) = (self.table[index].start, self.bytes(self.table[index].pages));
        self.uffd.wake(start, len);
        self.follow_relocations(id);
        if self.table[index].device.is_empty() || self.table[index].leave {
            self.leave_later(index);
        }
        Reply::Progress(progress)
    }

    /// Undoes the first half. The allocation stays with whoever brought it.
    fn cancel_copy(&mut self, index: u32) {
        let node = &mut self.table[index];
        let id = node.id(index);
        node.token = 0;
        node.expires = 0;
        node.state = State::Resident;
        self.follow_relocations(id);
        self.leave_staging(index);
    }

    /// Moves the pages of a window from staging memory to their place. What cannot go there raises `SIGBUS`.
    fn leave_staging(&mut self, index: u32) {
        let mut round = 0;
        loop {
            match self.give_back_pages(index) {
                Ok(()) => return self.finish(index),
                Err(Stop::Events) => self.let_mappings_settle(round),
                Err(Stop::Failed(_)) => return self.abandon(index),
            }
            round += 1;
        }
    }

    /// The way out: from now on the window waits for a copy thread.
    pub(super) fn start_copy_out(&mut self, index: u32) {
        let id = self.table[index].id(index);
        if self.jobs.push(id).is_ok() {
            self.table[index].state = State::CopyOut;
            self.stirred = true;
        } else {
            self.fail_copy_out(index, Errno::ENOMEM);
        }
    }

    /// Gives a copy thread something to do.
    pub(super) fn take_job(&mut self, request_slot: usize, thread: u32) -> Step {
        if let Some(token) = self.releases.pop() {
            return Step::Done(Reply::Release { token });
        }
        if self.closing {
            return Step::Done(Reply::Closed);
        }
        while let Some(&id) = self.jobs.first() {
            let Some(index) = self.table.find(id).filter(|&index| self.table[index].state == State::CopyOut)
            else {
                self.next_job();
                continue;
            };
            let slot = match self.take_staging() {
                Ok(Some(slot)) => slot,
                Ok(None) => return Step::Wait,
                Err(errno) => {
                    self.next_job();
                    self.fail_copy_out(index, errno);
                    continue;
                }
            };
            self.next_job();
            let node = &mut self.table[index];
            node.staging = slot;
            node.copier = thread;
            let (token, pages, base) = (node.token, node.pages, node.base);
            let device = node.device;
            self.slots.payload(request_slot, |payload| device.store(payload));
            let staging = self.pool_address(index, 0).unwrap_or(0);
            return Step::Done(Reply::Job { node: index, token, staging, pages, base });
        }
        Step::Wait
    }

    fn next_job(&mut self) {
        self.jobs.rotate_left(1);
        self.jobs.pop();
    }

    /// A copy thread is done: the pages go to their place.
    pub(super) fn end_job(&mut self, index: u32, result: Result<(), Errno>) -> Reply {
        let id = self.table[index].id(index);
        self.table[index].copier = 0;
        if let Err(errno) = result {
            self.fail_copy_out(index, errno);
            self.follow_relocations(id);
            return Reply::Unit;
        }
        if self.relocations.iter().any(|r| r.concerns(id)) {
            // What was copied belongs to several windows by now: once more, for each.
            self.table[index].state = State::Resident;
            self.free_staging(index);
            self.table[index].leave = true;
            self.follow_relocations(id);
            self.leave_later(index);
            return Reply::Unit;
        }
        let region = self.table[index].region;
        let mut round = 0;
        loop {
            match self.give_back_pages(index) {
                Ok(()) => {
                    self.count(region, |c| c.windows_out += 1);
                    self.finish(index);
                    return Reply::Unit;
                }
                Err(Stop::Events) => self.let_mappings_settle(round),
                Err(Stop::Failed(errno)) => {
                    self.fail_copy_out(index, errno);
                    return Reply::Unit;
                }
            }
            round += 1;
        }
    }

    /// The window stays with the device; those who touched it get `SIGBUS`.
    fn fail_copy_out(&mut self, index: u32, errno: Errno) {
        self.free_staging(index);
        self.stirred = true;
        let node = &mut self.table[index];
        node.state = State::Resident;
        node.failures += 1;
        node.errno = errno.raw();
        let wanted = std::mem::replace(&mut node.wanted, Mask::EMPTY);
        let mut at = 0;
        while let Some(run) = wanted.next_run(at, self.table[index].pages) {
            at = run.end;
            for page in run {
                if self.table[index].device.get(page) {
                    self.poison_page(index, page);
                }
            }
        }
        let (start, len) = (self.table[index].start, self.bytes(self.table[index].pages));
        self.uffd.wake(start, len);
        if self.table[index].device.is_empty() {
            self.leave_later(index);
        }
    }

    pub(super) fn is_copier_of(&self, index: u32, thread: u32) -> bool {
        thread != 0 && self.table[index].copier == thread
    }

    fn take_staging(&mut self) -> Result<Option<u32>, Errno> {
        if self.staging.is_none() {
            let mut into = Pool::new(offset(COPIES))?;
            let out = Pool::new(offset(COPIES))?;
            into.register(&self.uffd)?;
            self.staging = Some(Staging { into, out, used: 0 });
        }
        Ok(self.staging.as_mut().and_then(Staging::take))
    }

    fn release_slot(&mut self, slot: u32) {
        if let Some(staging) = &mut self.staging {
            staging.used &= !(1 << slot);
            self.stirred = true;
        }
    }

    /// Empties and frees the staging slot of a window, unless another window still has pages there.
    pub(super) fn free_staging(&mut self, index: u32) {
        let (slot, shared) = (self.table[index].staging, self.table[index].shared);
        let state = self.table[index].state;
        self.table[index].staging = NIL;
        if slot == NIL || (shared && self.table.nodes().any(|node| node.staging == slot)) {
            return;
        }
        let Some(staging) = &self.staging else { return };
        if state == State::CopyOut {
            staging.out.discard(offset(slot), SIZE_2M);
        } else if staging.into.empty(&self.uffd, offset(slot), SIZE_2M).is_err() {
            // Not empty, so not to be used again.
            return;
        }
        self.release_slot(slot);
    }

    /// The staging memory of a window with a slot, and where its page 0 is in there.
    pub(super) fn staging_of(&self, node: &Node) -> Option<(&Pool, u64)> {
        let staging = self.staging.as_ref()?;
        let pool = if node.state == State::CopyOut { &staging.out } else { &staging.into };
        Some((pool, offset(node.staging) + self.bytes(node.base)))
    }

    /// Whether any page of the allocation is still in use.
    pub(super) fn holds(&self, token: u64) -> bool {
        self.table.nodes().any(|node| node.token == token)
    }
}
