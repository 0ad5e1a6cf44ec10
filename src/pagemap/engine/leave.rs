//! The way out of device memory: CPU touch, eviction, an explicit request, removal of the device.

use std::ops::Range;

use super::mask::Mask;
use super::node::State;
use super::request::{Failure, Reply, Why};
use super::step::{Pending, Step, Work};
use super::treap::NIL;
use super::{Engine, Stop, now, sleep_for};
use crate::error::Errno;
use crate::uapi::userfaultfd::UFFDIO_REGISTER_MODE_MISSING;

impl Engine {
    /// Sends a resident window back to system memory: done at once in move mode, by a copy thread in copy mode.
    pub(super) fn send_back(&mut self, index: u32, work: &mut Work) -> Step {
        let node = &self.table[index];
        let (id, start, end) = (node.id(index), node.start, self.end_of(index));
        let fail = |errno, why| Step::Done(Reply::Failed(Failure { errno, why, start, end }));
        if !node.is_copied() {
            return match self.give_back(index) {
                Ok(()) => Step::Done(Reply::Unit),
                Err(errno) => fail(errno, Why::Move),
            };
        }
        if work.awaited == Some(id) && node.failures > work.baseline {
            work.awaited = None;
            return fail(Errno::from_raw(node.errno), Why::Copy);
        }
        if work.awaited != Some(id) {
            work.awaited = Some(id);
            work.baseline = node.failures;
        }
        self.start_copy_out(index);
        Step::Wait
    }

    /// Move mode: moves every page of a window back and finishes it. On failure what moved stays moved.
    pub(super) fn give_back(&mut self, index: u32) -> Result<(), Errno> {
        let id = self.table[index].id(index);
        let region = self.table[index].region;
        if let Some(region) = self.region_mut(region) {
            if region.injection.way_out.strikes() {
                return Err(Errno::ENOMEM);
            }
            let delay = region.injection.delay;
            if !delay.is_zero() {
                super::sleep_for(delay.as_nanos() as u64);
            }
        }
        let mut round = 0;
        loop {
            match self.give_back_pages(index) {
                Ok(()) => break,
                Err(Stop::Failed(errno)) => return Err(errno),
                Err(Stop::Events) => self.let_mappings_settle(round),
            }
            round += 1;
            if self.table.find(id).is_none() {
                return Ok(());
            }
        }
        self.count(region, |c| c.windows_out += 1);
        self.finish(index);
        Ok(())
    }

    /// Moves the device pages of a window to their place, until an obstacle.
    pub(super) fn give_back_pages(&mut self, index: u32) -> Result<(), Stop> {
        if self.table[index].device != self.table[index].present {
            self.look_into_pool(index);
        }
        while let Some(run) = self.table[index].device.next_run(0, self.table[index].pages) {
            self.move_out(index, run)?;
        }
        Ok(())
    }

    /// Moves a run of device pages back, or as much of it as goes before the first obstacle.
    fn move_out(&mut self, index: u32, run: Range<u32>) -> Result<(), Stop> {
        let present = self.table[index].present.next_run(run.start, run.end);
        let mut pages = match present {
            Some(present) if present.start == run.start => present.end - present.start,
            Some(present) if self.pagemap.is_some() => {
                self.came_back(index, run.start..present.start);
                return Ok(());
            }
            _ => match self.pool_run(index, run.clone())? {
                (true, count) => count,
                (false, holes) => {
                    self.came_back(index, run.start..run.start + holes);
                    return Ok(());
                }
            },
        };
        let dst = self.table[index].start + self.bytes(run.start);
        let Some(src) = self.pool_address(index, run.start) else { return Err(Stop::Failed(Errno::ENODEV)) };
        // The kernel moves within one mapping, and the process may have made several of it: half as much then.
        let (moved, errno) = loop {
            match self.uffd.move_pages(dst, src, self.bytes(pages)) {
                Ok(()) => break (pages, None),
                Err((0, Errno::EINVAL)) if pages > 1 => pages /= 2,
                Err((bytes, Errno::EINVAL)) if bytes > 0 => break ((bytes >> self.shift) as u32, None),
                Err((bytes, errno)) => break ((bytes >> self.shift) as u32, Some(errno)),
            }
        };
        let obstacle = run.start + moved;
        self.came_back(index, run.start..obstacle);
        match errno {
            None => Ok(()),
            Some(Errno::EAGAIN) => Err(Stop::Events),
            Some(Errno::EEXIST) if self.table[index].poisoned.get(obstacle) => {
                self.lift_poison(index, obstacle)
            }
            Some(Errno::EEXIST | Errno::ENOENT) => {
                match self.pool_run(index, obstacle..run.end)? {
                    // Holes, or the kernel moved them without saying so.
                    (false, count) => self.came_back(index, obstacle..obstacle + count),
                    // The process put something there itself (a guard region), or took the mapping away.
                    (true, _) => self.drop_pages(index, obstacle..obstacle + 1),
                }
                Ok(())
            }
            // The mapping differs from the pool's by now: read-only, executable, locked. Pages can still be copied there.
            Some(Errno::EINVAL | Errno::EBUSY) => self.copy_page_out(index, obstacle),
            Some(errno) => Err(Stop::Failed(errno)),
        }
    }

