//! Which request of ours set a migration off.

use std::time::Duration;

use super::event::Trigger;
use crate::mirror::{JournalReader, Memory, Request, RequestKind};
use crate::range::PageRange;

/// The request that a migration at that time belongs to. Drivers do not name it; but they migrate inside the call, and stamp events
/// with a clock that can be read, so a migration by a prefetch is one of a request that was under way then and overlaps.
pub(super) fn request(
    journal: &JournalReader,
    at: Duration,
    range: PageRange,
    to: Memory,
    trigger: Trigger,
) -> Option<Request> {
    journal.best(|request| rank(request, at, range, to, trigger))
}

fn rank(request: &Request, at: Duration, range: PageRange, to: Memory, trigger: Trigger) -> Option<u32> {
    if !request.is_under_way_at(at) {
        return None;
    }
    let overlaps = request.range.overlaps(range);
    match trigger {
        Trigger::Prefetch | Trigger::Other(_) if !overlaps => None,
        // On the way from one GPU to another pages pass through system memory.
        Trigger::Prefetch | Trigger::Other(_) => Some(match request.kind {
            RequestKind::Prefetch if request.to == Some(to) => 2,
            _ => 1,
        }),
        // A prefetch to system memory has pages touched that the driver left in VRAM.
        Trigger::CpuTouch => (overlaps && request.to == Some(Memory::System)).then_some(1),
        Trigger::Eviction => (request.to == Some(Memory::Vram)).then_some(u32::from(!overlaps)),
        Trigger::GpuFault => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::page_size;

    fn pages(first: u64, count: u64) -> PageRange {
        PageRange::new(first * page_size(), count * page_size()).unwrap()
    }

    fn request(range: PageRange, kind: RequestKind, to: Option<Memory>) -> Request {
        let ms = Duration::from_millis;
        Request { number: 1, kind, range, to, began: ms(10), ended: Some(ms(20)), result: None }
    }

    #[test]
    fn time_place_and_direction_decide() {
        let prefetch = request(pages(8, 8), RequestKind::Prefetch, Some(Memory::Vram));
        let ms = Duration::from_millis;
        let rank_at = |at, range, to, trigger| rank(&prefetch, ms(at), range, to, trigger);
        assert_eq!(rank_at(15, pages(10, 1), Memory::Vram, Trigger::Prefetch), Some(2));
        assert_eq!(rank_at(15, pages(10, 1), Memory::System, Trigger::Prefetch), Some(1));
        assert_eq!(rank_at(9, pages(10, 1), Memory::Vram, Trigger::Prefetch), None, "before");
        assert_eq!(rank_at(21, pages(10, 1), Memory::Vram, Trigger::Prefetch), None, "after");
        assert_eq!(rank_at(15, pages(16, 1), Memory::Vram, Trigger::Prefetch), None, "elsewhere");
        assert_eq!(rank_at(15, pages(10, 1), Memory::System, Trigger::CpuTouch), None, "not asked for");
        assert_eq!(rank_at(15, pages(10, 1), Memory::Vram, Trigger::GpuFault), None);
        assert_eq!(rank_at(15, pages(40, 1), Memory::System, Trigger::Eviction), Some(1), "made room");
    }

    #[test]
    fn advice_repeats_a_prefetch_and_a_way_back_is_a_touch() {
        let advice = request(pages(0, 8), RequestKind::Advice, None);
        let at = Duration::from_millis(15);
        assert_eq!(rank(&advice, at, pages(0, 8), Memory::Vram, Trigger::Prefetch), Some(1));
        assert_eq!(rank(&advice, at, pages(0, 8), Memory::System, Trigger::Eviction), None);
        let back = request(pages(0, 8), RequestKind::Prefetch, Some(Memory::System));
        assert_eq!(rank(&back, at, pages(0, 8), Memory::System, Trigger::CpuTouch), Some(1));
    }
}
