//! What happened, as the driver and the crate tell it.

use std::sync::Arc;
use std::time::Duration;

use drm_pagemap::events::{
    Event, Events, FaultReason, Memory, Migration, Request, RequestKind, RequestResult, Source, Trigger, What,
};
use drm_pagemap::range::SIZE_2M;
use drm_pagemap::{Buffer, Error, ErrorKind, Mirror, PageRange, Prefetcher};

use crate::gpu_store::store_u32;
use crate::harness::{Context, Need, Test, TestResult};
use crate::lifetime::{assert_child_succeeded, in_child};
use crate::placement::{assert_intact, filled};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "events/requests_and_their_results", needs: &[Need::Vram], run: requests_and_their_results },
    Test {
        name: "events/each_reader_hears_everything",
        needs: &[Need::Vram],
        run: each_reader_hears_everything,
    },
    Test { name: "events/a_forked_child_is_refused", needs: &[], run: a_forked_child_is_refused },
    Test {
        name: "events/helpers_count_as_the_mirror",
        needs: &[Need::Vram, Need::Xe],
        run: helpers_count_as_the_mirror,
    },
    Test { name: "events/refused_requests_say_so", needs: &[], run: refused_requests_say_so },
    Test {
        name: "events/migrations_name_what_set_them_off",
        needs: &[Need::Vram, Need::Kfd],
        run: migrations_name_what_set_them_off,
    },
    Test {
        name: "events/advice_repeats_a_prefetch",
        needs: &[Need::Vram, Need::Kfd],
        run: advice_repeats_a_prefetch,
    },
    Test {
        name: "events/evictions_name_the_prefetch_that_needed_room",
        needs: &[Need::Vram, Need::Kfd, Need::Overcommit],
        run: evictions_name_the_prefetch_that_needed_room,
    },
    Test {
        name: "events/the_descriptor_wakes_a_reader",
        needs: &[Need::Vram, Need::Kfd],
        run: the_descriptor_wakes_a_reader,
    },
    Test { name: "events/xe_has_no_descriptor", needs: &[Need::Xe], run: xe_has_no_descriptor },
    Test { name: "events/failed_faults", needs: &[Need::Xe], run: failed_faults },
    Test { name: "events/counters_see_what_moves", needs: &[Need::Vram], run: counters_see_what_moves },
];

/// A hang guard.
const PATIENCE: Duration = Duration::from_secs(120);

fn all(events: &mut Events) -> Result<Vec<Event>, Error> {
    events.drain().collect()
}

/// Ended migrations of pages of `range`.
fn migrations(events: &[Event], range: PageRange) -> Vec<Migration> {
    let ended = events.iter().filter_map(|event| match &event.what {
        What::MigrationEnded { migration, took, .. } => {
            assert!(event.timed_by_driver && took.is_some(), "{event}");
            Some(*migration)
        }
        _ => None,
    });
    ended.filter(|migration| migration.range.overlaps(range)).collect()
}

fn bytes(migrations: &[Migration]) -> u64 {
    migrations.iter().map(|migration| migration.range.len()).sum()
}

fn requests_and_their_results(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let data = filled(4 << 20)?;
    let mut events = Events::of(mirror.clone())?;
    assert_eq!(events.sources()[0], Source::Requests);
    let _ = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    let _ = mirror.prefetch_range(PageRange::new(data.range().start(), SIZE_2M)?).to_system().run()?;
    let told = all(&mut events)?;
    let requests: Vec<_> = told
        .iter()
        .filter_map(|event| if let What::Request(request) = event.what { Some(request) } else { None })
        .collect();
    assert_eq!(requests.len(), 2, "{told:?}");
    let [there, back] = requests[..] else { unreachable!("two") };
    assert_eq!((there.number, there.kind, there.range), (1, RequestKind::Prefetch, data.range()));
    assert_eq!((there.to, back.to), (Some(Memory::Vram), Some(Memory::System)));
    let Some(RequestResult::Observed { moved, not_moved, .. }) = there.result else { panic!("{there:?}") };
    assert_eq!((moved, not_moved), (4 << 20, 0));
    let Some(RequestResult::Observed { moved, .. }) = back.result else { panic!("{back:?}") };
    assert_eq!(moved, SIZE_2M);
    assert!(there.ended.is_some_and(|ended| there.began <= ended && ended <= back.began));
    assert!(told.is_sorted_by_key(|event| event.at), "in the order of time");
    // amdgpu restores queues that a migration stopped in a work item of its own, a millisecond later or more
    // (`svm_range_restore_work`): that is told when it happens. Nothing else is.
    let late = [events.next_event()?, events.wait(Some(Duration::from_millis(1)))?];
    for event in late.into_iter().flatten() {
        assert!(matches!(event.what, What::QueuesResumed { .. }), "{event}");
    }
    assert_intact(&data);
    Ok(())
}

