//! Windows: how ranges are cut, what a touch brings back, timeslices, undoing.

use std::time::Duration;

use super::*;
use crate::pagemap::{Atomicity, Injection, Placement, Trigger, Windows};

const K64: u64 = 64 << 10;

#[test]
fn natural_windows_are_the_largest_that_fit() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(3 * MB2);
    let pages_64k = K64 / page_size();
    // From one page below a 64 KiB multiple to two pages above a 2 MiB multiple.
    let first = MB2 / page_size() - pages_64k - 1;
    let count = 1 + pages_64k + MB2 / page_size() + 2;
    let range = memory.part(first, count);
    space.migrate_to_devmem(&vram, range, &MigrateOptions::new()).unwrap();
    let mut expected = vec![page_size(), K64, MB2, page_size(), page_size()];
    if page_size() > 4096 {
        expected = range.chunks().map(|chunk| chunk.len()).collect();
    }
    let mut at = range.start();
    for len in expected {
        let window = space.window_at(at).unwrap().unwrap();
        assert_eq!(window.range(), Some(PageRange::new(at, len).unwrap()));
        assert_eq!(window.live_pages(), len / page_size());
        at += len;
    }
    assert_eq!(at, range.end());
    // One touch, one window.
    assert_eq!(memory.get((first + 1) * page_size()), Memory::pattern(first + 1));
    assert_eq!(device_bytes(&space, range), range.len() - K64);
    memory.check();
}

#[test]
fn blocks_are_cut_at_multiples() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    let range = memory.part(1, 40);
    space.migrate_to_devmem(&vram, range, &MigrateOptions::new().windows(Windows::Blocks(K64))).unwrap();
    let window = space.window_at(range.start()).unwrap().unwrap();
    assert_eq!(window.range().map(|r| r.end() % K64), Some(0));
    assert_eq!(vram.usage().unwrap().windows, range.blocks(K64).count() as u64);
    memory.check();
}

#[test]
fn placement_tells_runs_that_cover_the_range() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let other = VramRegion::new(&space, 8 * MB2).unwrap();
    let memory = Memory::filled(MB2);
    space.migrate_to_devmem(&vram, memory.part(2, 5), &MigrateOptions::new()).unwrap();
    space.migrate_to_devmem(&other, memory.part(7, 1), &MigrateOptions::new()).unwrap();
    let expected = [
        Placement { range: memory.part(1, 1), region: None },
        Placement { range: memory.part(2, 5), region: Some(vram.id()) },
        Placement { range: memory.part(7, 1), region: Some(other.id()) },
        Placement { range: memory.part(8, 3), region: None },
    ];
    assert_eq!(space.placement(memory.part(1, 10)).unwrap(), expected);
    assert_eq!(space.device_bytes(memory.range(), Some(vram.id())).unwrap(), 5 * page_size());
    memory.check();
}

#[test]
fn placement_of_more_runs_than_one_reply_holds() {
    let Some((space, vram)) = simulated(32 * MB2) else { return };
    let memory = Memory::filled(24 * MB2);
    let one_page = MigrateOptions::new().windows(Windows::Blocks(page_size()));
    for page in (0..memory.pages()).step_by(2) {
        space.migrate_to_devmem(&vram, memory.part(page, 1), &one_page).unwrap();
    }
    let runs = space.placement(memory.range()).unwrap();
    assert_eq!(runs.len() as u64, memory.pages());
    assert!(runs.iter().enumerate().all(|(n, run)| run.region.is_some() == (n % 2 == 0)));
    memory.check();
}

