//! What a prefetch says of itself, where its pages are, what the driver logged and what the kernel counts tell the same
//! story.

use std::fs;

use drm_pagemap::kfd::{Location, MigrateTrigger, SmiEvent, SmiEvents, SmiMask};
use drm_pagemap::range::{PageRange, page_size};
use drm_pagemap::{Buffer, Device};

use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "story/outcome_residency_and_events",
        needs: &[Need::Kfd, Need::Vram],
        run: outcome_residency_and_events,
    },
    Test {
        name: "story/what_the_kernel_counts",
        needs: &[Need::Kfd, Need::Vram],
        run: what_the_kernel_counts,
    },
    Test {
        name: "story/of_a_prefetch_that_moved_half",
        needs: &[Need::Kfd, Need::Vram],
        run: of_a_prefetch_that_moved_half,
    },
];

const BYTES: u64 = 8 << 20;

/// A migration as it was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Migration {
    from: Location,
    to: Location,
    trigger: MigrateTrigger,
}

fn log(context: &Context) -> Result<(SmiEvents, Location), drm_pagemap::Error> {
    let Device::Kfd(gpu) = context.gpu().device() else { unreachable!("the tests need KFD") };
    Ok((gpu.process().smi_events(gpu.id(), SmiMask::MIGRATIONS)?, Location::Gpu(gpu.id())))
}

/// Bytes of `range` that migrations of this kind began with, and ended with. Any other migration of the range is a failure.
fn logged(
    log: &mut SmiEvents,
    range: PageRange,
    expected: Migration,
) -> Result<(u64, u64), drm_pagemap::Error> {
    let (mut began, mut ended) = (0, 0);
    for event in log.drain() {
        let (of, migration, sum) = match event? {
            SmiEvent::MigrateStart(start) => (
                start.range,
                Migration { from: start.from, to: start.to, trigger: start.trigger },
                &mut began,
            ),
            SmiEvent::MigrateEnd(end) => {
                assert_eq!(end.error.unwrap_or(0), 0, "{end:?}");
                (end.range, Migration { from: end.from, to: end.to, trigger: end.trigger }, &mut ended)
            }
            other => panic!("the log holds what nobody asked for: {other:?}"),
        };
        if let Some(part) = of.intersection(range) {
            assert_eq!(migration, expected, "{of}");
            *sum += part.len();
        }
    }
    assert!(!log.may_have_lost_events());
    Ok((began, ended))
}

fn outcome_residency_and_events(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(BYTES as usize)?;
    let range = data.range();
    let (mut log, here) = log(context)?;
    let there = Migration { from: Location::System, to: here, trigger: MigrateTrigger::Prefetch };

    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_eq!((outcome.moved(), outcome.already_there(), outcome.not_moved()), (BYTES, 0, 0), "{outcome}");
    assert_eq!(device_bytes(range)?, BYTES);
    assert_eq!(logged(&mut log, range, there)?, (BYTES, BYTES));

    let again = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_eq!((again.moved(), again.already_there()), (0, BYTES), "{again}");
    // The driver may look at the range once more, and logs that it does; `what_the_kernel_counts` shows that nothing moves.
    let (began, ended) = logged(&mut log, range, there)?;
    assert_eq!(began, ended);

    let back = Migration { from: here, to: Location::System, trigger: MigrateTrigger::Prefetch };
    let outcome = mirror.prefetch(&data).to_system().run()?;
    assert_eq!((outcome.moved(), outcome.not_moved()), (BYTES, 0), "{outcome}");
    assert_eq!(device_bytes(range)?, 0);
    assert_eq!(logged(&mut log, range, back)?, (BYTES, BYTES));
    assert_intact(&data);
    assert_eq!(logged(&mut log, range, back)?, (0, 0), "reading memory that is back migrates nothing");
    Ok(())
}

/// What KFD counts for this process and one GPU, in sysfs.
#[derive(Clone, Copy, Debug)]
struct Counted {
    /// Bytes of VRAM: what was allocated for ranges, in use or not.
    vram: u64,
    /// Pages migrated into VRAM since the process began, and out of it.
    pages_in: u64,
    pages_out: u64,
}