fn each_reader_hears_everything(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let data = filled(2 << 20)?;
    let mut first = Events::of(mirror.clone())?;
    let _ = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    let mut second = Events::of(mirror.clone())?;
    let _ = mirror.prefetch(&data).to_system().run()?;
    let requests = |events: &mut Events| -> Result<usize, Error> {
        Ok(all(events)?.iter().filter(|event| matches!(event.what, What::Request(_))).count())
    };
    assert_eq!((requests(&mut first)?, requests(&mut second)?), (2, 1), "from its making on");
    drop(first);
    let _ = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_eq!(requests(&mut second)?, 1, "one reader less");
    assert_intact(&data);
    Ok(())
}

fn a_forked_child_is_refused(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let mut events = Events::of(mirror.clone())?;
    let data = filled(2 << 20)?;
    let _ = mirror.prefetch(&data).to_system().run()?;
    assert_child_succeeded(in_child(|| {
        let foreign = |error: Error| error.kind() == ErrorKind::ForeignProcess;
        events.next_event().is_err_and(foreign) && Events::of(mirror.clone()).is_err_and(foreign)
    }));
    assert!(events.next_event()?.is_some(), "the parent's goes on");
    Ok(())
}

fn helpers_count_as_the_mirror(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let mut events = Events::of(mirror.clone())?;
    let data = filled(4 << 20)?;
    let builder = Prefetcher::builder(mirror.clone()).threads(2).chunk(SIZE_2M).helper_spaces(true);
    let outcome = builder.build()?.prefetch(&data).to(context.gpu().vram()).submit()?.wait()?;
    assert!(outcome.is_complete(), "{outcome}");
    let moved: u64 = all(&mut events)?
        .iter()
        .map(|event| match event.what {
            What::Request(Request { result: Some(RequestResult::Observed { moved, .. }), .. }) => moved,
            _ => 0,
        })
        .sum();
    assert_eq!(moved, outcome.moved());
    Ok(())
}

fn refused_requests_say_so(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let mut events = Events::of(mirror.clone())?;
    let data = Buffer::<u64>::zeroed(1 << 17)?;
    let refused = mirror.advise(&data).granularity(3).apply();
    let kind = refused.expect_err("neither driver takes a granularity of 3 bytes").kind();
    let told = all(&mut events)?;
    // Besides, the driver may tell of queues that it lets run again.
    let mut requests = told.iter().filter_map(|event| match event.what {
        What::Request(request) => Some(request),
        _ => None,
    });
    let request = requests.next().unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!(request.kind, RequestKind::Advice);
    assert!(
        matches!(request.result, Some(RequestResult::Failed { kind: told, .. }) if told == kind),
        "{request}"
    );
    Ok(())
}

