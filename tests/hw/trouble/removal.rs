//! A device that loses its driver, or is pulled out, while pages are in its memory or on their way there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use drm_pagemap::{Buffer, ErrorKind, Gpu, Mirror};

use super::bench::{Bench, Source};
use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "trouble/driver_unbound_with_data_in_vram",
        needs: &[Need::Xe, Need::Vram, Need::Injection],
        run: driver_unbound_with_data_in_vram,
    },
    Test {
        name: "trouble/driver_unbound_while_prefetching",
        needs: &[Need::Xe, Need::Vram, Need::Injection],
        run: driver_unbound_while_prefetching,
    },
    Test {
        name: "trouble/device_pulled_out",
        needs: &[Need::Xe, Need::Vram, Need::Injection],
        run: device_pulled_out,
    },
];

const LEN: usize = 4 << 20;

/// Takes the device away from the process, in order. The bench gives it back.
fn take_away(bench: &Bench) {
    match &bench.source {
        Source::Virtual { slot, .. } => slot.unbind(),
        Source::Simulated(device) => device.unplug(),
    }
}

/// What every call says from now on.
fn assert_lost(mirror: &Mirror, gpu: &Gpu, data: &[u64]) {
    for error in [
        mirror.prefetch(data).to(gpu.vram()).run().unwrap_err(),
        mirror.prefetch(data).to_system().run().unwrap_err(),
        gpu.mirror().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
}

/// Lets go of the device before the memory is unmapped, as the documentation of `Mirror` asks: xe 7.3.4 crashes otherwise.
fn let_go(bench: Bench, mirror: Mirror, data: Buffer<u64>) {
    let Bench { gpu, source } = bench;
    drop(mirror);
    drop(gpu);
    drop(data);
    drop(source);
}

fn driver_unbound_with_data_in_vram(context: &Context) -> TestResult {
    let bench = Bench::new(context)?;
    let mirror = bench.mirror()?;
    let data = filled(LEN)?;
    assert!(bench.to_vram(&mirror, &data)?.is_complete());
    take_away(&bench);
    assert_lost(&mirror, &bench.gpu, &data);
    assert_intact(&data);
    assert_eq!(device_bytes(data.range())?, 0);
    let_go(bench, mirror, data);
    Ok(())
}

fn driver_unbound_while_prefetching(context: &Context) -> TestResult {
    let bench = Bench::new(context)?;
    let mirror = bench.mirror()?;
    let data = filled(LEN)?;
    let rounds = AtomicU64::new(0);
    let error = std::thread::scope(|scope| {
        let prefetcher = scope.spawn(|| {
            loop {
                let moved = bench.to_vram(&mirror, &data);
                let back = moved.and_then(|_| mirror.prefetch(&data).to_system().run());
                if let Err(error) = back {
                    return error;
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        while rounds.load(Ordering::Relaxed) < 2 && !prefetcher.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        take_away(&bench);
        prefetcher.join().expect("the prefetcher ends")
    });
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
    assert_lost(&mirror, &bench.gpu, &data);
    assert_intact(&data);
    let_go(bench, mirror, data);
    Ok(())
}

/// Nobody tells the driver: it finds out when nothing answers any more. What is in VRAM is lost with it.
fn device_pulled_out(context: &Context) -> TestResult {
    for part in [
        // Registers read as all ones; jobs and invalidations are never answered.
        "MMIO unreliable",
        "failed to ack",
        "xe_force_wake_",
        "TLB invalidation fence timeout",
        "guc_exec_queue_timedout_job",
        // The reset that the driver tries finds nothing to reset. How far it gets depends on the kernel (`gt_reset_worker`,
        // `xe_guc_reset`, `__xe_guc_upload`); then it gives the device up.
        "failed to clear GRDOM_FULL",
        "GuC reset timed out",
        "GuC mmio request",
        "load failed: status",
        "gt_reset_worker",
        "xe_guc_submit_start",
        "reset failed",
        "declared device",
    ] {
        context.expect_log(part);
    }
    let bench = Bench::new(context)?;
    let mailbox = bench.mailbox("slot that it can be pulled out of without a word")?;
    let mirror = bench.mirror()?;
    let data = filled(LEN)?;
    let bystander = filled(LEN)?;
    assert!(bench.to_vram(&mirror, &bystander)?.is_complete());
    assert!(mirror.prefetch(&bystander).to_system().run()?.is_complete());
    mailbox.unplug();
    let error = bench.to_vram(&mirror, &data).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
    assert!(error.hint().is_some(), "{error}");
    assert_lost(&mirror, &bench.gpu, &data);
    assert_intact(&bystander);
    mailbox.replug();
    let_go(bench, mirror, data);
    Ok(())
}
