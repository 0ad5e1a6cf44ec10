//! Pages that do not exist, among pages that do: with a look at the page map, and where the process may not look.

use rustix::mm::Advice;

use super::*;

/// Memory in which page `n` exists if `exists(n)`.
fn sparse(len: u64, exists: impl Fn(u64) -> bool) -> Memory {
    let memory = Memory::absent(len);
    (0..memory.pages()).filter(|&n| exists(n)).for_each(|n| memory.set(n * page_size(), Memory::pattern(n)));
    memory
}

fn check(memory: &Memory, exists: impl Fn(u64) -> bool) {
    for n in 0..memory.pages() {
        let expected = if exists(n) { Memory::pattern(n) } else { 0 };
        assert_eq!(memory.get(n * page_size()), expected, "page {n}");
    }
}

/// Runs the test with and without a page map.
fn both(test: impl Fn(&Space)) {
    if let Some(space) = space() {
        test(&space);
        test(&Space::open_with(KernelTouch::Never, None).unwrap());
    }
}

const PATTERNS: [fn(u64) -> bool; 6] =
    [|_| false, |n| n % 2 == 0, |n| n % 2 == 1, |n| n == 0, |n| n == 511, |n| !(100..400).contains(&n)];

#[test]
fn holes_go_and_come_with_the_window() {
    both(|space| {
        let vram = VramRegion::new(space, 4 * MB2).unwrap();
        for exists in PATTERNS {
            let memory = sparse(MB2, exists);
            let real = (0..memory.pages()).filter(|&n| exists(n)).count() as u64 * page_size();
            let migrated = space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
            assert_eq!((migrated.moved, migrated.holes), (MB2, MB2 - real));
            assert_eq!(device_bytes(space, memory.range()), MB2);
            let before = vram.usage().unwrap().counters;
            assert_eq!(space.migrate_to_ram(memory.range()).unwrap().moved, MB2);
            let after = vram.usage().unwrap().counters;
            assert_eq!((after.bytes_out - before.bytes_out, after.bytes_discarded), (MB2, 0));
            check(&memory, exists);
            assert_eq!(vram.usage().unwrap().used, 0);
        }
    });
}

#[test]
fn holes_that_the_device_reads_are_zero_and_take_writes() {
    both(|space| {
        let vram = VramRegion::new(space, 4 * MB2).unwrap();
        let memory = sparse(MB2, |n| n % 3 == 0);
        space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
        let mut byte = [9];
        space.device_read(memory.start() + page_size(), &mut byte).unwrap();
        assert_eq!(byte, [0]);
        // SAFETY: the test's own memory, which nobody else looks at meanwhile.
        unsafe { space.device_write(memory.start() + 2 * page_size(), &[77]) }.unwrap();
        assert_eq!(memory.get(2 * page_size()), 77);
        assert_eq!(memory.get(page_size()), 0);
        assert_eq!(memory.get(3 * page_size()), Memory::pattern(3));
    });
}

#[test]
fn holes_go_from_one_region_to_the_next() {
    both(|space| {
        let (one, two) = (VramRegion::new(space, 4 * MB2).unwrap(), VramRegion::new(space, 4 * MB2).unwrap());
        for exists in PATTERNS {
            let memory = sparse(MB2, exists);
            space.migrate_to_devmem(&one, memory.range(), &MigrateOptions::new()).unwrap();
            for target in [&two, &one, &two] {
                let migrated =
                    space.migrate_to_devmem(target, memory.range(), &MigrateOptions::new()).unwrap();
                assert_eq!(migrated.moved, MB2);
                assert_eq!(target.usage().unwrap().used, MB2);
            }
            assert_eq!(one.usage().unwrap().used, 0);
            check(&memory, exists);
            assert_eq!(two.usage().unwrap().used, 0);
        }
    });
}

/// Whatever the pool is left with after such a window would be taken for the next one's contents.
#[test]
fn nothing_stays_behind_in_the_pool() {
    both(|space| {
        let vram = VramRegion::new(space, MB2).unwrap();
        for round in 0..20 {
            let memory = Memory::filled(MB2);
            space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
            memory.advise(memory.part(7 + round, 90), Advice::LinuxDontNeed).unwrap();
            drop(memory);
            let absent = Memory::absent(MB2);
            space.migrate_to_devmem(&vram, absent.range(), &MigrateOptions::new()).unwrap();
            check(&absent, |_| false);
        }
    });
}

/// A thread discards and writes a page of a window again and again while the engine moves it: the kernel meets pages that
/// change under its hands.
#[test]
fn pages_that_come_and_go_while_they_move() {
    let Some((space, vram)) = simulated(2 * MB2) else { return };
    let memory = Memory::filled(MB2);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new());
                let _ = space.migrate_to_ram(memory.range());
            }
        });
        let _stop = races::StopWhenDone(&stop);
        for round in 0..2000u64 {
            let (first, count) = (8 + round % 300, 1 + round % 64);
            if round % 8 == 0 {
                memory.check_pages(first..first + count);
            }
            memory.advise(memory.part(first, count), Advice::LinuxDontNeed).unwrap();
            for n in first..first + count {
                assert_eq!(memory.get(n * page_size()), 0, "page {n} in round {round}");
                memory.set(n * page_size(), Memory::pattern(n));
            }
        }
    });
    memory.check();
}
