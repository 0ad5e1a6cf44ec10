//! The driver's event log tells what a prefetch did.

use drm_pagemap::kfd::{Location, MigrateTrigger, SmiEvent, SmiMask, SvmAttribute};
use drm_pagemap::range::{PageRange, SIZE_2M, page_size};

use super::bench::Kfd;
use crate::causes::pin;
use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, filled};

pub(super) const TESTS: &[Test] = &[
    Test { name: "kfd/KFDSVMRangeTest.HMMProfilingEvent", needs: &[Need::Kfd, Need::Vram], run: profiling },
    Test { name: "kfd/events/a_touch_of_the_cpu", needs: &[Need::Kfd, Need::Vram], run: touch_of_the_cpu },
    Test {
        name: "kfd/events/second_attempts_take_no_range_apart",
        needs: &[Need::Kfd, Need::Vram],
        run: second_attempts,
    },
];

fn profiling(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let data = filled(2 * SIZE_2M as usize)?;
    let range = data.range();
    kfd.set(range, &[SvmAttribute::Access(kfd.id()), SvmAttribute::Preferred(Some(kfd.here()))])?;
    let mut log = kfd.process().smi_events(kfd.id(), SmiMask::SVM)?;
    kfd.prefetch(range, kfd.here())?;
    let events: Vec<SmiEvent> = log.drain().collect::<Result<_, _>>()?;
    let (mut started, mut ended) = (0, 0);
    for event in &events {
        match event {
            SmiEvent::MigrateStart(start) if start.range.overlaps(range) => {
                assert_eq!((start.from, start.to), (Location::System, kfd.here()), "{start:?}");
                assert_eq!(
                    (start.prefetch, start.preferred),
                    (Some(kfd.here()), Some(kfd.here())),
                    "{start:?}"
                );
                assert_eq!(start.trigger, MigrateTrigger::Prefetch);
                assert_eq!(start.pid, std::process::id() as i32);
                started += start.range.len();
            }
            SmiEvent::MigrateEnd(end) if end.range.overlaps(range) => {
                assert_eq!((end.from, end.to), (Location::System, kfd.here()), "{end:?}");
                assert_eq!(end.error.unwrap_or(0), 0, "{end:?}");
                ended += end.range.len();
            }
            SmiEvent::Raw(line) => panic!("a line that nobody understands: {line:?}"),
            _ => {}
        }
    }
    assert_eq!((started, ended), (range.len(), range.len()), "every page is announced once: {events:?}");
    assert!(!log.may_have_lost_events());
    assert_intact(&data);
    Ok(())
}

fn touch_of_the_cpu(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let data = filled(SIZE_2M as usize)?;
    kfd.place(data.range())?;
    let mut log = kfd.process().smi_events(kfd.id(), SmiMask::MIGRATIONS)?;
    assert_intact(&data);
    // A simulated driver hears of it a little later.
    let deadline = std::time::Instant::now() + super::bench::HANG;
    let mut back = 0;
    while back < SIZE_2M && std::time::Instant::now() < deadline {
        let Some(event) = log.wait(Some(super::bench::HANG))? else { break };
        if let SmiEvent::MigrateStart(start) = event {
            if start.range.overlaps(data.range()) {
                assert_eq!((start.from, start.to), (kfd.here(), Location::System), "{start:?}");
                assert_eq!(start.trigger, MigrateTrigger::PageFaultCpu, "{start:?}");
                back += start.range.len();
            }
        }
    }
    assert_eq!(back, SIZE_2M);
    Ok(())
}

/// The driver announces each of its ranges as a whole; a second attempt at a page that stays behind repeats those.
fn second_attempts(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let mirror = context.gpu().mirror()?;
    let data = filled(8 * SIZE_2M as usize)?;
    let page = PageRange::new(data.range().start() + 3 * SIZE_2M + 5 * page_size(), page_size())?;
    let Some(_ring) = pin(page) else { skip!("io_uring cannot be had here, so no page can be pinned") };
    let mut log = kfd.process().smi_events(kfd.id(), SmiMask::MIGRATIONS)?;
    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert!(!outcome.is_complete(), "{outcome}");
    let mut ranges = Vec::new();
    for event in log.drain() {
        if let SmiEvent::MigrateStart(start) = event? {
            if start.range.overlaps(data.range()) && start.to == kfd.here() {
                ranges.push(start.range);
            }
        }
    }
    let tried = ranges.iter().filter(|range| range.contains_range(page)).count();
    assert!(tried > 1, "no second attempt: {ranges:?}");
    for one in &ranges {
        for other in &ranges {
            assert!(one == other || !one.overlaps(*other), "{one} and {other}: {ranges:?}");
        }
    }
    Ok(())
}