impl Counted {
    fn now(context: &Context) -> Result<Self, String> {
        let Device::Kfd(gpu) = context.gpu().device() else { unreachable!("the tests need KFD") };
        let (folder, id) = (format!("/sys/class/kfd/kfd/proc/{}", std::process::id()), gpu.id().raw());
        let number = |name: String| {
            let path = format!("{folder}/{name}");
            let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
            text.trim().parse().map_err(|_| format!("{path} holds {text:?}"))
        };
        Ok(Self {
            vram: number(format!("vram_{id}"))?,
            pages_in: number(format!("counters_{id}/page_in"))?,
            pages_out: number(format!("counters_{id}/page_out"))?,
        })
    }
}

fn what_the_kernel_counts(context: &Context) -> TestResult {
    if context.gpu().is_simulated() {
        skip!("needs a kernel that counts: a simulated driver has no sysfs");
    }
    let counted = || Counted::now(context).expect("KFD's folder of this process can be read");
    let mirror = context.gpu().mirror()?;
    let data = filled(BYTES as usize)?;
    let before = counted();

    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    let there = counted();
    assert_eq!(there.vram - before.vram, outcome.moved(), "{outcome}");
    assert_eq!((there.pages_in - before.pages_in) * page_size(), outcome.moved(), "{outcome}");
    assert_eq!(there.pages_out, before.pages_out);
    assert_eq!(device_bytes(data.range())?, outcome.moved());

    let again = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_eq!(again.already_there(), outcome.moved(), "{again}");
    assert_eq!(counted().pages_in, there.pages_in, "nothing migrates that is there");

    // One touch brings back its block; the VRAM of the range stays allocated for the rest.
    assert_eq!(std::hint::black_box(&data)[0], crate::placement::word_at(0));
    let touched = counted();
    let back = outcome.moved() - device_bytes(data.range())?;
    assert!(back > 0);
    assert_eq!((touched.pages_out - there.pages_out) * page_size(), back);

    assert_intact(&data);
    let after = counted();
    assert_eq!(device_bytes(data.range())?, 0);
    assert_eq!((after.pages_out - before.pages_out) * page_size(), outcome.moved());
    assert_eq!(after.vram, before.vram, "VRAM is given back with the last page");
    Ok(())
}

fn of_a_prefetch_that_moved_half(context: &Context) -> TestResult {
    use nix::sys::mman::{ProtFlags, mprotect};
    let mirror = context.gpu().mirror()?;
    let data: Buffer<u64> = filled(BYTES as usize)?;
    let (movable, fixed) = data.range().split_at(data.range().start() + BYTES / 2)?;
    let protect = |flags| {
        let start = std::ptr::NonNull::new(fixed.start() as *mut std::ffi::c_void).expect("not null");
        // SAFETY: the pages are the buffer's own, stay readable, and nobody writes to them until the protection is back.
        unsafe { mprotect(start, fixed.len() as usize, flags) }.expect("own memory can be protected");
    };
    let (mut log, here) = log(context)?;
    protect(ProtFlags::PROT_READ);
    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run();
    let placed = (device_bytes(movable)?, device_bytes(fixed)?);
    protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
    let outcome = outcome?;
    assert_eq!((outcome.moved(), outcome.not_moved()), placed_as(placed, fixed), "{outcome}");
    let there = Migration { from: Location::System, to: here, trigger: MigrateTrigger::Prefetch };
    let (began, ended) = logged(&mut log, movable, there)?;
    assert_eq!((began, ended), (placed.0, placed.0), "each page that moved was announced once");
    assert_intact(&data);
    Ok(())
}

/// What an outcome must say where so many bytes of the two halves are in VRAM.
fn placed_as((movable, fixed): (u64, u64), half: PageRange) -> (u64, u64) {
    (movable + fixed, half.len() - movable + half.len() - fixed)
}
