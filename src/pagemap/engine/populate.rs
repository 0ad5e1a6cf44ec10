//! The way into device memory: `drm_pagemap_migrate_to_devmem`.

use std::ops::{ControlFlow, Range};
use std::os::fd::AsFd;

use super::mask::Mask;
use super::node::{Node, State};
use super::pool::is_huge;
use super::request::{Collect, Cut, Failure, Populate, Reply, Why};
use super::scratch::Standing;
use super::step::{Step, Work};
use super::{Engine, now, sleep_for};
use crate::error::Errno;
use crate::range::{SIZE_2M, SIZE_64K};

/// What became of one window.
struct Taken {
    moved: u64,
    holes: u64,
    refused: u64,
}

impl Engine {
    /// One step of a request: at most one window moves in, or one moves out to make room.
    pub(super) fn populate(&mut self, work: &mut Work, p: &Populate) -> Step {
        if self.frozen > 0 {
            return Step::Wait;
        }
        let at = work.progress.cursor.max(p.start);
        if at >= p.end {
            self.settle_request(work, p, true);
            return Step::Done(Reply::Progress(work.progress));
        }
        let gone = self.region(p.region).is_none_or(|region| region.removed || region.pool.is_none());
        if gone {
            return self.stop(work, p, at, p.end, Errno::ENODEV, Why::Removed);
        }
        if !work.begun && p.collect == Collect::Request {
            if let Some(step) = self.refuse_fragments(work, p) {
                return step;
            }
        }
        work.begun = true;
        match self.table.at(at) {
            Some(index) => self.populate_over(work, p, index, at),
            None => self.populate_free(work, p, at),
        }
    }

    /// All or nothing over a range starts with nothing, or ends at once with all: what is partly in the region is refused.
    fn refuse_fragments(&mut self, work: &mut Work, p: &Populate) -> Option<Step> {
        let mut at = p.start;
        let mut already = 0;
        while let Some(index) = self.table.overlapping(at, p.end) {
            at = self.end_of(index);
            let node = &self.table[index];
            if node.state != State::Resident {
                return Some(Step::Wait);
            }
            if node.region == p.region {
                already += self.bytes(node.device.count_in(self.pages_in(index, p.start, p.end)));
                self.touch(index);
            }
        }
        if already == 0 {
            return None;
        }
        if already < p.end - p.start {
            return Some(self.stop(work, p, p.start, p.end, Errno::EBUSY, Why::Fragmented));
        }
        work.progress.already = already;
        work.progress.cursor = p.end;
        Some(Step::Done(Reply::Progress(work.progress)))
    }

    /// A piece of the range belongs to a window already.
    fn populate_over(&mut self, work: &mut Work, p: &Populate, index: u32, at: u64) -> Step {
        let node = self.table[index];
        let end = self.end_of(index).min(p.end);
        if node.state != State::Resident {
            return Step::Wait;
        }
        let pages = self.pages_in(index, at, end);
        let whole = node.device.count_in(pages.clone()) == pages.end - pages.start;
        if node.region == p.region && whole {
            self.touch(index);
            work.progress.already += end - at;
            work.progress.cursor = end;
            return Step::Again;
        }
        if node.region != p.region
            && whole
            && node.start == at
            && self.end_of(index) == end
            && !node.is_copied()
        {
            return match self.make_room(work, p, node.pages) {
                ControlFlow::Break(step) => step,
                ControlFlow::Continue(base) => {
                    self.transfer(work, p, index, base);
                    Step::Again
                }
            };
        }
        match self.send_back(index, work) {
            Step::Done(Reply::Failed(failure)) => self.refuse(work, p, end, failure),
            Step::Done(_) => Step::Again,
            other => other,
        }
    }

    /// A piece of the range is system memory, up to the next window.
    fn populate_free(&mut self, work: &mut Work, p: &Populate, at: u64) -> Step {
        let next = self.table.ending_after(at).map_or(u64::MAX, |index| self.table[index].start);
        let end = self.window_end(p.cut, at, p.end.min(next));
        if let Err(why) = self.check_window(p, at, end) {
            return self.stop(work, p, at, end, Errno::EBUSY, why);
        }
        let pages = ((end - at) >> self.shift) as u32;
        let base = match self.make_room(work, p, pages) {
            ControlFlow::Continue(base) => base,
            ControlFlow::Break(step) => return step,
        };
        // Evicting lets events in, and other windows with them.
        if self.table.overlapping(at, end).is_some() {
            self.give_pages(p.region, base, pages);
            return Step::Again;
        }
        match self.take_in(work.serial, p, at, pages, base) {
            Ok(taken) => {
                work.progress.moved += taken.moved;
                work.progress.holes += taken.holes;
                work.progress.refused += taken.refused;
                work.progress.cursor = end;
                Step::Again
            }
            Err(failure) => self.refuse(work, p, end, failure),
        }
    }