    /// These pages are the process's own again, and no longer in the pool.
    fn came_back(&mut self, index: u32, pages: Range<u32>) {
        let (region, bytes) = (self.table[index].region, self.bytes(pages.end - pages.start));
        self.count(region, |c| c.bytes_out += bytes);
        self.forget(index, pages);
    }

    /// Copies one device page back, leaving the pool's page behind.
    fn copy_page_out(&mut self, index: u32, page: u32) -> Result<(), Stop> {
        let dst = self.table[index].start + self.bytes(page);
        let Some(src) = self.pool_address(index, page) else { return Err(Stop::Failed(Errno::ENODEV)) };
        // A hole must not be read: that would be a touch of the engine's own. It stays a hole, which reads as zero.
        // (Staging memory on its way out is ordinary memory, which the kernel may well read.)
        let hole = match self.uffd.zero(src, self.page) {
            _ if self.table[index].state == State::CopyOut => false,
            Ok(()) => true,
            Err((_, Errno::EEXIST)) => false,
            Err((_, Errno::EAGAIN)) => return Err(Stop::Events),
            Err((_, errno)) => return Err(Stop::Failed(errno)),
        };
        self.table[index].dirty = true;
        if !hole {
            match self.uffd.copy(dst, src, self.page) {
                Ok(()) => {}
                Err((_, Errno::EAGAIN)) => return Err(Stop::Events),
                Err((_, Errno::EEXIST | Errno::ENOENT)) => {
                    self.drop_pages(index, page..page + 1);
                    return Ok(());
                }
                Err((_, errno)) => return Err(Stop::Failed(errno)),
            }
        }
        let (region, bytes) = (self.table[index].region, self.page);
        self.count(region, |c| {
            c.bytes_out += bytes;
            c.bytes_copied_out += bytes;
        });
        self.forget(index, page..page + 1);
        Ok(())
    }

    /// These pages are no longer the device's; the pool no longer has them.
    pub(super) fn forget(&mut self, index: u32, pages: Range<u32>) {
        let node = &mut self.table[index];
        node.device.clear(pages.clone());
        node.present.clear(pages);
    }

    /// These pages are no longer anybody's.
    pub(super) fn drop_pages(&mut self, index: u32, pages: Range<u32>) {
        let dropped = self.table[index].device.count_in(pages.clone());
        let (region, bytes) = (self.table[index].region, self.bytes(dropped));
        self.count(region, |c| c.bytes_discarded += bytes);
        self.table[index].dirty |= dropped > 0;
        self.forget(index, pages);
    }

    /// Takes the mark off a page that failed to come back before.
    fn lift_poison(&mut self, index: u32, page: u32) -> Result<(), Stop> {
        let at = self.table[index].start + self.bytes(page);
        // Discarding a registered page would be announced to this very thread.
        self.uffd.unregister(at, self.page).map_err(Stop::Failed)?;
        self.discard_app_page(at);
        self.uffd.register(at, self.page, UFFDIO_REGISTER_MODE_MISSING).map_err(Stop::Failed)?;
        self.table[index].poisoned.clear(page..page + 1);
        Ok(())
    }

