//! Copies between system memory and VRAM that fail or hang.

use drm_pagemap::{Error, ErrorKind, Outcome};

use super::bench::{Bench, simulated_failure_in, simulated_failure_out, simulated_slowness};
use crate::harness::mailbox::{DRIVER_COPIES_IN, DRIVER_COPIES_OUT, Trouble};
use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "trouble/copy_into_vram_fails",
        needs: &[Need::Xe, Need::Vram, Need::Injection],
        run: copy_into_vram_fails,
    },
    Test {
        name: "trouble/copy_out_of_vram_fails",
        needs: &[Need::Xe, Need::Vram, Need::Injection],
        run: copy_out_of_vram_fails,
    },
    Test {
        name: "trouble/cpu_touch_while_a_copy_fails",
        needs: &[Need::Xe, Need::Vram, Need::Injection],
        run: cpu_touch_while_a_copy_fails,
    },
    Test {
        name: "trouble/engine_hangs_in_a_migration",
        needs: &[Need::Xe, Need::Vram, Need::Injection],
        run: engine_hangs_in_a_migration,
    },
];

const LEN: usize = 4 << 20;

/// What xe says when an engine of its own has to be reset.
fn expect_reset(context: &Context) {
    for part in ["guc_exec_queue_timedout_job", "declared device"] {
        context.expect_log(part);
    }
    // While the reset has the firmware's channel off, `xe_guc_ct_send` answers ENODEV, and an invalidation that comes just then
    // makes `xe_svm_invalidate` warn, once. Nothing is lost by it: the reset empties the TLB.
    context.expect_log("xe_svm_invalidate");
    // "Unexpected engine class:instance 3:8 for utilization": the driver looks up its own copy engine, of which it thinks that
    // nobody measures it. 7.3 makes an exception for it (`engine_valid_for_utilization`).
    context.expect_log_before((7, 3), "engine_id_to_hwe");
}

/// What has come of a migration in which a copy of the driver's own failed.
///
/// xe resets the unit and repeats the job: late, but nothing is lost. After a memory error or a hang of its migration queue it may
/// instead find its job "stuck" right after the reset and give the device up (7.3.4: `guc_exec_queue_timedout_job`; its timeout is
/// none any more after `drm_sched_tdr_queue_imm`, and `check_timeout` compares what it read just before and just after the reset);
/// then the data that was being copied is gone, and the caller must be told.
///
/// A simulated device repeats nothing by itself: what could not be moved stays, and is said to be worth another try.
fn judge(bench: &Bench, outcome: Result<Outcome, Error>, data: &[u64]) {
    if bench.is_alive() {
        let outcome = outcome.expect("a device that goes on has done it");
        assert!(outcome.is_complete() || bench.gpu.is_simulated() && outcome.retry_useful(), "{outcome}");
        assert_intact(data);
    } else {
        let error = outcome.expect_err("no word of success from a device that was given up");
        assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
}

fn copy_into_vram_fails(context: &Context) -> TestResult {
    expect_reset(context);
    let bench = Bench::new(context)?;
    let mirror = bench.mirror()?;
    let data = filled(LEN)?;
    let bystander = filled(LEN)?;
    let before = bench.struck(Trouble::CopyError);
    bench.order(Trouble::CopyError, DRIVER_COPIES_IN, 0, simulated_failure_in())?;
    let outcome = bench.to_vram(&mirror, &data);
    bench.assert_struck(Trouble::CopyError, before);
    judge(&bench, outcome, &data);
    assert_intact(&bystander);
    Ok(())
}

fn copy_out_of_vram_fails(context: &Context) -> TestResult {
    expect_reset(context);
    let bench = Bench::new(context)?;
    let mirror = bench.mirror()?;
    let data = filled(LEN)?;
    let bystander = filled(LEN)?;
    assert!(bench.to_vram(&mirror, &data)?.is_complete());
    let before = bench.struck(Trouble::CopyError);
    bench.order(Trouble::CopyError, DRIVER_COPIES_OUT, 0, simulated_failure_out())?;
    let outcome = mirror.prefetch(&data).to_system().run();
    bench.assert_struck(Trouble::CopyError, before);
    judge(&bench, outcome, &data);
    assert_intact(&bystander);
    Ok(())
}

fn cpu_touch_while_a_copy_fails(context: &Context) -> TestResult {
    expect_reset(context);
    let bench = Bench::new(context)?;
    let mailbox =
        bench.mailbox("copies that fail but once: a touch of a page that cannot come back is a SIGBUS")?;
    let mirror = bench.mirror()?;
    let data = filled(LEN)?;
    let bystander = filled(LEN)?;
    assert!(bench.to_vram(&mirror, &data)?.is_complete());
    let before = bench.struck(Trouble::CopyError);
    mailbox.arm(Trouble::CopyError, 1, 1, DRIVER_COPIES_OUT, 0);
    // A touch cannot be told of a failure; the next call can.
    std::hint::black_box(std::hint::black_box(&data)[0]);
    bench.assert_struck(Trouble::CopyError, before);
    judge(&bench, mirror.prefetch(&data).to_system().run(), &data);
    assert_intact(&bystander);
    Ok(())
}

fn engine_hangs_in_a_migration(context: &Context) -> TestResult {
    expect_reset(context);
    let bench = Bench::new(context)?;
    let mirror = bench.mirror()?;
    let data = filled(LEN)?;
    let before = (bench.struck(Trouble::CopyHang), bench.unit_resets());
    bench.order(Trouble::CopyHang, DRIVER_COPIES_IN, 0, simulated_slowness())?;
    let outcome = bench.to_vram(&mirror, &data);
    bench.assert_struck(Trouble::CopyHang, before.0);
    assert!(bench.gpu.is_simulated() || bench.unit_resets() > before.1, "the driver reset the unit");
    if !bench.is_alive() {
        judge(&bench, outcome, &data);
        return Ok(());
    }
    let outcome = outcome?;
    assert!(outcome.is_complete(), "{outcome}");
    assert_eq!(device_bytes(data.range())?, LEN as u64, "{outcome}");
    assert_intact(&data);
    let again = bench.to_vram(&mirror, &data)?;
    assert!(again.is_complete(), "the engine works again: {again}");
    assert_intact(&data);
    Ok(())
}