    /// Ends the window that starts at `at`, at or before `limit`.
    fn window_end(&self, cut: Cut, at: u64, limit: u64) -> u64 {
        let unit = match cut {
            Cut::Natural => [SIZE_2M, SIZE_64K]
                .into_iter()
                .find(|&size| size >= self.page && at % size == 0 && limit - at >= size)
                .unwrap_or(self.page),
            Cut::Blocks(unit) => unit.clamp(self.page, SIZE_2M),
        };
        ((at & !(unit - 1)) + unit).min(limit)
    }

    pub(super) fn check_window(&self, p: &Populate, start: u64, end: u64) -> Result<(), Why> {
        if self.is_own(start, end) {
            return Err(Why::OwnMemory);
        }
        let (low, high) = p.stack;
        if start < high && low < end {
            return Err(Why::CallerStack);
        }
        Ok(())
    }

    /// Allocates device memory, evicting the oldest windows one step at a time.
    fn make_room(&mut self, work: &mut Work, p: &Populate, pages: u32) -> ControlFlow<Step, u32> {
        let (at, end) = (work.progress.cursor.max(p.start), p.end);
        let Some(region) = self.region_mut(p.region) else {
            return ControlFlow::Break(self.stop(work, p, at, end, Errno::ENODEV, Why::Removed));
        };
        if region.injection.allocation.strikes() {
            return ControlFlow::Break(self.stop(work, p, at, end, Errno::ENOSPC, Why::Injected));
        }
        let windows = region.windows;
        if let Some(base) = region.blocks.as_mut().and_then(|blocks| blocks.take(pages)) {
            work.stubborn = 0;
            return ControlFlow::Continue(base);
        }
        let Some(victim) = self.oldest_evictable(p.region).filter(|_| work.stubborn < windows) else {
            return ControlFlow::Break(self.stop(work, p, at, end, Errno::ENOSPC, Why::Full));
        };
        let (progress, pending) = (work.progress, work.pending);
        let step = self.evict_window(work, victim);
        (work.progress, work.pending) = (progress, pending);
        ControlFlow::Break(match step {
            Step::Done(Reply::Stopped(..)) => {
                // As TTM does: one that will not go is no reason not to try the next.
                work.stubborn += 1;
                self.touch(victim);
                Step::Again
            }
            Step::Done(_) => Step::Again,
            other => other,
        })
    }

    /// Makes a whole block fit for the huge page at `start`, if there is one.
    fn prepare_block(&mut self, region: u32, base: u32, pages: u32, start: u64) {
        let (offset, whole) = (self.bytes(base), self.bytes(pages) == SIZE_2M);
        let pagemap = self.pagemap.as_ref().map(|fd| fd.as_fd());
        let Some(region) = self.regions.iter_mut().flatten().find(|r| r.id == region) else { return };
        let (Some(pool), Some(blocks)) = (&region.pool, &mut region.blocks) else { return };
        if whole && blocks.is_used(base) && is_huge(pagemap, start, self.page) {
            // If it fails, a huge page is split on its way in, or the move tells why it cannot be.
            let _ = pool.renew(&self.uffd, offset);
        }
        // Until it is known to be one huge page.
        blocks.set_used(base, true);
    }

    fn give_pages(&mut self, region: u32, base: u32, pages: u32) {
        if let Some(blocks) = self.region_mut(region).and_then(|region| region.blocks.as_mut()) {
            blocks.give(base, pages);
        }
    }