    fn discard_app_page(&self, at: u64) {
        // SAFETY: the page carries nothing but the poison mark that the engine put there: its contents are the device's, and
        // are about to be moved here.
        let _ = unsafe {
            rustix::mm::madvise(at as *mut _, self.page as usize, rustix::mm::Advice::LinuxDontNeed)
        };
    }

    /// Ends a window none of whose pages is the device's: frees its memory, lets everybody go who waits for its pages.
    ///
    /// A discard that is announced while the window ends must still meet it. The kernel announces `MADV_DONTNEED` before it
    /// drops the pages; read when there is no window any more, the announcement would say nothing, and the next window could take
    /// in what is about to be dropped, and bring it back later. So the window ends only if nothing was on its way when its
    /// registration ended. (From then on nothing can be: `userfaultfd_remove` looks for the registration, and counts itself
    /// in `mmap_changing`, under the lock that unregistering takes for writing.) Otherwise it lives on until that is dealt with.
    ///
    /// After a touch that would go wrong: unregistering lets the touching thread go on, and what *it* does to its mappings next
    /// must not meet a registration that is there once more. There the engine looks before, and the few instructions between
    /// are left to [`let_discards_happen`](Self::let_discards_happen).
    pub(super) fn finish(&mut self, index: u32) {
        let id = self.table[index].id(index);
        self.stirred = true;
        // While there is a registration, nothing new can be in a page whose discard is to be completed. Without one there can.
        self.scrap_stale(index);
        if self.table.find(id).is_none() {
            return;
        }
        // Who waits here is woken by the end of the registration, not before: until then the mapping is cut in pieces, which
        // mremap does not take.
        let mut round = 0;
        loop {
            debug_assert!(self.table[index].device.is_empty());
            if !self.touched {
                self.each_mapped_run(index, Self::end_window_registration);
            }
            if !self.uffd.is_changing() {
                break;
            }
            if !self.touched {
                self.each_mapped_run(index, |engine, start, len| {
                    // Fails for what is not there any more, of which a report will tell.
                    let _ = engine.register_window(start, len);
                });
            }
            self.let_mappings_settle(round);
            round += 1;
            if self.table.find(id).is_none() {
                return;
            }
            self.scrap_stale(index);
        }
        if self.touched {
            self.each_mapped_run(index, Self::end_window_registration);
        }
        let node = self.table[index];
        if !node.gone.is_empty() {
            // Unregistering wakes who waits for a page of the range; these pages were not in it.
            self.uffd.wake(node.start, self.bytes(node.pages));
        }
        self.unlink(index);
        self.table.remove(index);
        if node.staging != NIL {
            self.free_staging(index);
        } else if !node.is_copied() {
            self.free_pool_pages(index);
        }
        self.table.release(index);
        if node.is_copied() && !(node.shared && self.holds(node.token)) {
            // Lost only if there is no memory for the list; the allocation then lives on.
            let _ = self.releases.push(node.token);
        }
    }

    /// Before a window is opened: lets a discard that was announced where no window was drop its pages first.
    ///
    /// The discarding thread is awake once nothing counts as changing, and between there and the lock under which it drops the
    /// pages are a few instructions. No sign tells when it is past them, so this gives it time. `false` if other windows
    /// came to be here meanwhile.
    pub(super) fn let_discards_happen(&mut self, start: u64, end: u64) -> bool {
        const TIME: u64 = 100_000;
        let mut round = 0;
        while let Some((low, high, since)) =
            self.loose_discard.filter(|&(low, high, _)| low < end && start < high)
        {
            if self.uffd.is_changing() {
                self.let_mappings_settle(round);
                round += 1;
                continue;
            }
            sleep_for((since + TIME).saturating_sub(now()));
            if self.loose_discard == Some((low, high, since)) {
                self.loose_discard = None;
            }
        }
        self.table.overlapping(start, end).is_none()
    }

    /// The parts of a window that the process has not unmapped, by address and length.
    fn each_mapped_run(&mut self, index: u32, mut act: impl FnMut(&mut Self, u64, u64)) {
        let node = self.table[index];
        let mut mapped = Mask::first(node.pages);
        let mut at = 0;
        while let Some(run) = node.gone.next_run(at, node.pages) {
            at = run.end;
            mapped.clear(run);
        }
        at = 0;
        while let Some(run) = mapped.next_run(at, node.pages) {
            at = run.end;
            act(self, node.start + self.bytes(run.start), self.bytes(run.end - run.start));
        }
    }

