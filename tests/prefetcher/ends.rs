//! What is left behind when requests and prefetchers end: nothing.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use drm_pagemap::{ErrorKind, Prefetcher, Result};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::Test;
use crate::machine::{HANG, MIB, Machine, assert_intact, filled};

pub(crate) const TESTS: &[Test] = &[
    ("cancelling_at_any_moment_leaks_nothing", cancelling_at_any_moment_leaks_nothing),
    ("a_forked_child_is_refused", a_forked_child_is_refused),
];

/// What the process has: descriptors, threads, mappings.
fn holdings() -> (usize, usize, usize) {
    let count = |directory| std::fs::read_dir(directory).expect("/proc is mounted").count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted").lines().count();
    (count("/proc/self/fd"), count("/proc/self/task"), maps)
}

/// One life of a prefetcher, cancelled or dropped after `moment` chunks.
fn life(machine: &Machine, data: &[u64], moment: u64, drop_it: bool) -> Result<()> {
    let builder = Prefetcher::builder(machine.mirror.clone()).threads(2).chunk(MIB);
    let prefetcher = builder.helper_spaces(machine.is_xe()).build()?;
    let chunks = Arc::new(AtomicU64::new(0));
    let hear = {
        let chunks = chunks.clone();
        move |_| {
            chunks.fetch_add(1, Ordering::Relaxed);
            ControlFlow::Continue(())
        }
    };
    let pending = prefetcher.prefetch(data).to(machine.gpu.vram()).on_progress(hear).submit()?;
    let queued = prefetcher.prefetch(data).to_system().submit()?.cancel_on_drop();
    while chunks.load(Ordering::Relaxed) < moment && !pending.is_done() {
        std::thread::yield_now();
    }
    if drop_it {
        drop(prefetcher);
        assert!(pending.is_done() && queued.is_done(), "nothing goes on without the prefetcher");
    } else {
        pending.cancel();
        drop(queued);
        assert!(prefetcher.wait_idle_timeout(HANG)?, "what was cancelled ends");
    }
    match pending.wait() {
        Ok(outcome) => assert!(outcome.is_complete(), "{outcome}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
    }
    Ok(())
}

fn cancelling_at_any_moment_leaks_nothing(machine: &Machine) -> Result<()> {
    let data = filled(8 * MIB)?;
    for moment in 0..9 {
        life(machine, &data, moment, moment % 2 == 0)?;
    }
    let (files, threads, maps) = holdings();
    const LIVES: u64 = 27;
    for round in 0..LIVES {
        life(machine, &data, round % 9, round % 2 == 0)?;
    }
    let now = holdings();
    assert_eq!((now.0, now.1), (files, threads), "descriptors and threads");
    assert!(now.2 < maps + LIVES as usize, "mappings grew from {maps} to {}", now.2);
    assert_intact(&data);
    Ok(())
}

fn a_forked_child_is_refused(machine: &Machine) -> Result<()> {
    let prefetcher = Prefetcher::builder(machine.mirror.clone()).threads(2).chunk(MIB).build()?;
    let data = filled(8 * MIB)?;
    let mut pending = prefetcher.prefetch(&data).to(machine.gpu.vram()).submit()?;
    // SAFETY: the child calls what is under test, which takes no lock of the parent's threads, and ends without unwinding.
    match unsafe { fork() }.expect("a process can be made") {
        ForkResult::Child => {
            let foreign = |error: drm_pagemap::Error| error.kind() == ErrorKind::ForeignProcess;
            let mut refused = prefetcher.prefetch(&data).to_system().submit().is_err_and(foreign);
            refused &= prefetcher.wait_idle_timeout(HANG).is_err_and(foreign);
            refused &= prefetcher.waiting().is_err_and(foreign);
            refused &= pending.is_done();
            refused &= pending.wait_timeout(HANG).is_some_and(|result| result.is_err_and(foreign));
            refused &= pending.so_far().is_err_and(foreign);
            pending.cancel();
            drop(pending.cancel_on_drop());
            drop(prefetcher);
            // SAFETY: ends the child at once, without running destructors of the test process.
            unsafe { nix::libc::_exit(i32::from(!refused)) }
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("it is our child");
            assert_eq!(status, WaitStatus::Exited(child, 0));
        }
    }
    let _ = pending.wait_timeout(HANG).expect("the parent's goes on")?;
    assert_intact(&data);
    Ok(())
}