    /// Moves one window in, all of it or (unless best effort) nothing.
    fn take_in(
        &mut self,
        serial: u64,
        p: &Populate,
        start: u64,
        pages: u32,
        base: u32,
    ) -> Result<Taken, Failure> {
        let end = start + self.bytes(pages);
        let fail = |errno, why| Failure { errno, why, start, end };
        let node = Node {
            start,
            pages,
            region: p.region,
            base,
            request: serial,
            state: State::Resident,
            ..Node::FREE
        };
        let index = match self.open_window(node) {
            Ok(index) => index,
            Err(failure) => {
                self.give_pages(p.region, base, pages);
                return Err(failure);
            }
        };
        let id = self.table[index].id(index);
        self.prepare_block(p.region, base, pages, start);
        let refused = self.move_in(index, p);
        let raced =
            self.table.find(id).is_none() || self.table[index].leave || self.table[index].start != start;
        let refused = match refused {
            Ok(refused) if !raced => refused,
            failed => {
                self.count(p.region, |c| c.rollbacks += 1);
                if self.table.find(id).is_some() {
                    self.undo(index);
                }
                return Err(failed.err().filter(|_| !raced).unwrap_or(fail(Errno::EBUSY, Why::Raced)));
            }
        };
        let pagemap = self.pagemap.as_ref().map(|fd| fd.as_fd());
        let pool = self.region(p.region).and_then(|region| region.pool.as_ref());
        let (present, huge) = pool
            .map_or((Mask::EMPTY, false), |pool| pool.present(pagemap, self.bytes(base), pages, self.page));
        if huge && self.bytes(pages) == SIZE_2M {
            if let Some(blocks) = self.region_mut(p.region).and_then(|region| region.blocks.as_mut()) {
                blocks.set_used(base, false);
            }
        }
        let node = &mut self.table[index];
        node.present = present;
        node.request = if p.collect == Collect::Request { serial } else { 0 };
        node.expires = if p.timeslice_ns == 0 { 0 } else { now().saturating_add(p.timeslice_ns) };
        let live = node.device.count();
        let empty = node.device.is_empty();
        let mut holes = 0;
        let mut at = 0;
        while let Some(run) = self.table[index].device.next_run(at, pages) {
            at = run.end;
            holes += run.end - run.start - present.count_in(run);
        }
        let (moved, holes) = (self.bytes(live), self.bytes(holes));
        if empty {
            self.finish(index);
        } else {
            self.uffd.wake(start, end - start);
            self.count(p.region, |c| {
                c.windows_in += 1;
                c.bytes_in += moved;
                c.bytes_holes += holes;
            });
        }
        Ok(Taken { moved, holes, refused: self.bytes(refused) })
    }

    /// Registers the range of a new window and enters it, so that events find it while its pages move.
    pub(super) fn open_window(&mut self, node: Node) -> Result<u32, Failure> {
        let (start, len) = (node.start, self.bytes(node.pages));
        let fail = |errno, why| Failure { errno, why, start, end: start + len };
        if !self.let_discards_happen(start, start + len) {
            return Err(fail(Errno::EBUSY, Why::Raced));
        }
        let index = self.table.allocate(node).map_err(|errno| fail(errno, Why::Mapping))?;
        if let Err(errno) = self.register_window(start, len) {
            if errno == Errno::ENOMEM {
                // Perhaps some of the mappings were registered before memory ran out.
                self.end_window_registration(start, len);
            }
            self.table.release(index);
            return Err(fail(errno, Why::Register));
        }
        self.table.insert(index);
        self.link_newest(index);
        Ok(index)
    }