    pub(super) fn free_pool_pages(&mut self, index: u32) {
        let node = self.table[index];
        let (offset, len) = (self.bytes(node.base), self.bytes(node.pages));
        let Some(region) = self.regions.iter_mut().flatten().find(|region| region.id == node.region) else {
            return;
        };
        let (Some(pool), Some(blocks)) = (&region.pool, &mut region.blocks) else { return };
        // Pages that could not be emptied must not be handed out again.
        if !node.dirty || pool.empty(&self.uffd, offset, len).is_ok() {
            blocks.give(node.base, node.pages);
        }
    }

    /// Gives a window up: touching its pages raises `SIGBUS` from now on.
    pub(super) fn abandon(&mut self, index: u32) {
        let mut round = 0;
        while let Some(run) = self.table[index].device.next_run(0, self.table[index].pages) {
            let at = self.table[index].start + self.bytes(run.start);
            let (marked, errno) = match self.uffd.poison(at, self.bytes(run.end - run.start)) {
                Ok(()) => (run.end - run.start, None),
                Err((bytes, errno)) => ((bytes >> self.shift) as u32, Some(errno)),
            };
            let region = self.table[index].region;
            self.count(region, |c| c.pages_poisoned += u64::from(marked));
            let obstacle = run.start + marked;
            self.table[index].dirty = true;
            self.forget(index, run.start..obstacle);
            match errno {
                None => {}
                Some(Errno::EAGAIN) => self.let_mappings_settle(round),
                // Marked before, or not the window's any more.
                Some(_) => self.forget(index, obstacle..obstacle + 1),
            }
            round += 1;
        }
        self.finish(index);
    }

    /// Lets the threads that wait for a page of a window run into `SIGBUS`. The device keeps the page.
    pub(super) fn poison_page(&mut self, index: u32, page: u32) {
        let id = self.table[index].id(index);
        let touched = self.table[index].start + self.bytes(page);
        let mut round = 0;
        while self.table.find(id).is_some() && self.table[index].device.get(page) {
            let at = self.table[index].start + self.bytes(page);
            match self.uffd.poison(at, self.page) {
                Err((_, Errno::EAGAIN)) => self.let_mappings_settle(round),
                Ok(()) | Err((_, Errno::EEXIST)) => {
                    self.table[index].poisoned.set(page..page + 1);
                    let region = self.table[index].region;
                    self.count(region, |c| c.pages_poisoned += 1);
                    self.uffd.wake(at, self.page);
                    break;
                }
                // The page is where nobody can touch it.
                Err(_) => break,
            }
            round += 1;
        }
        self.uffd.wake(touched, self.page);
    }

    /// Windows that an unmapping cut into go back, those without a page end, and discarded pages go for good.
    pub(super) fn finish_leaving(&mut self) {
        while let Some(id) = self.leaving.pop() {
            let Some(index) = self.table.find(id) else { continue };
            if !self.table[index].stale.is_empty() {
                self.scrap_stale(index);
            }
            if self.table[index].state != State::Resident {
                continue;
            }
            if self.table[index].device.is_empty() {
                self.finish(index);
            } else if std::mem::take(&mut self.table[index].leave) {
                if self.table[index].is_copied() {
                    self.start_copy_out(index);
                } else {
                    // What cannot go back now goes when it is touched.
                    let _ = self.give_back(index);
                }
            }
        }
    }

    /// Completes a discard that met a window.
    ///
    /// The kernel announces `MADV_DONTNEED` *before* it drops the pages. If a page of system memory migrated in between,
    /// the kernel would find nothing to drop, and the old contents would come back later. So the engine drops them itself.
    fn scrap_stale(&mut self, index: u32) {
        let id = self.table[index].id(index);
        let mut round = 0;
        // Reports that are read meanwhile can move the window, add to its pages, and end it.
        while self.table.find(id).is_some() {
            let Some(run) = self.table[index].stale.next_run(0, self.table[index].pages) else { return };
            let at = self.table[index].start + self.bytes(run.start);
            let Ok(scratch) = self.scratch_address() else { return };
            // Other errors: the kernel has dropped the page already, or moved it without saying so, or the mapping is gone.
            if let Err((_, Errno::EAGAIN)) = self.uffd.move_pages(scratch, at, self.page) {
                self.let_mappings_settle(round);
                round += 1;
                continue;
            }
            self.empty_scratch();
            self.table[index].stale.clear(run.start..run.start + 1);
        }
    }

