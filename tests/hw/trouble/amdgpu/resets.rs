//! Resets of the GPU. amdgpu reports success for the migration whose copy a reset cancelled, and for those that follow, which it
//! no longer copies: without this crate's watch, data would turn into zeros without a word.

use std::time::{Duration, Instant};

use drm_pagemap::{Error, ErrorKind, Mirror};

use super::kfd;
use crate::harness::mailbox::{
    DRIVER_COPIES_IN, DRIVER_COPIES_OUT, DRIVER_JOBS, Mailbox, PROCESS_JOBS, Trouble,
};
use crate::harness::{Context, Need, Stop, Test, TestResult};
use crate::kfd::bench::Kfd;
use crate::placement::{assert_intact, device_bytes, filled, word_at};

const NEEDS: &[Need] = &[Need::Kfd, Need::Vram, Need::Injection, Need::OwnGuest];

pub(super) const TESTS: &[Test] = &[
    Test { name: "trouble/amdgpu/copy_into_vram_fails", needs: NEEDS, run: copy_into_vram_fails },
    Test { name: "trouble/amdgpu/copy_out_of_vram_fails", needs: NEEDS, run: copy_out_of_vram_fails },
    Test {
        name: "trouble/amdgpu/cpu_touch_while_a_copy_fails",
        needs: NEEDS,
        run: cpu_touch_while_a_copy_fails,
    },
    Test {
        name: "trouble/amdgpu/engine_hangs_in_a_migration",
        needs: NEEDS,
        run: engine_hangs_in_a_migration,
    },
    Test {
        name: "trouble/amdgpu/fence_of_a_migration_is_lost",
        needs: NEEDS,
        run: fence_of_a_migration_is_lost,
    },
    Test { name: "trouble/amdgpu/queue_hangs_for_good", needs: NEEDS, run: queue_hangs_for_good },
];

const LEN: usize = 4 << 20;

/// A hang guard: the scheduler gives a queue nine seconds.
const RESET_LIMIT: Duration = Duration::from_secs(200);

/// Orders trouble for the next occurrence; tells later whether it struck.
struct Order {
    mailbox: Mailbox,
    trouble: Trouble,
    struck_before: u64,
}

impl Order {
    fn new(context: &Context, trouble: Trouble, filter: u32, value: u32) -> Result<Self, Stop> {
        let mailbox = Mailbox::of(context.gpu()).map_err(Stop::Fail)?;
        let struck_before = mailbox.fired(trouble);
        mailbox.clear();
        mailbox.arm(trouble, 1, 1, filter, value);
        Ok(Self { mailbox, trouble, struck_before })
    }

    fn has_struck(&self) -> bool {
        self.mailbox.fired(self.trouble) == self.struck_before + 1
    }
}

/// Looks at every word, also behind a wrong one, so that everything comes back.
fn is_intact(data: &[u64]) -> bool {
    data.iter().enumerate().filter(|&(index, &word)| word != word_at(index)).count() == 0
}

fn assert_lost(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
    assert!(error.to_string().contains("reset") && error.hint().is_some(), "{error}");
}

/// What holds after a reset: it was counted, the old mirror moves nothing any more, and a new one is to be had only where the
/// driver still copies.
fn assert_guarded(context: &Context, mirror: &Mirror) -> TestResult {
    let gpu = context.gpu();
    assert!(kfd(gpu).resets()? > 0);
    let fresh = filled(LEN)?;
    assert_lost(&mirror.prefetch(&fresh).to(gpu.vram()).run().unwrap_err());
    assert_lost(&mirror.prefetch(&fresh).to_system().run().unwrap_err());
    assert_eq!(device_bytes(fresh.range())?, 0, "nothing went where it would be lost");
    match gpu.mirror() {
        Ok(mirror) => {
            println!("the driver still copies");
            assert!(mirror.prefetch(&fresh).to(gpu.vram()).run()?.is_complete());
        }
        Err(error) => {
            println!("the driver no longer copies");
            assert_lost(&error);
        }
    }
    assert_intact(&fresh);
    Ok(())
}

fn copy_into_vram_fails(context: &Context) -> TestResult {
    copying_in(context, Trouble::CopyError)
}