    /// Moves the pages of an entered window into its allocation. Tells how many were refused.
    pub(super) fn move_in(&mut self, index: u32, p: &Populate) -> Result<u32, Failure> {
        let (id, pages) = (self.table[index].id(index), self.table[index].pages);
        let injection = self.region_mut(p.region).map(|region| {
            let strikes = region.injection.pinned.strikes();
            (strikes.then_some(region.injection.pinned_page), region.injection.delay)
        });
        let (mut pinned, delay) = injection.unwrap_or_default();
        let (mut done, mut refused, mut round, mut emptied) = (0, 0, 0, u32::MAX);
        // Which pages exist up to the page `known.1`, once a hole was met.
        let mut known = (Mask::EMPTY, 0);
        while done < pages {
            if self.table[index].device.get(done) {
                // Moved without a word.
                done += 1;
                continue;
            }
            if done < known.1 && !known.0.get(done) && pinned != Some(done) {
                let end = pinned.filter(|&page| page > done).unwrap_or(pages).min(known.1);
                let hole = done..known.0.next_run(done, end).map_or(end, |run| run.start);
                done = hole.end;
                self.table[index].device.set(hole);
                continue;
            }
            if !delay.is_zero() {
                sleep_for(delay.as_nanos() as u64);
            }
            let mut stop = pinned.filter(|&page| page >= done).unwrap_or(pages).min(pages);
            if let Some(moved) = self.table[index].device.next_run(done, stop) {
                stop = moved.start;
            }
            if done < known.1 {
                stop = known.0.next_run(done, stop.min(known.1)).map_or(stop, |run| run.end);
            }
            let start = self.table[index].start + self.bytes(done);
            let Some(pool) = self.pool_address(index, done) else { break };
            let mut len = stop - done;
            let (moved, errno) = loop {
                match self.uffd.move_pages(pool, start, self.bytes(len)) {
                    // The kernel moves within one mapping, and there may be several here: half as much then. Window by
                    // window, a window ends where its mapping does.
                    Err((0, Errno::EINVAL)) if len > 1 && p.collect != Collect::Window => len /= 2,
                    Ok(()) if pinned == Some(done + len) => break (len, Some(Errno::EBUSY)),
                    Ok(()) => break (len, None),
                    Err((bytes, errno)) => break ((bytes >> self.shift) as u32, Some(errno)),
                }
            };
            self.table[index].device.set(done..done + moved);
            done += moved;
            match errno {
                None => {}
                // The kernel looks at the destination first, so nothing is there, unless all of the source was discarded.
                Some(Errno::ENOENT) if self.pagemap.is_none() => self.table[index].dirty |= moved > 0,
                Some(errno) if errno == Errno::EEXIST || moved > 0 => self.claim_moved(index, done),
                Some(_) => {}
            }
            let errno = match errno {
                Some(Errno::ENOENT) => match self.know_holes(index, done..done + len - moved) {
                    Ok(mask) => {
                        known = (mask, done + len - moved);
                        None
                    }
                    Err(errno) => Some(errno),
                },
                other => other,
            };
            match errno {
                None => {}
                Some(Errno::EAGAIN) => {
                    known.1 = 0;
                    self.let_mappings_settle(round);
                    round += 1;
                    let given_up = self.table.find(id).is_none()
                        || (self.table[index].leave && !self.was_about_a_former_owner(index));
                    if given_up {
                        return Ok(refused);
                    }
                }
                // Something got into the pool's page, mlockall() for instance. It is out again.
                Some(Errno::EEXIST) if emptied != done => emptied = done,
                Some(_) if p.collect == Collect::BestEffort => {
                    pinned = None;
                    done += 1;
                    refused += 1;
                }
                Some(errno) => {
                    let start = self.table[index].start + self.bytes(done);
                    return Err(Failure { errno, why: Why::Move, start, end: start + self.page });
                }
            }
        }
        Ok(refused)
    }

    /// The first of `pages` could not be found: tells which of them exist, if they are holes of a mapping.
    ///
    /// No page appears in a registered mapping unless the engine puts it there, so a hole stays one.
    fn know_holes(&mut self, index: u32, pages: Range<u32>) -> Result<Mask, Errno> {
        // What the answer is about is one mapping, which the kernel has checked before it looked for the page. Where only trying
        // tells, this page is a hole, and the others may be anything.
        let mask = self.app_pages(index, pages.clone()).unwrap_or_else(|| {
            let mut others = Mask::EMPTY;
            others.set(pages.start + 1..pages.end);
            others
        });
        let at = self.table[index].start + self.bytes(pages.start);
        match self.standing(at, self.page) {
            Standing::Ours if !mask.get(pages.start) => Ok(mask),
            Standing::Ours | Standing::Changing => Err(Errno::EAGAIN),
            Standing::NotOurs => Err(Errno::ENOENT),
        }
    }