    /// Brings all of a range back, or all of it that belongs to `region`.
    ///
    /// Honours timeslices as the kernel's explicit way does (`drm_gpusvm_range_evict`): waits for the end, at most a second.
    pub(super) fn bring_back(&mut self, work: &mut Work, start: u64, end: u64, region: u32) -> Step {
        self.settle(work);
        let mut at = work.progress.cursor.max(start);
        while let Some(index) = self.table.overlapping(at, end) {
            let node = &self.table[index];
            if region != super::request::ANY_REGION && node.region != region {
                at = self.end_of(index);
                work.progress.cursor = at;
                continue;
            }
            if node.state != State::Resident {
                return Step::Wait;
            }
            let time = now();
            if node.expires > time {
                let (start, end) = (node.start, self.end_of(index));
                let limit = work.since + 1_000_000_000;
                if time >= limit {
                    let why = Why::Timeslice;
                    return Step::Done(Reply::Stopped(
                        work.progress,
                        Failure { errno: Errno::ETIME, why, start, end },
                    ));
                }
                self.deadline = self.deadline.min(node.expires).min(limit);
                return Step::Wait;
            }
            let live = self.bytes(node.device.count());
            return match self.send_back(index, work) {
                Step::Done(Reply::Failed(failure)) => Step::Done(Reply::Stopped(work.progress, failure)),
                Step::Done(_) => {
                    work.progress.moved += live;
                    Step::Again
                }
                Step::Wait => {
                    work.pending =
                        Some(Pending { node: self.table[index].id(index), bytes: live, evicts: None });
                    Step::Wait
                }
                Step::Again => Step::Again,
            };
        }
        Step::Done(Reply::Progress(work.progress))
    }

    /// Makes room: the oldest windows go, whatever their timeslice. Three tries each; success is a window that is gone.
    pub(super) fn evict(&mut self, work: &mut Work, region: u32, bytes: u64) -> Step {
        self.settle(work);
        if work.progress.moved >= bytes {
            return Step::Done(Reply::Progress(work.progress));
        }
        let Some(index) = self.oldest_evictable(region) else {
            return Step::Done(Reply::Progress(work.progress));
        };
        self.evict_window(work, index)
    }

    /// One step of evicting a window.
    pub(super) fn evict_window(&mut self, work: &mut Work, index: u32) -> Step {
        let node = &self.table[index];
        let (id, region, size) = (node.id(index), node.region, self.bytes(node.pages));
        if node.state != State::Resident {
            return Step::Wait;
        }
        if work.victim != Some(id) {
            work.victim = Some(id);
            work.tries = 0;
        }
        match self.send_back(index, work) {
            Step::Done(Reply::Failed(failure)) => {
                work.tries += 1;
                if work.tries < 3 {
                    return Step::Again;
                }
                Step::Done(Reply::Stopped(
                    work.progress,
                    Failure { errno: Errno::EBUSY, why: Why::Detach, ..failure },
                ))
            }
            Step::Done(_) => {
                self.count(region, |c| c.evictions += 1);
                work.progress.moved += size;
                Step::Again
            }
            Step::Wait => {
                work.pending = Some(Pending { node: id, bytes: size, evicts: Some(region) });
                Step::Wait
            }
            Step::Again => Step::Again,
        }
    }

    /// Counts what a copy thread has finished meanwhile.
    fn settle(&mut self, work: &mut Work) {
        let Some(pending) = work.pending else { return };
        if self.table.find(pending.node).is_some() {
            return;
        }
        work.pending = None;
        work.progress.moved += pending.bytes;
        if let Some(region) = pending.evicts {
            self.count(region, |c| c.evictions += 1);
        }
    }

    /// The window that was used least recently.
    pub(super) fn oldest_evictable(&self, region: u32) -> Option<u32> {
        let mut index = self.region(region)?.oldest;
        while index != NIL {
            if matches!(self.table[index].state, State::Resident | State::CopyOut)
                && self.table[index].request == 0
            {
                return Some(index);
            }
            index = self.table[index].newer;
        }
        None
    }
}
