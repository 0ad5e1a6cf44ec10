use proptest::prelude::*;

use super::*;

fn range(first_page: u64, pages: u64) -> PageRange {
    PageRange::new(first_page * page_size(), pages * page_size()).unwrap()
}

#[test]
fn the_page_size_is_the_kernels() {
    assert!(page_size().is_power_of_two());
    assert_eq!(page_size(), rustix::param::page_size() as u64);
}

#[test]
fn unaligned_and_wrapping_ranges_are_refused_with_a_reason() {
    let page = page_size();
    for (start, len) in [(1, page), (page, 1), (page / 2, page)] {
        assert_eq!(PageRange::new(start, len), Err(RangeError::Unaligned { start, len }));
    }
    let (start, len) = (u64::MAX - page + 1, 2 * page);
    assert_eq!(PageRange::new(start, len), Err(RangeError::Wraps { start, len }));
    assert!(PageRange::new(0u64.wrapping_sub(2 * page), page).is_ok());
    assert!(PageRange::new(0u64.wrapping_sub(page), page).is_err(), "the end must be representable");
    assert!(PageRange::rounded_out(u64::MAX, 1).is_err());
    assert!(PageRange::rounded_out(u64::MAX, 0).unwrap().is_empty());
}

#[test]
fn slices_round_outward_or_inward() {
    let page = page_size() as usize;
    let data = vec![0u8; 4 * page];
    let first = data.as_ptr() as usize;
    let skip = page - first % page;
    let aligned = &data[skip..skip + 2 * page];
    assert_eq!(PageRange::covering(aligned).len(), 2 * page as u64);
    assert_eq!(PageRange::covering(&aligned[1..page + 1]).len(), 2 * page as u64);
    assert_eq!(PageRange::covering(&aligned[1..2]).len(), page as u64);
    assert!(PageRange::covering(&aligned[1..1]).is_empty());
    assert_eq!(PageRange::inside(&aligned[1..]).len(), page as u64);
    assert!(PageRange::inside(&aligned[1..page]).is_empty());
    assert_eq!(PageRange::inside(aligned), PageRange::covering(aligned));
}

#[test]
fn split_only_inside_and_on_pages() {
    let r = range(4, 4);
    let (low, high) = r.split_at(6 * page_size()).unwrap();
    assert_eq!((low, high), (range(4, 2), range(6, 2)));
    assert!(r.split_at(r.start()).unwrap().0.is_empty());
    assert!(r.split_at(r.end()).unwrap().1.is_empty());
    let at = 3 * page_size();
    assert_eq!(r.split_at(at), Err(RangeError::Outside { at, range: r }));
    assert_eq!(r.split_at(r.start() + 1), Err(RangeError::Unaligned { start: r.start() + 1, len: 0 }));
}

#[test]
fn chunks_are_the_largest_natural_ones() {
    let start = SIZE_2M - SIZE_64K - SIZE_4K;
    let r = PageRange::new(start, SIZE_4K + SIZE_64K + 2 * SIZE_2M + SIZE_64K + 2 * SIZE_4K).unwrap();
    let sizes: Vec<u64> = r.chunks().map(|c| c.len()).collect();
    assert_eq!(sizes, [SIZE_4K, SIZE_64K, SIZE_2M, SIZE_2M, SIZE_64K, SIZE_4K, SIZE_4K]);
}

#[test]
fn aligning_at_the_edges_of_the_address_space() {
    let top = PageRange::from_aligned(!(SIZE_2M - 1), !(SIZE_4K - 1));
    assert_eq!(top.align_outward(SIZE_2M), None);
    assert!(top.align_inward(SIZE_2M).is_empty());
    assert_eq!(top.chunks().map(|c| c.len()).sum::<u64>(), top.len());
    assert_eq!(top.blocks(SIZE_2M).count(), 1);
}

#[test]
#[should_panic(expected = "not a power of two")]
fn odd_units_are_a_programming_error() {
    let _ = range(0, 1).blocks(page_size() + 1);
}

fn any_range() -> impl Strategy<Value = PageRange> {
    (0u64..4096, 0u64..2048).prop_map(|(first, pages)| range(first, pages))
}

proptest! {
    #[test]
    fn pieces_tile_the_range(r in any_range(), unit_shift in 0u32..10) {
        let unit = page_size() << unit_shift;
        let blocks = r.blocks(unit);
        prop_assert_eq!(blocks.len(), blocks.clone().count());
        for pieces in [blocks.collect::<Vec<_>>(), r.chunks().collect()] {
            let mut at = r.start();
            for piece in &pieces {
                prop_assert_eq!(piece.start(), at);
                prop_assert!(!piece.is_empty());
                at = piece.end();
            }
            prop_assert_eq!(at, r.end());
        }
        for block in r.blocks(unit) {
            prop_assert_eq!(block.start() / unit, (block.end() - 1) / unit);
        }
        for chunk in r.chunks() {
            prop_assert!(chunk.len().is_power_of_two() && chunk.start() % chunk.len() == 0);
        }
    }

    #[test]
    fn set_operations_agree_with_pages(a in any_range(), b in any_range()) {
        let pages = |r: PageRange| (r.start() / page_size())..(r.end() / page_size());
        let common = pages(a).filter(|p| pages(b).contains(p)).count() as u64;
        prop_assert_eq!(a.intersection(b).map_or(0, |r| r.pages()), common);
        prop_assert_eq!(a.overlaps(b), common > 0);
        let (below, above) = a.without(b);
        prop_assert_eq!(below.pages() + above.pages() + common, a.pages());
        prop_assert!(!below.overlaps(b) && !above.overlaps(b));
        prop_assert!(a.hull(b).contains_range(a) || a.is_empty());
        prop_assert!(a.hull(b).contains_range(b) || b.is_empty());
    }

    #[test]
    fn alignment_brackets_the_range(r in any_range(), unit_shift in 0u32..10) {
        let unit = page_size() << unit_shift;
        let out = r.align_outward(unit).unwrap();
        let inner = r.align_inward(unit);
        prop_assert!(out.contains_range(r) && r.contains_range(inner));
        prop_assert!(out.start() % unit == 0 && out.end() % unit == 0);
        prop_assert!(inner.len() % unit == 0 && (inner.is_empty() || inner.start() % unit == 0));
        prop_assert!(r.len() - inner.len() < 2 * unit);
    }
}
