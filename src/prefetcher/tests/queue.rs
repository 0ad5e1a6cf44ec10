//! Order, chunks and coalescing as arithmetic.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::outcome::Observe;
use crate::prefetcher::options::{Prepare, Priority};
use crate::prefetcher::queue::{Queue, Terms, runs};
use crate::range::{PageRange, page_size};

const CHUNK_PAGES: u64 = 8;

fn pages(first: u64, count: u64) -> PageRange {
    PageRange::new(first * page_size(), count * page_size()).unwrap()
}

fn terms(target: usize, priority: i8) -> Terms {
    Terms {
        target,
        priority: Priority::new(priority),
        observe: Observe::Cheaply,
        prepare: Prepare::Nothing,
        chunk: CHUNK_PAGES * page_size(),
        budgeted: false,
    }
}

#[test]
fn higher_first_then_older() {
    let mut queue = Queue::default();
    for (name, priority) in [("a", 0), ("b", -3), ("c", 7), ("d", 0), ("e", 7)] {
        // Far apart, so that nothing is done together.
        queue.push(
            name,
            pages(100 * (priority as u64 & 0xff) + 1000 * name.as_bytes()[0] as u64, 1),
            terms(0, priority),
        );
    }
    let taken: Vec<&str> = std::iter::from_fn(|| queue.take()).map(|batch| batch.parts[0].task).collect();
    assert_eq!(taken, ["c", "e", "a", "d", "b"]);
}

#[test]
fn chunks_are_cut_at_multiples_and_a_higher_request_gets_in_between() {
    let mut queue = Queue::default();
    queue.push("long", pages(5, 20), terms(0, 0));
    let next = |queue: &mut Queue<&'static str>| {
        let batch = queue.take().unwrap();
        (batch.parts[0].task, batch.parts[0].range, batch.parts[0].first, batch.parts[0].last)
    };
    assert_eq!(next(&mut queue), ("long", pages(5, 3), true, false));
    queue.push("urgent", pages(100, 2), terms(0, 1));
    assert_eq!(next(&mut queue), ("urgent", pages(100, 2), true, true));
    assert_eq!(next(&mut queue), ("long", pages(8, 8), false, false));
    assert_eq!(next(&mut queue), ("long", pages(16, 8), false, false));
    assert_eq!(next(&mut queue), ("long", pages(24, 1), false, true));
    assert!(queue.take().is_none() && queue.len() == 0);
}

#[test]
fn neighbours_on_both_sides_are_done_together() {
    let mut queue = Queue::default();
    for (name, first, count) in
        [("seed", 4, 1), ("far", 20, 1), ("left", 2, 2), ("right", 5, 1), ("inside", 3, 2)]
    {
        queue.push(name, pages(first, count), terms(0, 0));
    }
    let mut names: Vec<&str> = queue.take().unwrap().parts.iter().map(|part| part.task).collect();
    names.sort_unstable();
    assert_eq!(names, ["inside", "left", "right", "seed"]);
    assert_eq!(queue.take().unwrap().parts[0].task, "far");
}

#[test]
fn other_terms_and_too_large_neighbours_stay_apart() {
    let mut queue = Queue::default();
    queue.push("seed", pages(0, 4), terms(0, 0));
    queue.push("other target", pages(4, 1), terms(1, 0));
    queue.push("other priority", pages(4, 1), terms(0, -1));
    queue.push("too long together", pages(4, CHUNK_PAGES), terms(0, 0));
    queue.push("other care", pages(4, 1), Terms { observe: Observe::Nothing, ..terms(0, 0) });
    assert_eq!(queue.take().unwrap().parts.len(), 1);
    assert_eq!(queue.len(), 4);
}

