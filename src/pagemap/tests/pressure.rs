//! Eviction, exhaustion, removal, and what cannot come back.

use std::time::Duration;

use super::*;
use crate::pagemap::{Atomicity, Injection, KernelTouch, Trigger, VramRegionOptions, Windows};

#[test]
fn the_least_recently_used_window_makes_room() {
    let Some((space, vram)) = simulated(2 * MB2) else { return };
    let memories = [Memory::filled(MB2), Memory::filled(MB2), Memory::filled(MB2)];
    let [a, b, c] = &memories;
    // A timeslice does not protect from pressure.
    let long = MigrateOptions::new().timeslice(Duration::from_secs(3600));
    space.migrate_to_devmem(&vram, a.range(), &long).unwrap();
    space.migrate_to_devmem(&vram, b.range(), &long).unwrap();
    // The device uses the older one.
    space.device_read(a.start(), &mut [0; 8]).unwrap();
    space.migrate_to_devmem(&vram, c.range(), &long).unwrap();
    let there = |memory: &Memory| device_bytes(&space, memory.range()) == MB2;
    assert_eq!((there(a), there(b), there(c)), (true, false, true));
    // Asking for it again counts as use too.
    assert_eq!(space.migrate_to_devmem(&vram, a.range(), &long).unwrap().already, MB2);
    space.migrate_to_devmem(&vram, b.range(), &long).unwrap();
    assert_eq!((there(a), there(b), there(c)), (true, true, false));
    assert_eq!(vram.usage().unwrap().counters.evictions, 2);
    vram.evict(u64::MAX).unwrap();
    memories.iter().for_each(Memory::check);
}

#[test]
fn evict_frees_as_much_as_asked() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(4 * MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    assert_eq!(vram.evict(0).unwrap().moved, 0);
    assert_eq!(vram.evict(MB2 + 1).unwrap().moved, 2 * MB2);
    assert_eq!(vram.usage().unwrap().used, 2 * MB2);
    assert_eq!(device_bytes(&space, memory.part(0, memory.pages() / 2)), 0, "the oldest first");
    assert_eq!(vram.evict(u64::MAX).unwrap().moved, 2 * MB2);
    memory.check();
}

#[test]
fn a_range_larger_than_the_region_streams_through_it() {
    let Some((space, vram)) = simulated(2 * MB2) else { return };
    let memory = Memory::filled(5 * MB2);
    let migrated = space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    assert_eq!(migrated.moved, 5 * MB2);
    assert_eq!(device_bytes(&space, memory.range()), 2 * MB2);
    memory.check();
    // All at once it does not fit, and nothing of it stays.
    let whole = MigrateOptions::new().atomicity(Atomicity::Range);
    let error = space.migrate_to_devmem(&vram, memory.range(), &whole).unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::OutOfVram, libc::ENOSPC), "{error}");
    assert_eq!(device_bytes(&space, memory.range()), 0);
    memory.check();
}

#[test]
fn a_window_larger_than_the_region_has_no_place() {
    let Some((space, vram)) = simulated(64 << 10) else { return };
    let memory = Memory::filled(MB2);
    let error = space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::OutOfVram, libc::ENOSPC), "{error}");
    let small = MigrateOptions::new().windows(Windows::Blocks(64 << 10));
    space.migrate_to_devmem(&vram, memory.range(), &small).unwrap();
    assert_eq!(device_bytes(&space, memory.range()), 64 << 10);
    memory.check();
}

#[test]
fn reserved_bytes_are_nobodys() {
    let Some(space) = space() else { return };
    let vram = VramRegionOptions::new(4 * MB2).reserved(3 * MB2 + 1).create(&space).unwrap();
    let usage = vram.usage().unwrap();
    assert_eq!(
        (usage.capacity, usage.reserved, usage.free()),
        (4 * MB2, 3 * MB2 + page_size(), MB2 - page_size())
    );
    let memory = Memory::filled(MB2);
    assert_eq!(
        space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap_err().kind(),
        ErrorKind::OutOfVram
    );
    memory.check();
    for (bytes, reserved) in [(0, 0), (page_size(), 2 * page_size()), (page_size(), u64::MAX)] {
        let error = VramRegionOptions::new(bytes).reserved(reserved).create(&space).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    let error = VramRegion::new(&space, u64::MAX).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::OutOfMemory), "{error}");
}