#[test]
fn a_window_that_cannot_move_whole_does_not_move() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    vram.inject(Injection::none().pinned(Trigger::ONCE, 300)).unwrap();
    let once = MigrateOptions::new().retry(false);
    let error = space.migrate_to_devmem(&vram, memory.range(), &once).unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::Busy, libc::EBUSY));
    assert_eq!(error.range(), Some(memory.part(300, 1)), "the page that did not move");
    let usage = vram.usage().unwrap();
    assert_eq!((usage.used, usage.windows, usage.counters.rollbacks), (0, 0, 1));
    assert_eq!(device_bytes(&space, memory.range()), 0);
    memory.check();
    // The retry cures what struck once.
    vram.inject(Injection::none().pinned(Trigger::ONCE, 300)).unwrap();
    assert_eq!(space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap().moved, MB2);
    memory.check();
}

#[test]
fn a_range_that_cannot_move_whole_does_not_move() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(3 * MB2);
    vram.inject(Injection::none().pinned(Trigger::nth(3), 1)).unwrap();
    let whole = MigrateOptions::new().atomicity(Atomicity::Range).retry(false);
    space.migrate_to_devmem(&vram, memory.range(), &whole).unwrap_err();
    assert_eq!(device_bytes(&space, memory.range()), 0);
    assert_eq!(vram.usage().unwrap().used, 0);
    memory.check();
    // Window by window, the first two stay.
    vram.inject(Injection::none().pinned(Trigger::nth(3), 1)).unwrap();
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new().retry(false)).unwrap_err();
    assert_eq!(device_bytes(&space, memory.range()), 2 * MB2);
    memory.check();
}

#[test]
fn every_window_gets_its_retry() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(3 * MB2);
    // Strikes the first two tries of the first window.
    vram.inject(Injection::none().pinned(Trigger::times(2), 1)).unwrap();
    assert!(space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).is_err());
    for strike in 1..=3 {
        space.migrate_to_ram(memory.range()).unwrap();
        vram.inject(Injection::none().pinned(Trigger::nth(strike), 1)).unwrap();
        assert_eq!(
            space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap().moved,
            3 * MB2
        );
    }
    memory.check();
}

#[test]
fn a_touch_waits_for_the_timeslice() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    let options = MigrateOptions::new().timeslice(Duration::from_millis(30));
    space.migrate_to_devmem(&vram, memory.range(), &options).unwrap();
    let window = space.window_at(memory.start()).unwrap().unwrap();
    assert_eq!(memory.get(0), Memory::pattern(0));
    assert_eq!(window.timeslice_left(), Duration::ZERO);
    assert!(!window.exists());
    let counters = vram.usage().unwrap().counters;
    assert!(counters.parked_faults >= 1, "{counters:?}");
    memory.check();
}

#[test]
fn an_explicit_return_waits_for_the_timeslice_but_not_for_ever() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    let short = MigrateOptions::new().timeslice(Duration::from_millis(20));
    space.migrate_to_devmem(&vram, memory.range(), &short).unwrap();
    let window = space.window_at(memory.start()).unwrap().unwrap();
    assert_eq!(space.migrate_to_ram(memory.range()).unwrap().moved, MB2);
    assert_eq!(window.timeslice_left(), Duration::ZERO);
    let long = MigrateOptions::new().timeslice(Duration::from_secs(3600));
    space.migrate_to_devmem(&vram, memory.range(), &long).unwrap();
    let error = space.migrate_to_ram(memory.range()).unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::TimedOut, libc::ETIME), "{error}");
    assert_eq!(device_bytes(&space, memory.range()), MB2);
    // Eviction does not care.
    assert_eq!(vram.evict(1).unwrap().moved, MB2);
    memory.check();
}

#[test]
fn an_eviction_releases_those_who_wait_for_the_timeslice() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    let long = MigrateOptions::new().timeslice(Duration::from_secs(3600));
    space.migrate_to_devmem(&vram, memory.range(), &long).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| memory.get(page_size()));
        while vram.usage().unwrap().counters.parked_faults == 0 {
            std::thread::yield_now();
        }
        space.window_at(memory.start()).unwrap().unwrap().evict().unwrap();
        assert_eq!(waiting.join().unwrap(), Memory::pattern(1));
    });
}

