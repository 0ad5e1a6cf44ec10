//! CPU touches of pages that are not there.

use super::node::State;
use super::{Engine, Fault, now};
use crate::error::Errno;
use crate::range::SIZE_2M;

impl Engine {
    /// Deals with the queued touches. `true` if there were any.
    pub(super) fn serve_faults(&mut self) -> bool {
        // Serving one may let in more; they wait for the next round, so that requests get their turn.
        let queued = self.faults.len();
        for at in 0..queued {
            let fault = self.faults[at];
            self.serve(fault);
        }
        let late = self.faults.len() - queued;
        self.faults.copy_within(queued.., 0);
        while self.faults.len() > late {
            self.faults.pop();
        }
        queued > 0
    }

    fn serve(&mut self, fault: Fault) {
        let at = fault.at & !(self.page - 1);
        let Some(index) = self.table.at(at) else { return self.serve_outside(at) };
        let node = &self.table[index];
        let page = ((at - node.start) >> self.shift) as u32;
        if node.gone.get(page) {
            return self.serve_outside(at);
        }
        let (region, state, is_device, poisoned) =
            (node.region, node.state, node.device.get(page), node.poisoned.get(page));
        match state {
            // Everybody is woken when the window is in, or back.
            State::CopyIn | State::Free => {}
            State::CopyOut => {
                if !is_device {
                    return self.fill_with_zero(index, page);
                }
                if self.is_copier_of(index, fault.thread) {
                    // The copy needs the page it is to produce. Nothing can ever resolve that.
                    return self.poison_page(index, page);
                }
                self.table[index].wanted.set(page..page + 1);
            }
            State::Resident if poisoned => self.uffd.wake(at, self.page),
            State::Resident if !is_device => self.fill_with_zero(index, page),
            State::Resident => {
                self.count(region, |c| c.cpu_faults += 1);
                self.serve_device_page(index, page);
            }
        }
    }

    /// Only the page that was touched is sure to be back afterwards; normally the whole window is.
    fn serve_device_page(&mut self, index: u32, page: u32) {
        let node = &self.table[index];
        let id = node.id(index);
        if node.expires > now() {
            let (region, parked) = (node.region, node.parked);
            self.count(region, |c| c.parked_faults += 1);
            if parked || self.parked.push(id).is_ok() {
                self.table[index].parked = true;
                return;
            }
        }
        if self.table[index].is_copied() {
            self.table[index].wanted.set(page..page + 1);
            self.start_copy_out(index);
            return;
        }
        self.touched = true;
        let result = self.give_back(index);
        self.touched = false;
        if result.is_err() && self.table.find(id).is_some() {
            if self.table[index].device.get(page) {
                self.poison_page(index, page);
            }
            let (start, len) = (self.table[index].start, self.bytes(self.table[index].pages));
            self.uffd.wake(start, len);
        }
    }

    /// Timeslices that are over: the waiting threads try again, and find the window as it is now.
    pub(super) fn wake_parked(&mut self) -> bool {
        let mut any = false;
        let mut at = 0;
        while at < self.parked.len() {
            let index = self.table.find(self.parked[at]);
            if index.is_some_and(|index| self.table[index].expires > now()) {
                at += 1;
                continue;
            }
            let last = self.parked.len() - 1;
            self.parked.swap(at, last);
            self.parked.pop();
            if let Some(index) = index {
                self.table[index].parked = false;
                let (start, len) = (self.table[index].start, self.bytes(self.table[index].pages));
                self.uffd.wake(start, len);
            }
            any = true;
        }
        any
    }

    /// A registered page that belongs to no window.
    fn serve_outside(&mut self, at: u64) {
        if self.regions.iter().flatten().filter_map(|r| r.pool.as_ref()).any(|pool| pool.contains(at)) {
            // mlockall() fills even the pool. The page is emptied again when something is to move there.
            let _ = self.uffd.zero(at, self.page);
            self.uffd.wake(at, self.page);
            return;
        }
        if self.is_relocating(at) {
            return;
        }
        // mremap() made a registered mapping larger, or left one behind (MREMAP_DONTUNMAP): that is ordinary memory. Or the
        // report is old news.
        let block = at & !(SIZE_2M - 1);
        let mut low = block;
        while let Some(index) = self.table.overlapping(low, at) {
            low = self.end_of(index);
        }
        let next = self.table.ending_after(at).map_or(u64::MAX, |index| self.table[index].start);
        let high = next.min(block + SIZE_2M);
        for (low, high) in [(low, high), (at, at + self.page)] {
            if low < high && self.is_ours(low, high - low) {
                self.end_window_registration(low, high - low);
                break;
            }
        }
        self.uffd.wake(at, self.page);
    }

    /// A page of a window that is not the device's reads as zero, as any absent page.
    pub(super) fn fill_with_zero(&mut self, index: u32, page: u32) {
        let id = self.table[index].id(index);
        let at = self.table[index].start + self.bytes(page);
        let mut round = 0;
        loop {
            match self.uffd.zero(at, self.page) {
                Err((_, Errno::EAGAIN)) => self.let_mappings_settle(round),
                Ok(()) => {
                    // The page was not there, so nothing is left to discard. What is written there from now on is to stay.
                    self.table[index].stale.clear(page..page + 1);
                    break;
                }
                Err(_) => break,
            }
            round += 1;
            // The window may be elsewhere, and something else here: the thread touches the page again.
            if self.table.find(id).is_none() || self.table[index].start + self.bytes(page) != at {
                break;
            }
        }
        self.uffd.wake(at, self.page);
    }
}
