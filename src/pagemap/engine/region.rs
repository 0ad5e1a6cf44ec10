//! VRAM regions: made, looked at, removed.

use super::blocks::Blocks;
use super::node::State;
use super::pool::Pool;
use super::request::{Failure, RegionId, RegionState, Reply, Why};
use super::step::{Step, Work};
use super::treap::NIL;
use super::{Engine, MAX_REGIONS};
use crate::error::Errno;
use crate::pagemap::counters::Counters;
use crate::pagemap::inject::Injection;
use crate::range::SIZE_2M;

/// One region. Without a pool it is the place of allocations whose memory belongs to somebody else's driver.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) id: RegionId,
    pub(super) pool: Option<Pool>,
    pub(super) blocks: Option<Blocks>,
    pub(super) capacity: u64,
    pub(super) reserved: u64,
    pub(super) removed: bool,
    pub(super) oldest: u32,
    pub(super) newest: u32,
    pub(super) windows: u64,
    pub(super) counters: Counters,
    pub(super) injection: Injection,
}

impl Engine {
    pub(super) fn region(&self, id: RegionId) -> Option<&Region> {
        self.regions.iter().flatten().find(|region| region.id == id)
    }

    pub(super) fn region_mut(&mut self, id: RegionId) -> Option<&mut Region> {
        self.regions.iter_mut().flatten().find(|region| region.id == id)
    }

    /// Counts something for the region of a window.
    pub(super) fn count(&mut self, id: RegionId, change: impl FnOnce(&mut Counters)) {
        if let Some(region) = self.region_mut(id) {
            change(&mut region.counters);
        }
    }

    pub(super) fn add_region(&mut self, bytes: u64, reserved: u64) -> Result<Reply, Failure> {
        let fail = |errno, why| Failure { errno, why, start: 0, end: 0 };
        let Some(free) = self.regions.iter().position(Option::is_none) else {
            return Err(fail(Errno::ENOSPC, Why::TooMany));
        };
        let pages = bytes.saturating_sub(reserved) >> self.shift;
        let pages = u32::try_from(pages).map_err(|_| fail(Errno::E2BIG, Why::TooLarge))?;
        let per_block = (SIZE_2M / self.page) as u32;
        let (pool, blocks) = if bytes == 0 {
            (None, None)
        } else {
            let mapping = |errno| fail(errno, Why::Mapping);
            let blocks = Blocks::new(pages, per_block).map_err(mapping)?;
            let mut pool = Pool::new(self.bytes(pages)).map_err(mapping)?;
            pool.register(&self.uffd).map_err(|errno| fail(errno, Why::Register))?;
            (Some(pool), Some(blocks))
        };
        let id = self.next_region;
        self.next_region += 1;
        debug_assert!(free < MAX_REGIONS);
        self.regions[free] = Some(Region {
            id,
            pool,
            blocks,
            capacity: bytes,
            reserved: bytes - self.bytes(pages).min(bytes),
            removed: false,
            oldest: NIL,
            newest: NIL,
            windows: 0,
            counters: Counters::default(),
            injection: Injection::none(),
        });
        Ok(Reply::Number(u64::from(id)))
    }

    pub(super) fn region_state(&self, id: RegionId) -> Result<Reply, Failure> {
        let region = self.region(id).ok_or(no_region())?;
        let free = region.blocks.as_ref().map_or(0, Blocks::free);
        Ok(Reply::Region(RegionState {
            id,
            capacity: region.capacity,
            reserved: region.reserved,
            used: region.capacity - region.reserved - (free << self.shift),
            windows: region.windows,
            removed: region.removed,
            counters: region.counters,
        }))
    }

    pub(super) fn inject(&mut self, id: RegionId, injection: Injection) -> Result<Reply, Failure> {
        self.region_mut(id).ok_or(no_region())?.injection = injection;
        Ok(Reply::Unit)
    }

    /// The device is gone: no more windows, and those it has go back. What cannot go back raises `SIGBUS`.
    pub(super) fn remove_region(&mut self, work: &mut Work, id: RegionId) -> Step {
        let Some(region) = self.region_mut(id) else { return Step::Done(Reply::Failed(no_region())) };
        region.removed = true;
        let index = region.oldest;
        if index == NIL {
            return Step::Done(Reply::Unit);
        }
        if self.table[index].state != State::Resident {
            return Step::Wait;
        }
        let id = self.table[index].id(index);
        if work.victim != Some(id) {
            work.victim = Some(id);
            work.tries = 0;
        }
        match self.send_back(index, work) {
            Step::Done(Reply::Failed(_)) => {
                work.tries += 1;
                if work.tries == 3 {
                    self.abandon(index);
                }
                Step::Again
            }
            Step::Done(_) => Step::Again,
            other => other,
        }
    }

    pub(super) fn drop_region(&mut self, work: &mut Work, id: RegionId) -> Step {
        match self.remove_region(work, id) {
            Step::Done(Reply::Unit) => {}
            other => return other,
        }
        for place in &mut self.regions {
            if place.as_ref().is_some_and(|region| region.id == id) {
                if let Some(pool) = place.as_mut().and_then(|region| region.pool.as_mut()) {
                    pool.unregister(&self.uffd);
                }
                *place = None;
            }
        }
        Step::Done(Reply::Unit)
    }
}

fn no_region() -> Failure {
    Failure { errno: Errno::ENODEV, why: Why::NoSuchRegion, start: 0, end: 0 }
}
