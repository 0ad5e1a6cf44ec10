//! Cancellation, drop, panics and lost devices at any moment.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use super::gate::{HANG, Stage, assert_intact, filled, part};
use crate::error::ErrorKind;
use crate::prefetcher::{Prefetcher, Priority};

#[test]
fn cancelled_before_it_began_it_never_reaches_the_driver() {
    let stage = Stage::new();
    let (prefetcher, plug) = stage.busy();
    let data = filled(2 << 20);
    let pending = prefetcher.prefetch(&data).to(stage.gpu.vram()).submit().unwrap();
    assert!(!pending.is_done());
    pending.cancel();
    assert!(pending.is_done(), "at once: nothing was begun");
    assert_eq!(prefetcher.waiting().unwrap(), 0);
    pending.cancel();
    assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Cancelled);
    stage.gate.open();
    assert!(prefetcher.wait_idle_timeout(HANG).unwrap());
    assert_eq!(stage.ranges_after(0), [plug.range()]);
}

#[test]
fn cancelled_in_between_it_ends_after_the_chunk_in_hand() {
    let stage = Stage::new();
    let prefetcher = Prefetcher::builder(stage.mirror.clone()).chunk(2 << 20).build().unwrap();
    let data = filled(8 << 20);
    stage.gate.close();
    let mut pending = prefetcher.prefetch(&data).to(stage.gpu.vram()).submit().unwrap();
    stage.gate.wait_for_waiting(1);
    stage.gate.pass(1);
    stage.gate.wait_for_arrivals(2);
    pending.cancel();
    assert!(!pending.is_done(), "the driver has a chunk in hand");
    assert!(pending.wait_timeout(std::time::Duration::ZERO).is_none());
    stage.gate.open();
    let error = pending.wait_timeout(HANG).expect("ends").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let so_far = pending.so_far().unwrap();
    assert_eq!((so_far.moved(), so_far.requested()), (4 << 20, 4 << 20), "two chunks were done");
    assert_eq!(pending.progress().unwrap().done, 4 << 20);
    assert_eq!(stage.ranges_after(0), [0, 2].map(|mib| part(&data, mib << 20, 2 << 20)));
    assert_intact(&data);
}

#[test]
fn one_of_several_neighbours_can_leave() {
    let stage = Stage::new();
    let (prefetcher, _plug) = stage.busy();
    let data = filled(2 << 20);
    let third = 512 << 10;
    let request = |index| {
        prefetcher.prefetch_range(part(&data, index * third, third)).to(stage.gpu.vram()).submit().unwrap()
    };
    let (first, second, third_one) = (request(0), request(1), request(2));
    second.cancel();
    stage.gate.open();
    assert!(first.wait().unwrap().is_complete() && third_one.wait().unwrap().is_complete());
    assert_eq!(
        stage.ranges_after(1),
        [part(&data, 0, third), part(&data, 2 * third, third)],
        "the gap is spared"
    );
}

#[test]
fn progress_only_grows_and_can_stop_the_request() {
    let stage = Stage::new();
    let prefetcher = Prefetcher::builder(stage.mirror.clone())
        .threads(2)
        .helper_spaces(true)
        .chunk(2 << 20)
        .build()
        .unwrap();
    let data = filled(12 << 20);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hear = {
        let seen = seen.clone();
        move |progress| {
            seen.lock().unwrap().push(progress);
            ControlFlow::Continue(())
        }
    };
    let pending = prefetcher.prefetch(&data).to(stage.gpu.vram()).on_progress(hear).submit().unwrap();
    assert!(pending.wait().unwrap().is_complete());
    let heard = seen.lock().unwrap().clone();
    assert_eq!(heard.len(), 6);
    assert!(heard.is_sorted_by_key(|progress| progress.done), "{heard:?}");
    assert!(heard.iter().all(|progress| progress.total == 12 << 20 && progress.done % (2 << 20) == 0));
    assert_eq!((heard[5].done, heard[5].moved), (12 << 20, 12 << 20));
    assert_eq!(Arc::strong_count(&seen), 1, "the function was let go of");

    let single = Prefetcher::builder(stage.mirror.clone()).chunk(2 << 20).build().unwrap();
    let stop = |progress: crate::prefetcher::Progress| {
        if progress.done >= 4 << 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let pending = single.prefetch(&data).to_system().on_progress(stop).submit().unwrap();
    assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(single.wait_idle_timeout(HANG).unwrap());
    assert_eq!(single.stats().chunks, 2);
    assert_intact(&data);
}

#[test]
fn a_panicking_progress_function_ends_its_request_only() {
    let stage = Stage::new();
    let prefetcher = Prefetcher::builder(stage.mirror.clone()).chunk(2 << 20).build().unwrap();
    let data = filled(6 << 20);
    let pending =
        prefetcher.prefetch(&data).to(stage.gpu.vram()).on_progress(|_| panic!("on purpose")).submit();
    let error = pending.unwrap().wait().unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Other, "the progress function panicked"));
    let again = prefetcher.prefetch(&data).to(stage.gpu.vram()).submit().unwrap();
    assert!(again.wait().unwrap().is_complete());
}

