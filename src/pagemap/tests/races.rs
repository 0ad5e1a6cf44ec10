//! The process changes its mappings at the very moment their pages move.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::mm::Advice;

use super::*;
use crate::pagemap::Injection;

/// Migrates with the engine dwelling before it moves anything, while `meddle` happens; until it was in the way.
fn meddle(meddle: impl Fn(&Memory) + Sync, check: impl Fn(&Memory)) {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    vram.inject(Injection::none().delay(Duration::from_millis(3))).unwrap();
    for _ in 0..200 {
        let memory = Memory::filled(MB2);
        let go = AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !go.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                std::thread::sleep(Duration::from_micros(700));
                meddle(&memory);
            });
            go.store(true, Ordering::Release);
            space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new().retry(false))
        });
        if let Err(error) = &result {
            assert_eq!((error.kind(), errno(error)), (ErrorKind::Busy, libc::EBUSY), "{error}");
            assert!(error.reason().contains("changed"), "{error}");
        }
        check(&memory);
        drop(memory);
        let usage = vram.usage().unwrap();
        assert_eq!((usage.used, usage.windows), (0, 0), "{result:?}");
        if usage.counters.rollbacks > 0 {
            return;
        }
    }
    panic!("the two never met");
}

#[test]
fn unmapping_what_is_about_to_move() {
    let middle = |memory: &Memory| memory.part(100, 100);
    meddle(
        |memory| memory.unmap(middle(memory)),
        |memory| {
            memory.check_pages(0..100);
            memory.check_pages(200..memory.pages());
        },
    );
}

#[test]
fn discarding_what_is_about_to_move() {
    meddle(
        |memory| memory.advise(memory.part(100, 100), Advice::LinuxDontNeed).unwrap(),
        |memory| {
            memory.check_pages(0..100);
            for page in 100..200 {
                assert_eq!(memory.get(page * page_size()), 0, "page {page} came back from the dead");
            }
            memory.check_pages(200..memory.pages());
        },
    );
}

#[test]
fn discarded_pages_never_come_back() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(64 << 10);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new());
                let _ = space.migrate_to_ram(memory.range());
            }
        });
        for round in 0..3000u64 {
            memory.set(5 * page_size(), (round % 255) as u8 + 1);
            memory.advise(memory.part(5, 1), Advice::LinuxDontNeed).unwrap();
            assert_eq!(memory.get(5 * page_size()), 0, "in round {round}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    memory.check_pages(6..memory.pages());
}

#[test]
fn addresses_used_again_at_once_are_the_new_owners() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let stop = AtomicBool::new(false);
    let range = std::sync::Mutex::new(PageRange::new(0, 0).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Migrates whatever is there at the addresses, without knowing whether it still is what it was.
            while !stop.load(Ordering::Relaxed) {
                let target = *range.lock().unwrap();
                let _ = space.migrate_to_devmem(&vram, target, &MigrateOptions::new());
            }
        });
        for round in 0..2000u64 {
            let memory = Memory::absent(64 << 10);
            *range.lock().unwrap() = memory.range();
            for page in 0..memory.pages() {
                memory.word(page * page_size()).store(round << 8 | page, Ordering::Relaxed);
            }
            for page in 0..memory.pages() {
                assert_eq!(memory.word(page * page_size()).load(Ordering::Relaxed), round << 8 | page);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
