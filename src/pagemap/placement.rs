//! Where the pages of a range are, exactly.

use super::engine::request::{Placed, Reply, Request};
use super::space::Space;
use super::vram::RegionId;
use crate::error::Result;
use crate::range::PageRange;

/// A run of pages that are all in one VRAM region, or all not on any simulated device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The pages.
    pub range: PageRange,
    /// The region they are in; `None` for system memory, absent pages, and addresses where nothing is mapped.
    pub region: Option<RegionId>,
}

impl Space {
    /// Where the pages of a range are: runs in order of address that cover it, neighbours in the same place merged.
    ///
    /// Exact at the moment it is asked; looking moves nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`](crate::ErrorKind::ForeignProcess) in a forked child.
    pub fn placement(&self, range: PageRange) -> Result<Vec<Placement>> {
        let mut runs = Vec::new();
        let mut push = |start: u64, end: u64, region: Option<RegionId>| {
            if start == end {
                return;
            }
            match runs.last_mut() {
                Some(Placement { range, region: last }) if *last == region && range.end() == start => {
                    *range = PageRange::from_aligned(range.start(), end);
                }
                _ => runs.push(Placement { range: PageRange::from_aligned(start, end), region }),
            }
        };
        let mut at = range.start();
        let mut told = at;
        while at < range.end() {
            let request = Request::Placement { start: at, end: range.end() };
            let (reply, placed) = self.exchange("Space::placement", request, |payload| {
                payload.chunks_exact(Placed::BYTES).map(Placed::load).collect::<Vec<_>>()
            })?;
            let Reply::Filled { count, next, .. } = reply else { break };
            for Placed { start, end, region } in placed.into_iter().take(count as usize) {
                push(told, start, None);
                push(start, end, Some(RegionId(region as u32)));
                told = end;
            }
            at = next;
        }
        push(told, range.end(), None);
        Ok(runs)
    }

    /// Bytes of a range that are in `region`, or in any region.
    ///
    /// # Errors
    ///
    /// As [`placement`](Self::placement).
    pub fn device_bytes(&self, range: PageRange, region: Option<RegionId>) -> Result<u64> {
        let runs = self.placement(range)?;
        let counts = |run: &&Placement| run.region.is_some() && (region.is_none() || run.region == region);
        Ok(runs.iter().filter(counts).map(|run| run.range.len()).sum())
    }
}
