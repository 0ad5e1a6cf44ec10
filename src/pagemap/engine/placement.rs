//! Where pages are, exactly, at this moment.

use super::Engine;
use super::request::{Placed, Reply};

impl Engine {
    /// Tells the runs of device pages in a range, as many as fit.
    pub(super) fn placement(&self, slot: usize, start: u64, end: u64) -> Reply {
        self.slots.payload(slot, |payload| self.place_runs(payload, start, end))
    }

    fn place_runs(&self, payload: &mut [u8], start: u64, end: u64) -> Reply {
        let mut places = payload.chunks_exact_mut(Placed::BYTES);
        let mut at = start;
        let mut count = 0;
        while let Some(index) = self.table.overlapping(at, end) {
            let node = &self.table[index];
            let pages = self.pages_in(index, at, end);
            let Some(run) = node.device.next_run(pages.start, pages.end) else {
                at = self.end_of(index);
                continue;
            };
            let placed = Placed {
                start: node.start + self.bytes(run.start),
                end: node.start + self.bytes(run.end),
                region: u64::from(node.region),
            };
            let Some(place) = places.next() else { return Reply::Filled { count, next: at, lost: false } };
            placed.store(place);
            at = placed.end;
            count += 1;
        }
        Reply::Filled { count, next: end, lost: false }
    }
}