#[test]
fn detached_means_no_page_is_left() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    let window = space.window_at(memory.start()).unwrap().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| window.wait_detached());
        assert!(window.exists());
        memory.advise(memory.part(0, 1), rustix::mm::Advice::LinuxDontNeed).unwrap();
        assert_eq!(window.live_pages(), memory.pages() - 1);
        assert_eq!(memory.get(page_size()), Memory::pattern(1));
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(window.live_pages(), 0);
    assert!(window.evict().is_ok(), "nothing left to evict");
}

#[test]
fn windows_change_regions_without_passing_through_system_memory() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let other = VramRegion::new(&space, 8 * MB2).unwrap();
    let memory = Memory::filled(2 * MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    let moved = space.migrate_to_devmem(&other, memory.range(), &MigrateOptions::new()).unwrap();
    assert_eq!(moved.moved, 2 * MB2);
    assert_eq!(space.device_bytes(memory.range(), Some(other.id())).unwrap(), 2 * MB2);
    let (left, entered) = (vram.usage().unwrap(), other.usage().unwrap());
    assert_eq!((left.used, entered.used), (0, 2 * MB2));
    assert_eq!((left.counters.windows_out, left.counters.bytes_out), (2, 2 * MB2));
    assert_eq!((entered.counters.windows_in, entered.counters.bytes_in), (2, 2 * MB2));
    drop(vram);
    memory.check();
    assert_eq!(other.usage().unwrap().used, 0);
}

#[test]
fn a_window_that_changes_regions_gets_the_new_timeslice() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let other = VramRegion::new(&space, 8 * MB2).unwrap();
    let memory = Memory::filled(MB2);
    let long = MigrateOptions::new().timeslice(Duration::from_secs(3600));
    let left = || space.window_at(memory.start()).unwrap().unwrap().timeslice_left();
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    space.migrate_to_devmem(&other, memory.range(), &long).unwrap();
    assert!(left() > Duration::ZERO);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    assert_eq!(left(), Duration::ZERO);
    memory.check();
}

#[test]
fn a_range_that_cannot_change_regions_whole_is_in_none_of_the_two() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let other = VramRegion::new(&space, 8 * MB2).unwrap();
    let memory = Memory::filled(3 * MB2);
    let whole = MigrateOptions::new().atomicity(Atomicity::Range).retry(false);
    space.migrate_to_devmem(&vram, memory.range(), &whole).unwrap();
    other.inject(Injection::none().allocation(Trigger::nth(3))).unwrap();
    space.migrate_to_devmem(&other, memory.range(), &whole).unwrap_err();
    assert_eq!(space.device_bytes(memory.range(), Some(other.id())).unwrap(), 0, "what came is undone");
    assert_eq!(space.device_bytes(memory.range(), Some(vram.id())).unwrap(), MB2, "what had not left stays");
    memory.check();
    // Window by window, those that came stay, and a later request does not undo them.
    space.migrate_to_devmem(&vram, memory.range(), &whole).unwrap();
    other.inject(Injection::none().allocation(Trigger::nth(3))).unwrap();
    let windows = MigrateOptions::new().retry(false);
    space.migrate_to_devmem(&other, memory.range(), &windows).unwrap_err();
    assert_eq!(space.device_bytes(memory.range(), Some(other.id())).unwrap(), 2 * MB2);
    assert_eq!(other.evict(u64::MAX).unwrap().moved, 2 * MB2);
    memory.check();
}

#[test]
fn a_vec_on_the_heap_migrates() {
    let Some((space, vram)) = simulated(32 * MB2) else { return };
    let data: Vec<u64> = (0..1 << 20).collect();
    let range = PageRange::inside(&data);
    space.migrate_to_devmem(&vram, range, &MigrateOptions::new()).unwrap();
    assert_eq!(device_bytes(&space, range), range.len());
    assert!(data.iter().copied().eq(0..1 << 20));
}
