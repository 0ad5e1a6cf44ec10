//! A process's own GPU commands that fail: its queue dies, its data and the device do not.

use std::time::Duration;

use drm_pagemap::xe::{Batch, Timeout};
use drm_pagemap::{Buffer, Error, ErrorKind, Gpu};

use super::bench::Bench;
use crate::harness::mailbox::{PROCESS_JOBS, Trouble};
use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, filled};
use crate::queue::{PATIENCE, Runner};

// `Vram`: a queue's stores move what they touch, and on 6.17 the way back crashes the kernel (`xe_svm_copy`).
pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "trouble/queue_that_writes_to_unmapped_memory",
        needs: &[Need::Xe, Need::Vram],
        run: queue_that_writes_to_unmapped_memory,
    },
    Test {
        name: "trouble/queue_with_a_memory_error",
        needs: &[Need::Xe, Need::Vram, Need::Injection],
        run: queue_with_a_memory_error,
    },
    Test {
        name: "trouble/queue_that_hangs",
        needs: &[Need::Xe, Need::Vram, Need::Injection],
        run: queue_that_hangs,
    },
];

/// The device and other queues are none the worse for what one queue did.
fn assert_works(gpu: &Gpu) -> TestResult {
    let runner = Runner::new(gpu)?;
    let target = Buffer::<u32>::zeroed(1 << 10)?;
    runner.run(Batch::new().store_u32(target.range().start(), 0x600d), PATIENCE)?;
    assert_eq!(target[0], 0x600d, "a new queue works");
    Ok(())
}

/// The queue is dead, and says so from now on.
fn assert_banned(runner: &Runner, error: &Error) -> TestResult {
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
    assert!(error.hint().is_some(), "{error}");
    assert!(runner.queue().is_banned()?, "{error}");
    let error = runner.run(Batch::new(), PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "a banned queue takes no work: {error}");
    Ok(())
}

fn queue_that_writes_to_unmapped_memory(context: &Context) -> TestResult {
    context.expect_log("CAT error");
    let runner = Runner::new(context.gpu())?;
    let data = filled(2 << 20)?;
    let hole = {
        let freed = Buffer::<u64>::zeroed((2 << 20) / 8)?;
        freed.range().start()
    };
    let error = runner.run(Batch::new().store_u32(hole, 1), PATIENCE).unwrap_err();
    assert_banned(&runner, &error)?;
    assert_intact(&data);
    assert_works(context.gpu())
}

fn queue_with_a_memory_error(context: &Context) -> TestResult {
    context.expect_log("CAT error");
    let bench = Bench::new(context)?;
    let mailbox = bench.mailbox("memory errors in commands")?;
    let runner = Runner::new(&bench.gpu)?;
    let data = filled(2 << 20)?;
    let before = bench.struck(Trouble::JobError);
    mailbox.arm(Trouble::JobError, 1, 1, PROCESS_JOBS, 0);
    let error = runner.run(Batch::new(), PATIENCE).unwrap_err();
    bench.assert_struck(Trouble::JobError, before);
    assert_banned(&runner, &error)?;
    assert_intact(&data);
    assert_works(&bench.gpu)
}

fn queue_that_hangs(context: &Context) -> TestResult {
    let bench = Bench::new(context)?;
    let mailbox = bench.mailbox("engines that hang")?;
    let runner = Runner::new(&bench.gpu)?;
    let mirror = bench.mirror()?;
    let data = filled(2 << 20)?;
    let before = bench.struck(Trouble::JobHang);
    mailbox.arm(Trouble::JobHang, 1, 1, PROCESS_JOBS, 0);
    let error = runner.run(Batch::new(), Timeout::Within(Duration::from_secs(1))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    bench.assert_struck(Trouble::JobHang, before);
    // Prefetching goes on beside it.
    let outcome = bench.to_vram(&mirror, &data)?;
    assert!(outcome.is_complete(), "{outcome}");
    drop(runner);
    assert_intact(&data);
    assert_works(&bench.gpu)
}