#[test]
fn a_space_has_a_limited_number_of_regions() {
    let Some(space) = space() else { return };
    let mut regions = Vec::new();
    let error = loop {
        match VramRegion::new(&space, page_size()) {
            Ok(region) => regions.push(region),
            Err(error) => break error,
        }
    };
    assert_eq!(regions.len(), 32);
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    let first = regions.remove(0).id();
    assert_ne!(VramRegion::new(&space, page_size()).unwrap().id(), first, "numbers are not used again");
}

#[test]
fn eviction_tries_three_times() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    let window = space.window_at(memory.start()).unwrap().unwrap();
    vram.inject(Injection::none().way_out(Trigger::times(3))).unwrap();
    let error = window.evict().unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::Busy, libc::EBUSY), "{error}");
    assert_eq!(window.live_pages(), memory.pages());
    vram.inject(Injection::none().way_out(Trigger::times(2))).unwrap();
    window.evict().unwrap();
    assert!(!window.exists());
    memory.check();
}

#[test]
fn a_window_that_will_not_go_is_passed_over() {
    let Some((space, vram)) = simulated(2 * MB2) else { return };
    let (a, b, c) = (Memory::filled(MB2), Memory::filled(MB2), Memory::filled(MB2));
    space.migrate_to_devmem(&vram, a.range(), &MigrateOptions::new()).unwrap();
    space.migrate_to_devmem(&vram, b.range(), &MigrateOptions::new()).unwrap();
    vram.inject(Injection::none().way_out(Trigger::times(3))).unwrap();
    space.migrate_to_devmem(&vram, c.range(), &MigrateOptions::new()).unwrap();
    assert_eq!((device_bytes(&space, a.range()), device_bytes(&space, b.range())), (MB2, 0));
    vram.inject(Injection::none().way_out(Trigger::ALWAYS)).unwrap();
    let error = space.migrate_to_devmem(&vram, b.range(), &MigrateOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfVram, "{error}");
    vram.inject(Injection::none()).unwrap();
    [a, b, c].iter().for_each(Memory::check);
}

#[test]
fn an_allocation_that_fails_changes_nothing() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(3 * MB2);
    vram.inject(Injection::none().allocation(Trigger::nth(2))).unwrap();
    let error = space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::OutOfVram, libc::ENOSPC), "{error}");
    assert_eq!(device_bytes(&space, memory.range()), MB2);
    assert_eq!(
        space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap().moved,
        2 * MB2
    );
    memory.check();
}

#[test]
fn a_removed_device_gives_the_data_back_and_takes_no_more() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(3 * MB2);
    let long = MigrateOptions::new().timeslice(Duration::from_secs(3600));
    space.migrate_to_devmem(&vram, memory.range(), &long).unwrap();
    vram.remove().unwrap();
    assert_eq!(device_bytes(&space, memory.range()), 0);
    let usage = vram.usage().unwrap();
    assert!(usage.removed && usage.used == 0 && usage.counters.cpu_faults == 0);
    memory.check();
    for atomicity in [Atomicity::Window, Atomicity::Range, Atomicity::BestEffort] {
        let options = MigrateOptions::new().atomicity(atomicity);
        let error = space.migrate_to_devmem(&vram, memory.range(), &options).unwrap_err();
        assert_eq!((error.kind(), errno(&error)), (ErrorKind::DeviceLost, libc::ENODEV), "{error}");
    }
    vram.remove().unwrap();
    memory.check();
}