fn migrations_name_what_set_them_off(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let data = filled(4 << 20)?;
    let range = data.range();
    let mut events = Events::of(mirror.clone())?;
    assert!(events.sources().contains(&Source::Log));

    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert!(outcome.is_complete(), "{outcome}");
    let told = all(&mut events)?;
    let there = migrations(&told, range);
    assert!(bytes(&there) >= range.len(), "{told:?}");
    for migration in &there {
        assert_eq!((migration.from, migration.to), (Memory::System, Memory::Vram), "{migration}");
        assert_eq!(migration.trigger, Trigger::Prefetch, "{migration}");
        let request = migration.request.expect("it is ours");
        assert_eq!((request.number, request.range), (1, range));
    }
    let at = |wanted: fn(&What) -> bool| told.iter().rposition(|event| wanted(&event.what));
    let (request, migration) = (
        at(|what| matches!(what, What::Request(_))),
        at(|what| matches!(what, What::MigrationBegan(_) | What::MigrationEnded { .. })),
    );
    assert!(request > migration, "a request comes after what it set off: {told:?}");

    assert_intact(&data);
    let mut touched = Vec::new();
    // A simulated device notices touches a moment later.
    while bytes(&touched) < range.len() {
        let event = events.wait(Some(PATIENCE))?.expect("every touch is told");
        touched.extend(migrations(&[event], range));
    }
    for migration in &touched {
        assert_eq!((migration.from, migration.to), (Memory::Vram, Memory::System), "{migration}");
        assert_eq!((migration.trigger, migration.request), (Trigger::CpuTouch, None), "{migration}");
    }

    let _ = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    let _ = all(&mut events)?;
    let back = mirror.prefetch(&data).to_system().run()?;
    assert!(back.is_complete(), "{back}");
    let back = migrations(&all(&mut events)?, range);
    assert!(!back.is_empty());
    for migration in &back {
        assert_eq!(
            (migration.to, migration.request.map(|request| request.number)),
            (Memory::System, Some(3))
        );
        assert_eq!(migration.trigger, Trigger::Prefetch, "{migration}");
    }
    assert_intact(&data);
    Ok(())
}

fn advice_repeats_a_prefetch(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let data = filled(4 << 20)?;
    let _ = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_intact(&data);
    let mut events = Events::of(mirror.clone())?;
    let advice = mirror.advise(&data).granularity(64 << 10).apply()?;
    let told = all(&mut events)?;
    let repeated = migrations(&told, data.range());
    assert!(!repeated.is_empty(), "KFD repeats the last prefetch: {told:?}");
    for migration in &repeated {
        assert_eq!((migration.trigger, migration.to), (Trigger::Prefetch, Memory::Vram), "{migration}");
        assert_eq!(migration.request.map(|request| request.kind), Some(RequestKind::Advice), "{migration}");
    }
    drop(advice);
    assert_intact(&data);
    Ok(())
}

fn evictions_name_the_prefetch_that_needed_room(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let vram = context.gpu().vram_regions()[0].size();
    let part = || Buffer::<u8>::zeroed((vram / 8 * 5).next_multiple_of(SIZE_2M) as usize);
    let (older, newer) = (part()?, part()?);
    let mut events = Events::of(mirror.clone())?;
    let _ = mirror.prefetch(&older).to(context.gpu().vram()).run()?;
    let _ = all(&mut events)?;
    let outcome = mirror.prefetch(&newer).to(context.gpu().vram()).run()?;
    let told = all(&mut events)?;
    let evicted: Vec<Migration> = migrations(&told, older.range())
        .into_iter()
        .filter(|migration| migration.trigger == Trigger::Eviction)
        .collect();
    if evicted.is_empty() {
        let lost = told.iter().any(|event| matches!(event.what, What::Lost { from: Source::Log, .. }));
        // The driver's admission check refuses what is larger than what it believes to be free, and then evicts nothing.
        let refused = outcome.not_moved() == newer.range().len();
        assert!(refused || lost, "the older data neither stayed nor left: {outcome}");
        skip!("the driver refused the second prefetch instead of evicting the first");
    }
    for migration in &evicted {
        assert_eq!((migration.from, migration.to), (Memory::Vram, Memory::System), "{migration}");
        let request = migration.request.expect("a prefetch of ours needed the room");
        assert_eq!((request.number, request.range), (2, newer.range()), "{migration}");
    }
    Ok(())
}