    /// Whether the unmapping that was just reported had happened before the window was opened: its addresses were given to
    /// a new mapping, which was registered, while the thread that unmapped the old one had yet to report it. Takes the report
    /// back then. Nothing can have moved in between, since the kernel moves no page while a report is due.
    fn was_about_a_former_owner(&mut self, index: u32) -> bool {
        let node = &mut self.table[index];
        if !node.device.is_empty() || node.dirty || !node.stale.is_empty() || node.gone.is_empty() {
            return false;
        }
        let (gone, start, pages) = (std::mem::replace(&mut node.gone, Mask::EMPTY), node.start, node.pages);
        let id = node.id(index);
        node.leave = false;
        let ours = self.is_ours(start, self.bytes(pages));
        if self.table.find(id).is_none() {
            return false;
        }
        let node = &mut self.table[index];
        if ours && !node.leave && node.start == start {
            return true;
        }
        let mut at = 0;
        while let Some(run) = gone.next_run(at, pages) {
            at = run.end;
            node.gone.set(run);
        }
        node.leave = true;
        false
    }

    /// Moves what moved back and forgets the window.
    fn undo(&mut self, index: u32) {
        self.table[index].request = 0;
        if self.give_back(index).is_err() {
            // It stays with the device, complete for those who touch it.
            let (start, len) = (self.table[index].start, self.bytes(self.table[index].pages));
            self.uffd.wake(start, len);
        }
    }

    /// A window did not move.
    fn refuse(&mut self, work: &mut Work, p: &Populate, end: u64, failure: Failure) -> Step {
        if p.collect == Collect::BestEffort {
            let at = work.progress.cursor.max(p.start);
            work.progress.refused += end - at;
            work.progress.cursor = end;
            return Step::Again;
        }
        self.stop(work, p, failure.start, failure.end, failure.errno, failure.why)
    }

    fn stop(&mut self, work: &mut Work, p: &Populate, start: u64, end: u64, errno: Errno, why: Why) -> Step {
        self.settle_request(work, p, false);
        Step::Done(Reply::Stopped(work.progress, Failure { errno, why, start, end }))
    }

    /// All or nothing over a whole request: undoes its windows, or makes them ordinary ones.
    fn settle_request(&mut self, work: &mut Work, p: &Populate, keep: bool) {
        if p.collect != Collect::Request {
            return;
        }
        let mut at = p.start;
        while let Some(index) = self.table.overlapping(at, p.end) {
            at = self.end_of(index);
            if self.table[index].request == work.serial {
                if keep {
                    self.table[index].request = 0;
                } else {
                    self.undo(index);
                }
            }
        }
        if !keep {
            work.progress = super::request::Progress { cursor: p.start, ..Default::default() };
        }
    }

    /// Moves a window from one region to another: pages go from pool to pool, and nobody can touch them meanwhile.
    fn transfer(&mut self, work: &mut Work, p: &Populate, index: u32, base: u32) {
        let node = self.table[index];
        let id = node.id(index);
        let Some(to) =
            self.region(p.region).and_then(|r| r.pool.as_ref()).map(|pool| pool.address(self.bytes(base)))
        else {
            return;
        };
        let Some(from) = self.pool_address(index, 0) else { return };
        let len = self.bytes(node.pages);
        self.prepare_block(p.region, base, node.pages, from);
        // What happens to the addresses meanwhile does not concern the pools; it is dealt with when the window is whole.
        self.deferring = true;
        if let Err(moved) = self.move_own(to, from, node.pages) {
            self.move_own_back(from, to, moved);
            let offset = self.bytes(base);
            let pool = self.region(p.region).and_then(|region| region.pool.as_ref());
            if pool.is_some_and(|pool| pool.empty(&self.uffd, offset, len).is_ok()) {
                self.give_pages(p.region, base, node.pages);
            }
            self.note_deferred();
            if self.table.find(id).is_some() {
                let _ = self.give_back(index);
            }
            return;
        }
        // Holes may have been filled to find them.
        self.table[index].dirty |= self.pagemap.is_none();
        self.unlink(index);
        self.free_pool_pages(index);
        let live = self.bytes(self.table[index].device.count());
        self.count(node.region, |c| {
            c.windows_out += 1;
            c.bytes_out += live;
        });
        let entry = &mut self.table[index];
        entry.region = p.region;
        entry.base = base;
        entry.expires = if p.timeslice_ns == 0 { 0 } else { now().saturating_add(p.timeslice_ns) };
        entry.request = if p.collect == Collect::Request { work.serial } else { 0 };
        self.link_newest(index);
        self.count(p.region, |c| {
            c.windows_in += 1;
            c.bytes_in += live;
        });
        work.progress.moved += live;
        work.progress.cursor = node.start + len;
        self.note_deferred();
    }
}
