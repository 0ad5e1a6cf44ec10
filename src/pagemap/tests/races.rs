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
        // On a busy machine the meddling may be over before the window is opened.
        let early = |error: &Error| matches!(error.kind(), ErrorKind::NotMapped | ErrorKind::MemoryKind);
        if let Some(error) = result.as_ref().err().filter(|error| !early(error)) {
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
        let _stop = StopWhenDone(&stop);
        for round in 0..3000u64 {
            memory.set(5 * page_size(), (round % 255) as u8 + 1);
            memory.advise(memory.part(5, 1), Advice::LinuxDontNeed).unwrap();
            assert_eq!(memory.get(5 * page_size()), 0, "in round {round}");
        }
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
        let _stop = StopWhenDone(&stop);
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
    });
}

/// Ends the other threads of a scope also when an assertion fails.
pub(super) struct StopWhenDone<'a>(pub(super) &'a AtomicBool);

impl Drop for StopWhenDone<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn memory_that_moves_while_its_pages_come_back_is_whole() {
    let Some((space, vram)) = simulated(MB2) else { return };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopWhenDone(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    vram.evict(MB2).unwrap();
                }
            });
        }
        let mut memory = Memory::filled(64 << 10);
        for _ in 0..2000 {
            space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
            memory = memory.relocate();
            memory.check();
        }
    });
}

#[test]
fn what_is_written_after_a_discard_stays() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let (memory, other) = (Memory::filled(64 << 10), Memory::filled(8 * MB2));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopWhenDone(&stop);
        scope.spawn(|| {
            // Windows under way, inside which the engine reads reports.
            while !stop.load(Ordering::Relaxed) {
                let _ = space.migrate_to_devmem(&vram, other.range(), &MigrateOptions::new());
                let _ = space.migrate_to_ram(other.range());
            }
        });
        let page = page_size();
        for round in 0..2000u64 {
            // Page 5 is system memory in a window whose other pages are the device's.
            let _ = space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new());
            memory.advise(memory.part(5, 1), Advice::LinuxDontNeed).unwrap();
            memory.set(5 * page, 1);
            memory.advise(memory.part(5, 1), Advice::LinuxDontNeed).unwrap();
            let value = (round % 255) as u8 + 1;
            memory.set(5 * page, value);
            assert_eq!(memory.get(5 * page), value, "in round {round}");
        }
    });
}

/// Two threads take the same addresses in turn. The report of one's unmapping may come after the other's request.
#[test]
fn addresses_that_change_hands_migrate() {
    use rustix::mm::{MapFlags, ProtFlags};
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let free = Memory::absent(64 << 10);
    // Far below where the kernel puts what has no address of its own.
    let (start, len) = (free.start() - (64 << 30), 64 << 10);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut turns = 0;
                while turns < 300 {
                    let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
                    let prot = ProtFlags::READ | ProtFlags::WRITE;
                    // SAFETY: maps only where nothing is mapped.
                    let mapped = unsafe { rustix::mm::mmap_anonymous(start as *mut _, len, prot, flags) };
                    let Ok(mapped) = mapped else {
                        std::thread::yield_now();
                        continue;
                    };
                    turns += 1;
                    // SAFETY: the mapping just made, which no other thread uses.
                    unsafe { mapped.cast::<u8>().write_bytes(7, len) };
                    let range = PageRange::new(start, len as u64).unwrap();
                    let migrated = space.migrate_to_devmem(&vram, range, &MigrateOptions::new());
                    // SAFETY: as above.
                    let intact = unsafe { std::slice::from_raw_parts(mapped.cast::<u8>(), len) };
                    let intact = turns % 2 == 0 || intact.iter().all(|&byte| byte == 7);
                    // SAFETY: the mapping just made; nothing refers to it any more.
                    unsafe { rustix::mm::munmap(mapped, len) }.unwrap();
                    assert_eq!(migrated.unwrap().moved, len as u64);
                    assert!(intact, "turn {turns}");
                }
            });
        }
    });
}
