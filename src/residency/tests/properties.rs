//! What holds for every memory and every kernel.

use proptest::prelude::*;

use super::model::{Mapping, Model, Page, candidates, is_doubtful};
use crate::range::{PageRange, page_size};
use crate::residency::kernel::SwapSpace;
use crate::residency::scanner::Engine;
use crate::residency::{Depth, Place, Residency};

const FIRST: u64 = 32;

fn any_page() -> impl Strategy<Value = Page> {
    prop::sample::select(vec![
        Page::Absent,
        Page::System,
        Page::Huge,
        Page::Zero,
        Page::Guard,
        Page::Device,
        Page::Device,
        Page::DeviceReadOnly,
        Page::DeviceHuge,
        Page::Swapped,
        Page::SwapCached,
        Page::Marker,
    ])
}

/// Pages of few kinds each, so that the cases without markers, without cached slots and so on come up.
fn content() -> impl Strategy<Value = Vec<Page>> {
    prop::collection::vec(any_page(), 1..5).prop_flat_map(|kinds| {
        prop::collection::vec((prop::sample::select(kinds), 1usize..4), 1..12)
            .prop_map(|runs| runs.into_iter().flat_map(|(page, count)| vec![page; count]).collect())
    })
}

fn any_mapping() -> impl Strategy<Value = (u64, Mapping)> {
    (content(), 0u64..3, any::<[bool; 4]>(), 0u64..3, prop::bool::weighted(0.1)).prop_map(
        |(pages, gap, [shared, file, userfaultfd, denied], other_slots, special)| {
            let mut mapping = Mapping::anonymous(0, &pages);
            mapping.shared = shared && file;
            mapping.file = file;
            mapping.userfaultfd = userfaultfd;
            mapping.mincore_denied = denied && file;
            mapping.other_slots = if file { other_slots } else { 0 };
            mapping.special = special;
            for page in &mut mapping.pages {
                *page = match *page {
                    // Entries of memory of a device are nobody's pages.
                    _ if special => Page::Absent,
                    Page::Marker if !userfaultfd => Page::Absent,
                    Page::Marker | Page::Absent => *page,
                    _ if mapping.shared => Page::File,
                    _ => *page,
                };
            }
            (gap, mapping)
        },
    )
}

fn any_model() -> impl Strategy<Value = Model> {
    let swap = prop::sample::select(vec![
        SwapSpace::Present,
        SwapSpace::Present,
        SwapSpace::Empty,
        SwapSpace::NotBuilt,
    ]);
    (prop::collection::vec(any_mapping(), 1..5), swap, any::<[bool; 5]>()).prop_map(
        |(parts, swap, [types, has_ioctl, has_query, guard_known, stale_walk_end])| {
            let mut at = FIRST;
            let mut mappings = Vec::new();
            for (gap, mut mapping) in parts {
                mapping.first = at + gap;
                at = mapping.end();
                for page in &mut mapping.pages {
                    let without_swap = page.is_swap() && swap != SwapSpace::Present;
                    // Guard regions are younger than the ioctl.
                    let without_guard = *page == Page::Guard && !has_ioctl;
                    if without_swap || without_guard {
                        *page = Page::System;
                    }
                }
                mappings.push(mapping);
            }
            Model { swap, types, has_ioctl, has_query, guard_known, stale_walk_end, ..Model::new(mappings) }
        },
    )
}

fn span(model: &Model) -> u64 {
    model.mappings.last().map_or(0, Mapping::end) + 2 - FIRST
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn nothing_is_claimed_that_is_not_so(
        model in any_model(),
        cut in any::<(prop::sample::Index, prop::sample::Index)>(),
        many_pages in 1u64..6,
    ) {
        let total = span(&model) as usize;
        let (a, b) = (cut.0.index(total + 1) as u64, cut.1.index(total + 1) as u64);
        let (low, high) = (FIRST + a.min(b), FIRST + a.max(b));
        let range = PageRange::new(low * page_size(), (high - low) * page_size()).unwrap();
        let mut engine = Engine::new(model).unwrap();
        engine.collector.many_pages = many_pages;
        let mut residency = Residency::new();
        for depth in [Depth::Exact, Depth::Cheap, Depth::Settled] {
            engine.depth = depth;
            engine.scan(range, &mut residency).unwrap();
            check(&engine.kernel, &residency, range)?;
            prop_assert_eq!(engine.device_bytes(range).unwrap(), residency.summary().device_bytes());
        }
        // What one can know without swap, markers and so on, one must know.
        let kernel = &engine.kernel;
        let files = kernel.mappings.iter().any(|mapping| mapping.file);
        let guards_known = kernel.guard_known || (kernel.swap == SwapSpace::Empty && !files);
        if guards_known && !kernel.mappings.iter().any(is_doubtful) {
            prop_assert_eq!(residency.summary().bytes(Place::Ambiguous), 0, "{:?}", residency);
        }
        if kernel.types && kernel.swap != SwapSpace::NotBuilt && !files {
            prop_assert_eq!(residency.summary().bytes(Place::Ambiguous), 0, "{:?}", residency);
        }
    }
}

fn check(kernel: &Model, residency: &Residency, range: PageRange) -> Result<(), TestCaseError> {
    // The runs tile the range and no two neighbours could be one.
    prop_assert_eq!(residency.range(), Some(range));
    let mut at = range.start();
    for run in residency.runs() {
        prop_assert_eq!(run.range().start(), at);
        prop_assert!(!run.range().is_empty());
        at = run.range().end();
    }
    prop_assert_eq!(at, range.end());
    for pair in residency.runs().windows(2) {
        prop_assert!((pair[0].place(), pair[0].is_huge()) != (pair[1].place(), pair[1].is_huge()));
    }

    // The summary is the sum of the runs.
    let summary = residency.summary();
    prop_assert_eq!(summary.total(), range.len());
    for place in Place::ALL {
        let sum: u64 = residency.runs_in(place).map(|run| run.len()).sum();
        prop_assert_eq!(summary.bytes(place), sum);
    }

    // Each page is where it is said to be, or said to be unknown where that is true.
    let size = page_size();
    let mut device = 0;
    for (page, place) in (range.start() / size..).zip(residency.pages()) {
        let right = kernel.right(page);
        let truth = kernel.page(page);
        device += u64::from(truth.is_private_device()) * size;
        if place == Place::Ambiguous {
            let mapping = kernel.mapping(page).unwrap();
            prop_assert!(candidates(mapping) || truth == Page::Guard, "{:?} is certain", truth);
        } else {
            prop_assert!(right.contains(&place), "{:?} at page {} is called {}", truth, page, place);
        }
        prop_assert_eq!(residency.place_at(page * size), Some(place));
        prop_assert_eq!(residency.place_at(page * size + size - 1), Some(place));
    }
    prop_assert_eq!(residency.place_at(range.end()), None);

    // The number of device pages is within what is said, in the range and in each doubtful mapping.
    prop_assert!(summary.device_bytes().contains(&device), "{:?} of {}", summary.device_bytes(), device);
    for ambiguity in residency.ambiguities() {
        let mapping = kernel.mapping(ambiguity.vma().start() / size).unwrap();
        prop_assert_eq!(ambiguity.vma().pages(), mapping.pages.len() as u64);
        let truth = mapping.pages.iter().filter(|page| page.is_private_device()).count() as u64 * size;
        prop_assert!(ambiguity.device_bytes_in_vma().contains(&truth), "{:?} of {}", ambiguity, truth);
    }
    Ok(())
}
