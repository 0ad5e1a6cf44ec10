//! Neighbours that become one call.

use super::gate::{HANG, Stage, assert_intact, filled, part};
use crate::error::ErrorKind;
use crate::outcome::{Cause, Observe};
use crate::range::page_size;

#[test]
fn neighbours_become_one_call_and_each_hears_its_own() {
    let stage = Stage::new();
    let data = filled(4 << 20);
    let quarter = 512 << 10;
    // In VRAM beforehand; the requests are for its second half and as much behind it.
    let there = part(&data, 0, 4 * quarter);
    assert!(stage.mirror.prefetch_range(there).to(stage.gpu.vram()).run().unwrap().is_complete());
    let (prefetcher, _plug) = stage.busy();
    let before = stage.gate.calls().len();
    // Out of order, one overlapping another.
    let ranges = [
        (4 * quarter, quarter),
        (2 * quarter, quarter),
        (5 * quarter, quarter),
        (3 * quarter, quarter + 8192),
    ];
    let pending = ranges.map(|(start, len)| {
        prefetcher.prefetch_range(part(&data, start, len)).to(stage.gpu.vram()).submit().unwrap()
    });
    stage.gate.open();
    for (pending, (start, len)) in pending.into_iter().zip(ranges) {
        assert_eq!(pending.range(), part(&data, start, len));
        let outcome = pending.wait().unwrap();
        let already = there.intersection(part(&data, start, len)).map_or(0, |there| there.len());
        assert_eq!((outcome.moved(), outcome.already_there()), (len - already, already), "{outcome}");
    }
    assert_eq!(stage.ranges_after(before), [part(&data, 2 * quarter, 4 * quarter)], "one call");
    assert!(prefetcher.wait_idle_timeout(HANG).unwrap());
    let stats = prefetcher.stats();
    assert_eq!((stats.requests, stats.coalesced, stats.chunks), (5, 3, 2));
    assert_intact(&data);
}

#[test]
fn what_differs_or_does_not_touch_is_a_call_of_its_own() {
    let stage = Stage::new();
    let (prefetcher, _plug) = stage.busy();
    let data = filled(8 << 20);
    let mib = 1u64 << 20;
    let request = |start, len| prefetcher.prefetch_range(part(&data, start * mib, len * mib));
    let pending = [
        request(0, 1).to(stage.gpu.vram()).submit().unwrap(),
        request(2, 1).to(stage.gpu.vram()).submit().unwrap(),
        request(1, 1).to_system().submit().unwrap(),
        request(3, 1).to(stage.gpu.vram()).observe(Observe::Nothing).submit().unwrap(),
        // Together with the one before it, more than a chunk of 4 MiB.
        request(4, 4).to(stage.gpu.vram()).observe(Observe::Nothing).submit().unwrap(),
    ];
    let asked = pending.each_ref().map(|pending| pending.range());
    stage.gate.open();
    for pending in pending {
        let _ = pending.wait().unwrap();
    }
    let calls = stage.ranges_after(1);
    assert!(calls.iter().all(|call| asked.iter().any(|range| range.contains_range(*call))), "{calls:?}");
    assert_eq!(prefetcher.stats().coalesced, 0);
    assert_intact(&data);
}

#[test]
fn nobody_suffers_for_a_neighbour() {
    let stage = Stage::new();
    let (prefetcher, _plug) = stage.busy();
    let data = filled(2 << 20);
    let half = 1 << 20;
    let locked = part(&data, half + 8192, page_size());
    // SAFETY: nothing refers to the page; only access to it is taken away.
    unsafe {
        rustix::mm::mprotect(locked.start() as *mut _, page_size() as usize, rustix::mm::MprotectFlags::READ)
    }
    .unwrap();
    let request = |start| {
        let request = prefetcher.prefetch_range(part(&data, start, half)).to(stage.gpu.vram());
        request.observe(Observe::Nothing).submit().unwrap()
    };
    let (good, bad) = (request(0), request(half));
    stage.gate.open();
    assert_eq!(good.wait().unwrap().requested(), half);
    assert_eq!(bad.wait().unwrap_err().kind(), ErrorKind::MemoryKind);
    assert_eq!(stage.ranges_after(1), [data.range(), part(&data, 0, half), part(&data, half, half)]);

    // Observed, the driver is asked around it, and the refusal is told to the one that it concerns.
    stage.gate.close();
    let plug = filled(2 << 20);
    drop(prefetcher.prefetch(&plug).to(stage.gpu.vram()).submit().unwrap());
    stage.gate.wait_for_waiting(1);
    let request =
        |start| prefetcher.prefetch_range(part(&data, start, half)).to(stage.gpu.vram()).submit().unwrap();
    let (good, bad) = (request(0), request(half));
    stage.gate.open();
    assert!(good.wait().unwrap().is_complete());
    let outcome = bad.wait().unwrap();
    assert_eq!(outcome.refusals().len(), 1);
    assert_eq!((outcome.refusals()[0].range, outcome.refusals()[0].cause), (locked, Cause::NotWritable));
    assert_intact(&data);
}