#[test]
fn dropping_the_prefetcher_ends_everything() {
    let stage = Stage::new();
    let (prefetcher, plug) = stage.busy();
    let long = filled(8 << 20);
    let waiting = prefetcher.prefetch(&long).to(stage.gpu.vram()).submit().unwrap();
    std::thread::scope(|scope| {
        let dropper = scope.spawn(move || drop(prefetcher));
        // Told at once, while the thread is still inside the driver.
        assert_eq!(waiting.wait().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(!dropper.is_finished(), "the driver has a call in hand");
        stage.gate.open();
        dropper.join().unwrap();
    });
    assert_eq!(stage.ranges_after(0), [plug.range()]);
    assert_eq!(Arc::strong_count(&stage.mirror), 1, "no thread holds on to the mirror");
    assert_intact(&plug);
}

#[test]
fn the_prefetcher_can_be_dropped_by_its_own_thread() {
    let stage = Stage::new();
    let prefetcher = Prefetcher::builder(stage.mirror.clone()).threads(2).chunk(2 << 20).build().unwrap();
    let data = filled(4 << 20);
    let slot = Arc::new(Mutex::new(None::<Prefetcher>));
    let hear = {
        let slot = slot.clone();
        move |_| {
            drop(slot.lock().unwrap().take());
            ControlFlow::Continue(())
        }
    };
    stage.gate.close();
    let pending = prefetcher.prefetch(&data).to(stage.gpu.vram()).on_progress(hear).submit().unwrap();
    *slot.lock().unwrap() = Some(prefetcher);
    stage.gate.open();
    // Done or cancelled, as the chunks fell; never for ever.
    let mut pending = pending;
    assert!(pending.wait_timeout(HANG).is_some());
}

#[test]
fn a_lost_device_is_told_to_everybody_and_harms_no_data() {
    let stage = Stage::new();
    let (prefetcher, plug) = stage.busy();
    let data: Vec<_> = (0..3).map(|_| filled(2 << 20)).collect();
    let pending: Vec<_> =
        data.iter().map(|data| prefetcher.prefetch(data).to(stage.gpu.vram()).submit().unwrap()).collect();
    stage.device.unplug();
    stage.gate.open();
    for pending in pending {
        assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::DeviceLost);
    }
    let late = prefetcher.prefetch(&data[0]).to(stage.gpu.vram()).submit().unwrap();
    assert_eq!(late.wait().unwrap_err().kind(), ErrorKind::DeviceLost);
    drop(prefetcher);
    assert_intact(&plug);
    data.iter().for_each(|data| assert_intact(data));
}

#[test]
fn dropped_at_any_moment_it_leaves_no_address_space_behind() {
    let stage = Stage::new();
    let (data, other) = (filled(16 << 20), filled(1 << 20));
    for moment in 0..12 {
        let prefetcher = Prefetcher::builder(stage.mirror.clone())
            .threads(3)
            .helper_spaces(true)
            .chunk(1 << 20)
            .build()
            .unwrap();
        assert_eq!(stage.gate.vms(), 4);
        let before = stage.gate.calls().len();
        stage.gate.close();
        let pending = prefetcher.prefetch(&data).to(stage.gpu.vram()).submit().unwrap();
        let sentinel = prefetcher.prefetch(&other).to_system().priority(Priority::LOW).submit().unwrap();
        // As many calls as the moment says have been let through when the prefetcher is dropped.
        stage.gate.pass(moment);
        stage.gate.wait_for_arrivals(before + moment + 1);
        std::thread::scope(|scope| {
            let dropper = scope.spawn(move || drop(prefetcher));
            // What waits in the queue hears of it at once; then what the threads have in hand is let through.
            assert_eq!(sentinel.wait().unwrap_err().kind(), ErrorKind::Cancelled);
            stage.gate.open();
            dropper.join().unwrap();
        });
        assert!(pending.is_done());
        assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(stage.gate.vms(), 1, "helper spaces are gone at moment {moment}");
        assert_eq!(Arc::strong_count(&stage.mirror), 1);
    }
    assert_intact(&data);
}

#[test]
fn a_prefetcher_that_cannot_be_built_leaves_nothing_behind() {
    let stage = Stage::new();
    stage.device.unplug();
    let error = Prefetcher::builder(stage.mirror.clone()).threads(3).helper_spaces(true).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeviceLost);
    assert_eq!((stage.gate.vms(), Arc::strong_count(&stage.mirror)), (1, 1));
}
