//! The sizes that small allocations are rounded up to.

use allocator_api2::alloc::Layout;

use crate::range::{SIZE_2M, page_size};

/// Smallest slot: a cache line, so that no two allocations share one.
const SMALLEST: usize = 64;
/// Largest slot; what is larger gets a mapping of its own.
pub(super) const LARGEST: usize = SIZE_2M as usize / 2;

/// The size of slot for a layout: a multiple of its alignment, at most a quarter larger than what was asked for (from a page on,
/// rounded up to whole pages). `None` for what gets a mapping of its own.
pub(super) fn slot_size(layout: Layout) -> Option<usize> {
    let size = layout.size().max(SMALLEST);
    if size > LARGEST || layout.align() > LARGEST {
        return None;
    }
    // Four steps between powers of two.
    let step = (size.next_power_of_two() / 8).max(SMALLEST);
    let page = page_size() as usize;
    let step = if size.next_multiple_of(step) >= page { step.max(page) } else { step };
    let slot = size.next_multiple_of(step.max(layout.align()));
    (slot <= LARGEST).then_some(slot)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(size: usize, align: usize) -> Option<usize> {
        slot_size(Layout::from_size_align(size, align).unwrap())
    }

    #[test]
    fn sizes() {
        for (size, align, slot) in [
            (1, 1, Some(64)),
            (64, 8, Some(64)),
            (65, 8, Some(128)),
            (513, 8, Some(640)),
            (1025, 8, Some(1280)),
            (1, 4096, Some(4096)),
            (4097, 8, Some(8192)),
            (20_000, 8, Some(20_480)),
            (1 << 20, 8, Some(1 << 20)),
            ((1 << 20) + 1, 8, None),
            (8, 2 << 20, None),
        ] {
            assert_eq!(of(size, align), slot, "{size} aligned to {align}");
        }
    }

    proptest! {
        #[test]
        fn a_slot_holds_the_layout_and_repeats_its_alignment(size in 1..LARGEST + 10, shift in 0..21u32) {
            let align = 1 << shift;
            if let Some(slot) = of(size, align) {
                let page = page_size() as usize;
                prop_assert!(slot >= size && slot <= LARGEST && slot % align == 0 && slot % SMALLEST == 0);
                prop_assert!(slot < page || slot % page == 0, "whole pages from a page on");
                let waste = (slot - size) * 4;
                prop_assert!(slot <= SMALLEST || waste <= slot.max(4 * page.max(align)), "{} for {}", slot, size);
                prop_assert!(of(slot, align) == Some(slot), "a slot is its own class");
            } else {
                prop_assert!(size.next_multiple_of(align) > LARGEST * 4 / 5, "{} aligned to {}", size, align);
            }
        }
    }
}