fn engine_hangs_in_a_migration(context: &Context) -> TestResult {
    copying_in(context, Trouble::CopyHang)
}

fn copying_in(context: &Context, trouble: Trouble) -> TestResult {
    let gpu = context.gpu();
    let mirror = gpu.mirror()?;
    let data = filled(LEN)?;
    let order = Order::new(context, trouble, DRIVER_COPIES_IN, 0)?;
    let error = mirror.prefetch(&data).to(gpu.vram()).run().unwrap_err();
    assert!(order.has_struck());
    assert_lost(&error);
    println!("data that was on its way is {}", if is_intact(&data) { "intact" } else { "lost" });
    assert_guarded(context, &mirror)
}

fn copy_out_of_vram_fails(context: &Context) -> TestResult {
    let gpu = context.gpu();
    let mirror = gpu.mirror()?;
    let (data, at_home) = (filled(LEN)?, filled(LEN)?);
    assert!(mirror.prefetch(&data).to(gpu.vram()).run()?.is_complete());
    let order = Order::new(context, Trouble::CopyError, DRIVER_COPIES_OUT, 0)?;
    let error = mirror.prefetch(&data).to_system().run().unwrap_err();
    assert!(order.has_struck());
    assert_lost(&error);
    println!("data that was on its way is {}", if is_intact(&data) { "intact" } else { "lost" });
    assert_intact(&at_home);
    assert_guarded(context, &mirror)
}

/// Nobody can be told of a load, so the next call on the mirror tells.
fn cpu_touch_while_a_copy_fails(context: &Context) -> TestResult {
    let gpu = context.gpu();
    let mirror = gpu.mirror()?;
    let data = filled(LEN)?;
    assert!(mirror.prefetch(&data).to(gpu.vram()).run()?.is_complete());
    let order = Order::new(context, Trouble::CopyError, DRIVER_COPIES_OUT, 0)?;
    println!("data that was touched is {}", if is_intact(&data) { "intact" } else { "lost" });
    assert!(order.has_struck());
    assert_eq!(device_bytes(data.range())?, 0, "it is back, with or without its contents");
    assert_guarded(context, &mirror)
}

fn fence_of_a_migration_is_lost(context: &Context) -> TestResult {
    let gpu = context.gpu();
    let mirror = gpu.mirror()?;
    let data = filled(LEN)?;
    let order = Order::new(context, Trouble::FenceLose, DRIVER_JOBS, 0)?;
    let result = mirror.prefetch(&data).to(gpu.vram()).run();
    assert!(order.has_struck());
    match result {
        // The next fence of the same ring made up for it.
        Ok(outcome) => {
            assert!(outcome.is_complete(), "{outcome}");
            assert_eq!(kfd(gpu).resets()?, 0);
            assert_intact(&data);
            Ok(())
        }
        // It was the last one, so the driver took its engine for hung.
        Err(error) => {
            assert_lost(&error);
            assert_guarded(context, &mirror)
        }
    }
}

fn queue_hangs_for_good(context: &Context) -> TestResult {
    let gpu = context.gpu();
    let mirror = gpu.mirror()?;
    let bench = Kfd::of(gpu)?;
    let target = filled(LEN)?;
    bench.grant(target.range())?;
    let mut engine = bench.engine()?;
    let mut packets = engine.packets();
    packets.write(target.range().start(), &[7])?;
    const NOT_EVEN_WHEN_PREEMPTED: u32 = 1;
    let order = Order::new(context, Trouble::JobHang, PROCESS_JOBS, NOT_EVEN_WHEN_PREEMPTED)?;
    engine.start(&packets)?;
    let started = Instant::now();
    while !order.has_struck() {
        assert!(started.elapsed() < RESET_LIMIT, "the queue does not run");
        std::thread::sleep(Duration::from_millis(10));
    }
    // The scheduler cannot take it off, so the driver resets the GPU.
    drop(engine);
    while kfd(gpu).resets()? == 0 {
        assert!(started.elapsed() < RESET_LIMIT, "the driver resets nothing");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_intact(&target);
    assert_guarded(context, &mirror)
}
