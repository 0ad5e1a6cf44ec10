//! How much VRAM a prefetch would take.

use crate::range::{PageRange, SIZE_2M};
use crate::residency::{Place, Residency};
use crate::vma::VmaMap;

/// Whether a page already takes VRAM.
pub(super) fn in_vram(place: Place) -> bool {
    matches!(place, Place::Device | Place::Ambiguous)
}

/// The parts of `range` that would take VRAM: movable memory that is not there yet, in ascending order.
pub(super) fn parts(range: PageRange, now: &Residency, vmas: &VmaMap) -> Vec<PageRange> {
    let elsewhere = now.runs().iter().filter(|run| !in_vram(run.place()));
    let elsewhere: Vec<PageRange> = elsewhere.filter_map(|run| run.range().intersection(range)).collect();
    let mut parts = Vec::new();
    let mut first = 0;
    for vma in vmas.within(range).filter(|vma| vma.is_movable()) {
        while first < elsewhere.len() && elsewhere[first].end() <= vma.range().start() {
            first += 1;
        }
        parts.extend(elsewhere[first..].iter().map_while(|run| run.intersection(vma.range())));
    }
    parts
}

/// Bytes of the parts.
pub(super) fn bytes(parts: &[PageRange]) -> u64 {
    parts.iter().map(PageRange::len).sum()
}

/// How far into `range` one gets with `room` bytes of VRAM: to a multiple of 2 MiB, since less than a block would send the
/// driver looking for room after all. The end when everything fits.
pub(super) fn reach(range: PageRange, parts: &[PageRange], room: u64) -> u64 {
    let mut left = room;
    for part in parts {
        if part.len() > left {
            let cut = (part.start() + left) / SIZE_2M * SIZE_2M;
            return cut.max(range.start());
        }
        left -= part.len();
    }
    range.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Buffer;
    use crate::residency;

    /// The parts of a buffer of 6 MiB while its middle third is read-only.
    fn parts_around_the_middle(data: &Buffer<u8>) -> Vec<PageRange> {
        let range = data.range();
        let middle = PageRange::new(range.start() + SIZE_2M, SIZE_2M).unwrap();
        let middle_of = |protection| {
            // SAFETY: the pages are the buffer's own, and nobody writes to them while they are read-only.
            unsafe { rustix::mm::mprotect(middle.start() as *mut _, middle.len() as usize, protection) }
                .unwrap();
        };
        middle_of(rustix::mm::MprotectFlags::READ);
        let (now, mut vmas) = (residency::of_range(range).unwrap(), VmaMap::default());
        vmas.read(range).unwrap();
        let parts = parts(range, &now, &vmas);
        middle_of(rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE);
        parts
    }

    #[test]
    fn parts_on_both_sides_of_what_cannot_move() {
        let data = Buffer::<u8>::from_slice(&vec![1u8; 6 << 20]).unwrap();
        let (parts, range) = (parts_around_the_middle(&data), data.range());
        assert_eq!(bytes(&parts), 4 << 20, "{parts:?}");
        assert_eq!(parts.first().map(PageRange::start), Some(range.start()));
        assert_eq!(parts.last().map(PageRange::end), Some(range.end()));
    }

    #[test]
    fn parts_behind_a_run_that_ends_before_their_mapping() {
        let mut data = Buffer::<u8>::zeroed(6 << 20).unwrap();
        // Two runs, of pages that are there and of pages that never were; the second begins where a mapping does.
        data[..4 << 20].fill(1);
        let expected = [(0, 2), (4, 2)].map(|(start, len): (u64, u64)| {
            PageRange::new(data.range().start() + (start << 20), len << 20).unwrap()
        });
        assert_eq!(parts_around_the_middle(&data), expected);
    }

    fn mib(start: u64, len: u64) -> PageRange {
        PageRange::new(start << 20, len << 20).unwrap()
    }

    #[test]
    fn reach_ends_where_the_room_ends_rounded_down_to_blocks() {
        let range = mib(3, 20);
        let parts = [mib(4, 4), mib(12, 8)];
        assert_eq!(bytes(&parts), 12 << 20);
        assert_eq!(reach(range, &parts, 12 << 20), range.end(), "all fits");
        assert_eq!(reach(range, &parts, u64::MAX), range.end());
        assert_eq!(reach(range, &parts, 7 << 20), 14 << 20, "3 MiB into the second part is 15, rounded down");
        assert_eq!(reach(range, &parts, 4 << 20), 12 << 20, "the first part fits exactly");
        assert_eq!(reach(range, &parts, 0), 4 << 20, "what is there already takes nothing");
        assert_eq!(reach(range, &[mib(3, 4)], 0), range.start(), "never below the range");
        assert_eq!(reach(range, &[], 0), range.end());
    }
}