#[test]
fn a_held_request_waits_for_the_budget() {
    let mut queue = Queue::default();
    let ticket = queue.push("held", pages(0, 24), Terms { budgeted: true, ..terms(0, 0) });
    queue.push("other", pages(100, 1), terms(0, -1));
    assert_eq!(queue.take().unwrap().parts[0].range, pages(0, 8));
    assert_eq!(queue.take().unwrap().parts[0].task, "other");
    assert!(queue.take().is_none() && !queue.has_work() && queue.len() == 1);
    queue.release(ticket, 12 * page_size());
    assert!(queue.has_work());
    let part = queue.take().unwrap().parts.remove(0);
    assert_eq!((part.range, part.last), (pages(8, 4), true));
    assert_eq!(queue.len(), 0);

    let ticket = queue.push("refused", pages(0, 24), Terms { budgeted: true, ..terms(0, 0) });
    queue.take().unwrap();
    queue.release(ticket, 0);
    assert_eq!(queue.len(), 0);
}

fn requests() -> impl Strategy<Value = Vec<(u64, u64, usize, i8)>> {
    proptest::collection::vec((0..64u64, 1..20u64, 0..2usize, 0..2i8), 1..24)
}

proptest! {
    #[test]
    fn every_page_of_every_request_is_taken_once(requests in requests()) {
        let mut queue = Queue::default();
        for (number, &(first, count, target, priority)) in requests.iter().enumerate() {
            queue.push(number, pages(first, count), terms(target, priority));
        }
        let mut taken: BTreeMap<usize, Vec<PageRange>> = BTreeMap::new();
        let mut finished = Vec::new();
        let mut seeds = Vec::new();
        while let Some(batch) = queue.take() {
            let hull = batch.parts.iter().map(|part| part.range).reduce(|a, b| a.hull(b)).unwrap();
            prop_assert!(hull.len() <= CHUNK_PAGES * page_size());
            prop_assert_eq!(runs(batch.parts.iter().map(|part| part.range)), [hull], "one run");
            let seed = batch.parts[0].task;
            seeds.push((-requests[seed].3, seed));
            for part in &batch.parts {
                let (_, _, target, priority) = requests[part.task];
                prop_assert_eq!(batch.terms, terms(target, priority));
                let pieces = taken.entry(part.task).or_default();
                prop_assert_eq!(part.first, pieces.is_empty());
                pieces.push(part.range);
                if part.last {
                    finished.push(part.task);
                }
            }
            // Nothing that could have come along was left behind.
            for (number, &(first, count, target, priority)) in requests.iter().enumerate() {
                let range = pages(first, count);
                let untouched = !taken.contains_key(&number);
                let alike = terms(target, priority) == batch.terms;
                let touches = range.start() <= hull.end() && hull.start() <= range.end();
                let fits = hull.hull(range).len() <= CHUNK_PAGES * page_size();
                let room = batch.parts[0].range.len() < CHUNK_PAGES * page_size();
                prop_assert!(!(untouched && alike && touches && fits && room), "{} stayed behind", number);
            }
        }
        prop_assert!(seeds.is_sorted(), "by priority, then by age: {:?}", seeds);
        finished.sort_unstable();
        prop_assert_eq!(finished, (0..requests.len()).collect::<Vec<_>>());
        for (number, &(first, count, ..)) in requests.iter().enumerate() {
            let pieces = &taken[&number];
            prop_assert!(pieces.windows(2).all(|two| two[0].end() == two[1].start()));
            prop_assert_eq!(pieces[0].hull(pieces[pieces.len() - 1]), pages(first, count));
        }
    }

    #[test]
    fn runs_are_the_union(ranges in proptest::collection::vec((0..60u64, 0..9u64), 0..20)) {
        let ranges: Vec<PageRange> = ranges.into_iter().map(|(first, count)| pages(first, count)).collect();
        let runs = runs(ranges.iter().copied());
        prop_assert!(runs.windows(2).all(|two| two[0].end() < two[1].start()));
        for page in 0..80 {
            let at = page * page_size();
            let expected = ranges.iter().any(|range| range.contains(at));
            prop_assert_eq!(runs.iter().any(|run| run.contains(at)), expected);
        }
    }
}