#[test]
fn what_a_removed_device_cannot_give_back_raises_a_signal() {
    if !alone!(what_a_removed_device_cannot_give_back_raises_a_signal dies of libc::SIGBUS) {
        return;
    }
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(2 * MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    // One window fails for good, the other gets away.
    vram.inject(Injection::none().way_out(Trigger::times(3))).unwrap();
    vram.remove().unwrap();
    let usage = vram.usage().unwrap();
    assert_eq!((usage.counters.pages_poisoned, usage.used), (memory.pages() / 2, 0));
    assert_eq!(device_bytes(&space, memory.range()), 0);
    memory.check_pages(memory.pages() / 2..memory.pages());
    // Anything but zeroes.
    let _ = memory.get(0);
}

#[test]
fn a_touch_that_cannot_be_resolved_raises_a_signal_and_the_data_is_not_lost() {
    if !alone!(a_touch_that_cannot_be_resolved_raises_a_signal_and_the_data_is_not_lost) {
        return;
    }
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    signals::count_sigbus();
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    vram.inject(Injection::none().way_out(Trigger::ONCE)).unwrap();
    std::thread::scope(|scope| {
        let touching = scope.spawn(|| memory.get(9 * page_size()));
        signals::wait_for_sigbus();
        let usage = vram.usage().unwrap();
        assert_eq!((usage.counters.pages_poisoned, usage.used), (1, MB2));
        assert_eq!(space.migrate_to_ram(memory.range()).unwrap().moved, MB2);
        signals::go_on();
        assert_eq!(touching.join().unwrap(), Memory::pattern(9));
    });
    memory.check();
}

/// A handler for `SIGBUS` that waits until the test has repaired what caused it.
mod signals {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    static SEEN: AtomicU32 = AtomicU32::new(0);
    static REPAIRED: AtomicBool = AtomicBool::new(false);

    extern "C" fn on_sigbus(_: libc::c_int) {
        SEEN.fetch_add(1, Ordering::SeqCst);
        while !REPAIRED.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
    }

    pub(super) fn count_sigbus() {
        let handler = on_sigbus as extern "C" fn(libc::c_int);
        // SAFETY: the handler uses atomics only.
        assert_ne!(unsafe { libc::signal(libc::SIGBUS, handler as libc::sighandler_t) }, libc::SIG_ERR);
    }

    pub(super) fn wait_for_sigbus() {
        while SEEN.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
    }

    pub(super) fn go_on() {
        REPAIRED.store(true, Ordering::SeqCst);
    }
}

#[test]
fn system_calls_on_device_pages_fail_without_kernel_touches() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    assert!(!space.capabilities().kernel_touch);
    let memory = Memory::filled(MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    assert_eq!(write_from(&memory), Err(rustix::io::Errno::FAULT));
    assert_eq!(device_bytes(&space, memory.range()), MB2);
    memory.check();
    assert_eq!(write_from(&memory), Ok(16));
}

#[test]
fn system_calls_on_device_pages_bring_them_back_with_kernel_touches() {
    let space = match Space::open(KernelTouch::Required) {
        Ok(space) => space,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            let fallback = space_with(KernelTouch::IfPermitted);
            assert!(fallback.is_none_or(|space| !space.capabilities().kernel_touch));
            return skipped(&error.to_string());
        }
    };
    let vram = VramRegion::new(&space, 8 * MB2).unwrap();
    let memory = Memory::filled(MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    assert_eq!(write_from(&memory), Ok(16));
    assert_eq!(device_bytes(&space, memory.range()), 0);
    memory.check();
    // A stack may migrate here, the caller's own included.
    let here = [7u8; 5000];
    let range = PageRange::covering(&here);
    assert_eq!(space.migrate_to_devmem(&vram, range, &MigrateOptions::new()).unwrap().moved, range.len());
    assert_eq!(std::hint::black_box(&here), &[7u8; 5000]);
}

fn write_from(memory: &Memory) -> rustix::io::Result<usize> {
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    // SAFETY: bytes of the test's own mapping, which nobody writes meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts(memory.start() as *const u8, 16) };
    rustix::io::write(&writer, bytes)
}
