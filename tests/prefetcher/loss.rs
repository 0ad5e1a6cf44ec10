//! The device goes away.

use std::ops::ControlFlow;

use drm_pagemap::{Budget, ErrorKind, Prefetcher, Result};

use crate::Test;
use crate::machine::{HANG, MIB, Machine, assert_intact, device_bytes, filled};

pub(crate) const TESTS: &[Test] = &[("a_lost_device_is_told_and_no_data_is_lost", told_and_no_data_lost)];

fn told_and_no_data_lost(machine: &Machine) -> Result<()> {
    let prefetcher = Prefetcher::builder(machine.mirror.clone()).chunk(2 * MIB).build()?;
    let (first, second) = (filled(8 * MIB)?, filled(4 * MIB)?);
    let budget = Budget::new(&machine.gpu.vram_regions()[0])?;
    // Goes away in the middle of the first request, between two of its chunks.
    let (reached, hear) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let on_progress = move |progress: drm_pagemap::prefetcher::Progress| {
        if progress.done == 4 * MIB {
            reached.send(()).expect("the test waits");
            may_go_on.recv().expect("the test answers");
        }
        ControlFlow::Continue(())
    };
    let mut broken = prefetcher.prefetch(&first).to(machine.gpu.vram()).on_progress(on_progress).submit()?;
    let queued = prefetcher.prefetch(&second).to(machine.gpu.vram()).submit()?;
    hear.recv_timeout(HANG).expect("two chunks are done");
    machine.unplug();
    go_on.send(()).expect("the worker waits");
    let error = broken.wait_timeout(HANG).expect("it ends").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
    assert_eq!(broken.so_far()?.moved(), 4 * MIB, "what was done before is told");
    assert_eq!(queued.wait().unwrap_err().kind(), ErrorKind::DeviceLost);
    let late = prefetcher.prefetch(&second).to(machine.gpu.vram()).submit()?;
    assert_eq!(late.wait().unwrap_err().kind(), ErrorKind::DeviceLost);
    assert!(budget.prefetch(&machine.mirror, &second).is_err());
    assert_eq!(device_bytes(first.range())?, 0, "everything is back");
    drop(prefetcher);
    assert_intact(&first);
    assert_intact(&second);
    Ok(())
}