fn the_descriptor_wakes_a_reader(context: &Context) -> TestResult {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mirror = Arc::new(context.gpu().mirror()?);
    let data = filled(2 << 20)?;
    let mut events = Events::of(mirror.clone())?;
    let ready = |events: &Events, patience: Duration| {
        let log = events.descriptor().expect("KFD has a log");
        let patience = Timespec::try_from(patience).expect("a short time");
        poll(&mut [PollFd::from_borrowed_fd(log, PollFlags::IN)], Some(&patience))
            .expect("a log can be polled")
            > 0
    };
    assert!(!ready(&events, Duration::ZERO));
    std::thread::scope(|scope| -> TestResult {
        let prefetch = scope.spawn(|| mirror.prefetch(&data).to(context.gpu().vram()).run());
        assert!(ready(&events, PATIENCE), "the migration makes it readable");
        assert!(events.wait(Some(PATIENCE))?.is_some());
        let _ = prefetch.join().expect("no panic")?;
        Ok(())
    })?;
    let _ = all(&mut events)?;
    assert!(!ready(&events, Duration::ZERO), "everything was read");
    Ok(())
}

fn xe_has_no_descriptor(context: &Context) -> TestResult {
    let events = Events::of(Arc::new(context.gpu().mirror()?))?;
    assert!(events.descriptor().is_none());
    assert!(!events.sources().contains(&Source::Log));
    Ok(())
}

fn failed_faults(context: &Context) -> TestResult {
    let mirror: Arc<Mirror> = Arc::new(context.gpu().mirror()?);
    let vm = mirror.vm().expect("a mirror on xe has a VM");
    let mut events = Events::of(mirror.clone())?;
    if !events.sources().contains(&Source::FailedFaults) {
        skip!("this kernel's xe does not tell failed faults (Linux 7.1)");
    }
    let hole = Buffer::<u64>::zeroed(1 << 18)?.range().start();
    context.expect_log("CAT error");
    assert!(store_u32(vm, hole + 8, 1).is_err(), "nothing is mapped there");
    let told = all(&mut events)?;
    let faults: Vec<_> = told
        .iter()
        .filter_map(|event| if let What::FaultFailed(fault) = event.what { Some(fault) } else { None })
        .collect();
    assert!(!faults.is_empty(), "{told:?}");
    assert!(faults.iter().any(|fault| fault.address == Some(hole)), "{faults:?}");
    let reasons = [Some(FaultReason::NotMapped), Some(FaultReason::Refused)];
    assert!(faults.iter().all(|fault| reasons.contains(&fault.reason)), "{faults:?}");
    assert!(!all(&mut events)?.iter().any(|event| matches!(event.what, What::FaultFailed(_))), "told once");
    assert!(!all(&mut Events::of(mirror.clone())?)?.iter().any(|e| matches!(e.what, What::FaultFailed(_))));
    let data = Buffer::<u32>::zeroed(1 << 19)?;
    store_u32(vm, data.range().start(), 77)?;
    assert_eq!(data[0], 77, "other queues of the VM go on");
    Ok(())
}

fn counters_see_what_moves(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let mut events = Events::of(mirror.clone())?;
    if !events.sources().contains(&Source::Counters) {
        skip!("the driver's counters cannot be read (a simulated device, or not root)");
    }
    let data = filled(4 << 20)?;
    let counted = |events: &mut Events| -> Result<(u64, u64), Error> {
        let (mut there, mut back) = (0, 0);
        for event in all(events)? {
            if let What::Counted(counters) = event.what {
                there += counters.to_vram.unwrap_or(0);
                back += counters.to_system.unwrap_or(0);
            }
        }
        Ok((there, back))
    };
    let totals = events.counters().expect("the counters can be read");
    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert!(outcome.is_complete(), "{outcome}");
    let (there, _) = counted(&mut events)?;
    assert!(there >= 4 << 20, "{there} bytes to VRAM");
    assert_intact(&data);
    let (_, back) = counted(&mut events)?;
    assert!(back >= 4 << 20, "{back} bytes back");
    let grown = events.counters().expect("the counters can be read");
    assert!(grown.to_vram >= totals.to_vram.map(|total| total + (4 << 20)), "{totals} {grown}");
    assert_eq!(counted(&mut events)?, (0, 0), "told once");
    Ok(())
}
