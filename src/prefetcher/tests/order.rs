//! Which request reaches the driver when.

use super::gate::{HANG, Stage, assert_intact, filled, part};
use crate::buffer::Buffer;
use crate::error::{Errno, ErrorKind};
use crate::outcome::Observe;
use crate::prefetcher::{Prefetcher, Priority};

#[test]
fn by_priority_then_by_age() {
    let stage = Stage::new();
    let (prefetcher, _plug) = stage.busy();
    let data: Vec<_> = (0..4).map(|_| filled(2 << 20)).collect();
    let priorities = [Priority::NORMAL, Priority::LOW, Priority::HIGH, Priority::NORMAL];
    let pending: Vec<_> = data
        .iter()
        .zip(priorities)
        // Targets differ, so that neighbours by chance are not done together.
        .map(|(data, priority)| {
            prefetcher.prefetch(data).to(stage.gpu.vram()).priority(priority).submit().unwrap()
        })
        .collect();
    assert_eq!(prefetcher.waiting().unwrap(), 4);
    stage.gate.open();
    for pending in pending {
        let outcome = pending.wait().unwrap();
        assert!(outcome.is_complete(), "{outcome}");
    }
    let mut order = stage.ranges_after(1);
    // The two of normal priority may be neighbours, and then are one call.
    if order.len() == 4 {
        assert_eq!(order, [2, 0, 3, 1].map(|index: usize| data[index].range()));
    } else {
        assert_eq!(order.len(), 3);
        assert_eq!((order.remove(0), order.pop().unwrap()), (data[2].range(), data[1].range()));
    }
    data.iter().for_each(|data| assert_intact(data));
}

#[test]
fn an_urgent_request_gets_in_between_the_chunks_of_a_long_one() {
    let stage = Stage::new();
    let prefetcher = Prefetcher::builder(stage.mirror.clone()).chunk(2 << 20).build().unwrap();
    let (long, urgent) = (filled(8 << 20), filled(1 << 20));
    stage.gate.close();
    let slow = prefetcher.prefetch(&long).to(stage.gpu.vram()).submit().unwrap();
    stage.gate.wait_for_waiting(1);
    let fast = prefetcher.prefetch(&urgent).to(stage.gpu.vram()).priority(Priority::HIGH).submit().unwrap();
    stage.gate.open();
    assert!(fast.wait().unwrap().is_complete());
    assert!(slow.wait().unwrap().is_complete());
    let order = stage.ranges_after(0);
    assert_eq!(order[0], part(&long, 0, 2 << 20));
    assert_eq!(order[1], urgent.range());
    assert_eq!(order[2..], [2, 4, 6].map(|mib| part(&long, mib << 20, 2 << 20)));
}

#[test]
fn several_threads_share_the_chunks_of_one_request() {
    let stage = Stage::new();
    let prefetcher = Prefetcher::builder(stage.mirror.clone())
        .threads(3)
        .helper_spaces(true)
        .chunk(2 << 20)
        .build()
        .unwrap();
    let data = filled(12 << 20);
    stage.gate.close();
    let pending = prefetcher.prefetch(&data).to(stage.gpu.vram()).submit().unwrap();
    // All three are inside the driver at once, each in an address space of its own.
    stage.gate.wait_for_waiting(3);
    let mut vms: Vec<u32> = stage.gate.calls().iter().map(|call| call.vm).collect();
    vms.sort_unstable();
    vms.dedup();
    assert_eq!(vms.len(), 3);
    stage.gate.open();
    let outcome = pending.wait().unwrap();
    assert_eq!((outcome.moved(), outcome.is_complete()), (12 << 20, true), "{outcome}");
    assert_eq!(stage.gate.most_waiting(), 3);
    // Each chunk was moved in a helper's space, and then mapped in the user's.
    let calls = stage.gate.calls();
    for chunk in data.range().blocks(2 << 20) {
        let by: Vec<u32> = calls.iter().filter(|call| call.range == chunk).map(|call| call.vm).collect();
        assert!(by.len() == 2 && vms.contains(&by[0]) && !vms.contains(&by[1]), "{by:?} {vms:?}");
    }
    assert_intact(&data);
}

#[test]
fn what_the_users_address_space_refuses_after_the_move_depends_on_what_is_observed() {
    let stage = Stage::new();
    let data = filled(2 << 20);
    assert!(stage.mirror.prefetch(&data).to(stage.gpu.vram()).run().unwrap().is_complete());
    let users = stage.gate.calls()[0].vm;
    let through_a_helper = |data: &Buffer<u8>, errno, observe| {
        let prefetcher =
            Prefetcher::builder(stage.mirror.clone()).threads(2).helper_spaces(true).build().unwrap();
        stage.gate.refuse(Some((users, errno)));
        let pending = prefetcher.prefetch(data).to(stage.gpu.vram()).observe(observe).submit().unwrap();
        let outcome = pending.wait();
        stage.gate.refuse(None);
        outcome
    };
    // The pages kept changing, or a part cannot be mapped: they are where the helper has put them.
    for (errno, kind) in [
        (Errno::EBUSY, ErrorKind::Busy),
        (Errno::EAGAIN, ErrorKind::TryAgain),
        (Errno::EPERM, ErrorKind::MemoryKind),
    ] {
        let data = filled(2 << 20);
        let outcome = through_a_helper(&data, errno, Observe::Exactly).unwrap();
        assert_eq!((outcome.moved(), outcome.is_complete()), (2 << 20, true), "{outcome}");
        let error = through_a_helper(&data, errno, Observe::Nothing).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (kind, Some(errno)), "nothing is observed that would tell");
    }
    // Whatever else is in the way is told.
    let error = through_a_helper(&filled(2 << 20), Errno::ENOSPC, Observe::Exactly).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfVram);
}

#[test]
fn a_full_queue_refuses_or_waits_for_room() {
    let stage = Stage::new();
    let prefetcher = Prefetcher::builder(stage.mirror.clone()).queue_limit(2).build().unwrap();
    let data: Vec<_> = (0..4).map(|_| filled(2 << 20)).collect();
    let request = |index: usize| prefetcher.prefetch(&data[index]).to(stage.gpu.vram());
    stage.gate.close();
    let mut pending = vec![request(0).submit().unwrap()];
    stage.gate.wait_for_waiting(1);
    pending.push(request(1).submit().unwrap());
    pending.push(request(2).submit().unwrap());
    let error = request(3).submit().unwrap_err();
    assert_eq!((error.kind(), error.range()), (ErrorKind::Busy, Some(data[3].range())));
    let error = request(3).submit_timeout(std::time::Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| request(3).submit_timeout(HANG));
        stage.gate.open();
        pending.push(waiting.join().unwrap().unwrap());
    });
    for pending in pending {
        assert!(pending.wait().unwrap().is_complete());
    }
    assert_eq!(prefetcher.stats().requests, 4);
}
