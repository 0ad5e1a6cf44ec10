//! What the process does to its mappings while the device has their pages.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mm::{Advice, MprotectFlags, MremapFlags};

use super::*;
use crate::pagemap::{Atomicity, Event, Notifier, Windows};

#[test]
fn unmapping_part_of_a_window_leaves_the_rest_in_two() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    memory.unmap(memory.part(100, 50));
    let usage = vram.usage().unwrap();
    assert_eq!((usage.windows, usage.counters.bytes_discarded), (2, 50 * page_size()));
    assert_eq!(device_bytes(&space, memory.range()), MB2 - 50 * page_size());
    // A touch brings back what is on its side of the hole.
    memory.check_pages(0..100);
    assert_eq!(device_bytes(&space, memory.range()), MB2 - 150 * page_size());
    memory.check_pages(150..memory.pages());
    let usage = vram.usage().unwrap();
    assert_eq!((usage.used, usage.windows, usage.counters.cpu_faults), (0, 0, 2));
}

#[test]
fn unmapping_everything_frees_the_device_memory() {
    let Some((space, vram)) = simulated(3 * MB2) else { return };
    let memory = Memory::filled(3 * MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    drop(memory);
    let usage = vram.usage().unwrap();
    assert_eq!((usage.used, usage.windows, usage.counters.bytes_discarded), (0, 0, 3 * MB2));
    // The freed pages hold nothing of what was there.
    let fresh = Memory::absent(3 * MB2);
    space.migrate_to_devmem(&vram, fresh.range(), &MigrateOptions::new()).unwrap();
    assert!((0..fresh.pages()).all(|page| fresh.get(page * page_size()) == 0));
}

#[test]
fn a_window_follows_its_mapping() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(2 * MB2);
    let old = memory.range();
    space.migrate_to_devmem(&vram, old, &MigrateOptions::new()).unwrap();
    let window = space.window_at(old.start()).unwrap().unwrap();
    let memory = memory.relocate();
    assert_eq!(window.range().map(|r| r.start()), Some(memory.start()));
    assert_eq!(device_bytes(&space, memory.range()), 2 * MB2);
    assert!(!old.overlaps(memory.range()) && device_bytes(&space, old) == 0);
    memory.check();
    assert_eq!(vram.usage().unwrap().used, 0);
}

#[test]
fn a_window_follows_to_an_address_that_is_aligned_differently() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let room = Memory::absent(4 * MB2);
    let to = room.start() + 5 * page_size();
    let memory = Memory::filled(2 * MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    let memory = memory.relocate_to(to);
    assert_eq!(memory.start(), to);
    room.give_up(memory.range());
    assert_eq!(device_bytes(&space, memory.range()), 2 * MB2);
    // It can be asked for again, and be moved once more.
    let again = space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    assert_eq!(again.already, 2 * MB2);
    let memory = memory.relocate();
    memory.check();
    assert_eq!(vram.usage().unwrap().used, 0);
}

#[test]
fn a_part_that_moves_away_becomes_a_window_of_its_own() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    let part = memory.part(200, 30);
    let place = Memory::absent(part.len());
    let (to, len) = (place.start(), part.len() as usize);
    // SAFETY: part of the test's own mapping, not touched at the old place any more; `place` is not used for anything else.
    unsafe { rustix::mm::mremap_fixed(part.start() as *mut _, len, len, MremapFlags::MAYMOVE, to as *mut _) }
        .unwrap();
    memory.give_up(part);
    let moved = PageRange::new(to, part.len()).unwrap();
    assert_eq!(device_bytes(&space, moved), part.len());
    assert_eq!(device_bytes(&space, memory.range()), MB2 - part.len());
    assert_eq!(vram.usage().unwrap().windows, 3);
    for page in 0..30 {
        assert_eq!(place.get(page * page_size()), Memory::pattern(200 + page));
    }
    assert_eq!(device_bytes(&space, moved), 0);
    memory.check_pages(0..200);
    memory.check_pages(230..memory.pages());
    assert_eq!(vram.usage().unwrap().used, 0);
}

#[test]
fn what_moves_onto_a_window_replaces_it() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(3 * MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    let pages = MB2 / page_size();
    let (from, to) = (memory.part(2 * pages, pages), memory.part(0, pages));
    let len = from.len() as usize;
    // SAFETY: both are parts of the test's own mapping, of which what was at `to` is not looked at any more.
    unsafe {
        rustix::mm::mremap_fixed(from.start() as *mut _, len, len, MremapFlags::MAYMOVE, to.start() as *mut _)
    }
    .unwrap();
    memory.give_up(from);
    assert_eq!(device_bytes(&space, memory.range()), 2 * MB2);
    for page in 0..pages {
        assert_eq!(memory.get(page * page_size()), Memory::pattern(2 * pages + page));
    }
    memory.check_pages(pages..2 * pages);
    assert_eq!(vram.usage().unwrap().used, 0);
}

#[test]
fn a_mapping_that_grows_is_ordinary_memory_beyond_the_window() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(64 << 10);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    let (old, new) = (64 << 10, 4 << 20);
    // SAFETY: the test's own mapping; the old addresses are used no more.
    let at = unsafe { rustix::mm::mremap(memory.start() as *mut _, old, new, MremapFlags::MAYMOVE) }.unwrap()
        as u64;
    std::mem::forget(memory);
    let byte = |offset: u64| (at + offset) as *mut u8;
    // SAFETY: within the grown mapping.
    assert_eq!(unsafe { byte(3 << 20).read_volatile() }, 0);
    // SAFETY: as above.
    unsafe { byte(2 << 20).write_volatile(9) };
    // SAFETY: as above.
    assert_eq!(unsafe { byte(5 * page_size()).read_volatile() }, Memory::pattern(5));
    // SAFETY: as above.
    assert_eq!(unsafe { byte(2 << 20).read_volatile() }, 9);
    // SAFETY: the test's own mapping, used no more.
    unsafe { rustix::mm::munmap(at as *mut _, new) }.unwrap();
}

#[test]
fn discarded_pages_read_as_zero_and_the_others_stay() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    memory.advise(memory.part(10, 20), Advice::LinuxDontNeed).unwrap();
    let window = space.window_at(memory.start()).unwrap().unwrap();
    assert_eq!(window.live_pages(), memory.pages() - 20);
    let mut byte = [1];
    space.device_read(memory.start() + 12 * page_size(), &mut byte).unwrap();
    assert_eq!(byte, [0]);
    assert_eq!(memory.get(11 * page_size()), 0);
    assert!(window.exists(), "a touch of a page that the device does not have leaves the window alone");
    memory.set(15 * page_size(), 200);
    memory.check_pages(0..10);
    memory.check_pages(30..memory.pages());
    assert_eq!((memory.get(15 * page_size()), memory.get(16 * page_size())), (200, 0));
    assert_eq!(vram.usage().unwrap().used, 0);
}

#[test]
fn discarding_everything_ends_the_window() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    memory.advise(memory.range(), Advice::LinuxDontNeed).unwrap();
    assert_eq!(vram.usage().unwrap().used, 0);
    assert_eq!(memory.get(7), 0);
}

#[test]
fn memory_made_read_only_meanwhile_comes_back_by_copy() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    memory.advise(memory.part(9, 1), Advice::LinuxDontNeed).unwrap();
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    memory.protect(memory.range(), MprotectFlags::READ);
    memory.check_pages(0..9);
    assert_eq!(memory.get(9 * page_size()), 0);
    memory.check_pages(10..memory.pages());
    let usage = vram.usage().unwrap();
    // All but the page that was not there.
    assert_eq!((usage.used, usage.counters.bytes_copied_out), (0, MB2 - page_size()));
    memory.protect(memory.range(), MprotectFlags::READ | MprotectFlags::WRITE);
    memory.fill();
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    memory.check();
}

#[test]
fn part_of_a_window_made_read_only_comes_back_with_the_rest() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    memory.protect(memory.part(50, 10), MprotectFlags::READ);
    memory.check();
    assert_eq!(vram.usage().unwrap().counters.bytes_copied_out, 10 * page_size());
}

#[test]
fn memory_locked_meanwhile_comes_back() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(64 << 10);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    // SAFETY: locks pages of the test's own mapping. Fails to fault them in where kernel touches are not reported.
    let _ = unsafe { rustix::mm::mlock(memory.start() as *mut _, 64 << 10) };
    memory.check();
    assert_eq!(vram.usage().unwrap().used, 0);
}

#[derive(Default)]
struct Log(Vec<Event>);

impl Notifier for Log {
    fn unmapped(&mut self, range: PageRange) {
        self.0.push(Event::Unmapped(range));
    }

    fn discarded(&mut self, range: PageRange) {
        self.0.push(Event::Discarded(range));
    }

    fn moved(&mut self, from: PageRange, to: u64) {
        self.0.push(Event::Moved { from, to });
    }

    fn lost(&mut self) {
        panic!("events were lost");
    }
}

#[test]
fn watched_memory_tells_what_happens_to_it() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let mut events = space.events().unwrap();
    let memory = Memory::filled(2 * MB2);
    let watch = space.watch(memory.range()).unwrap();
    assert_eq!(watch.range(), memory.range());
    // Nothing is in device memory, or ever was.
    memory.advise(memory.part(4, 4), Advice::LinuxDontNeed).unwrap();
    memory.fill();
    // Being in device memory and coming back does not end the watch.
    space.migrate_to_devmem(&vram, memory.part(0, 256), &MigrateOptions::new()).unwrap();
    memory.check();
    let (old, part) = (memory.range(), memory.part(300, 20));
    memory.advise(part, Advice::LinuxDontNeed).unwrap();
    let memory = memory.relocate();
    let hole = memory.part(8, 8);
    memory.unmap(hole);
    let mut log = Log::default();
    events.deliver(&mut log).unwrap();
    let first = PageRange::new(old.start() + 4 * page_size(), 4 * page_size()).unwrap();
    let expected = [
        Event::Discarded(first),
        Event::Discarded(part),
        Event::Moved { from: old, to: memory.start() },
        Event::Unmapped(old),
        Event::Unmapped(hole),
    ];
    assert_eq!(log.0, expected);
    assert_eq!(events.take().unwrap(), (vec![], false));
    drop(watch);
}

/// A touch that brings a window back lets its thread go on while the engine still has things to do with the window. What the
/// thread unmaps then is told, also if something else is mapped there at once.
#[test]
fn watched_memory_tells_what_the_touching_thread_does_next() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let mut events = space.events().unwrap();
    let memory = Memory::filled(MB2);
    let range = memory.range();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // So that the engine is sometimes stopped in the midst of it.
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            });
        }
        let missed = (0..100).filter(|_| {
            let watch = space.watch(range).unwrap();
            space.migrate_to_devmem(&vram, range, &MigrateOptions::new()).unwrap();
            memory.get(0);
            memory.map_anew();
            drop(watch);
            memory.fill();
            !events.take().unwrap().0.contains(&Event::Unmapped(range))
        });
        let missed = missed.count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(missed, 0);
    });
}

/// The end of a window brings back the registration of what is watched there, and of nothing else.
#[test]
fn a_watch_is_where_its_parts_are_after_one_has_moved() {
    let Some((space, vram)) = simulated(16 * MB2) else { return };
    let mut events = space.events().unwrap();
    let (memory, place) = (Memory::filled(MB2), Memory::filled(MB2));
    let _watch = space.watch(memory.range()).unwrap();
    let (part, target) = (memory.part(200, 30), place.part(100, 30));
    let (to, len) = (target.start(), part.len() as usize);
    // SAFETY: part of the test's own mapping, not touched at the old place any more; `place` is the test's own too.
    unsafe { rustix::mm::mremap_fixed(part.start() as *mut _, len, len, MremapFlags::MAYMOVE, to as *mut _) }
        .unwrap();
    memory.give_up(part);
    assert_eq!(events.take().unwrap().0, [Event::Moved { from: part, to }, Event::Unmapped(part)]);
    for range in [memory.part(0, 200), memory.part(230, 282), place.range()] {
        space.migrate_to_devmem(&vram, range, &MigrateOptions::new()).unwrap();
        assert_eq!(device_bytes(&space, range), range.len());
        space.migrate_to_ram(range).unwrap();
    }
    let (watched, others) = (
        [memory.part(0, 1), memory.part(199, 1), memory.part(230, 1), memory.part(511, 1)],
        [place.part(0, 1), place.part(99, 1), place.part(130, 1), place.part(511, 1)],
    );
    watched.iter().for_each(|&range| memory.unmap(range));
    others.iter().for_each(|&range| place.unmap(range));
    let moved = [place.part(100, 1), place.part(129, 1)];
    moved.iter().for_each(|&range| place.unmap(range));
    let expected: Vec<Event> = watched.into_iter().chain(moved).map(Event::Unmapped).collect();
    assert_eq!(events.take().unwrap(), (expected, false));
}

#[test]
fn the_end_of_a_watch_leaves_others_that_overlap_it() {
    let Some(space) = space() else { return };
    let memory = Memory::filled(MB2);
    let mut events = space.events().unwrap();
    // Whether unmapping a page is told.
    let mut is_watched = |page: u64| {
        let range = memory.part(page, 1);
        memory.unmap(range);
        let told = events.take().unwrap().0;
        assert!(told.is_empty() || told == [Event::Unmapped(range)], "{told:?}");
        !told.is_empty()
    };
    let watch = |first: u64, count: u64| space.watch(memory.part(first, count)).unwrap();
    let (_wide, narrow) = (watch(0, 100), watch(40, 20));
    drop(narrow);
    assert_eq!([39, 50, 60].map(&mut is_watched), [true; 3]);
    let (left, _right) = (watch(100, 60), watch(140, 60));
    drop(left);
    assert_eq!([110, 150, 190].map(&mut is_watched), [false, true, true]);
    let (_left, right) = (watch(200, 60), watch(240, 60));
    drop(right);
    assert_eq!([210, 250, 290].map(&mut is_watched), [true, true, false]);
    let (_one, other) = (watch(300, 10), watch(300, 10));
    drop(other);
    assert!(is_watched(305));
}

#[test]
fn memory_is_not_watched_any_more_after_the_guard() {
    let Some(space) = space() else { return };
    let memory = Memory::filled(MB2);
    let watch = space.watch(memory.range()).unwrap();
    let mut events = space.events().unwrap();
    drop(watch);
    memory.advise(memory.range(), Advice::LinuxDontNeed).unwrap();
    memory.unmap(memory.part(0, 1));
    assert_eq!(events.take().unwrap(), (vec![], false));
}

#[test]
fn a_reader_that_falls_behind_is_told() {
    let Some(space) = space() else { return };
    let memory = Memory::filled(64 << 10);
    let _watch = space.watch(memory.range()).unwrap();
    let mut events = space.events().unwrap();
    for _ in 0..5000 {
        memory.advise(memory.part(0, 1), Advice::LinuxDontNeed).unwrap();
    }
    let (seen, lost) = events.take().unwrap();
    assert!(lost);
    assert_eq!(seen.len(), 4096);
}

#[test]
fn watching_leaves_system_calls_and_huge_pages_alone() {
    let Some(space) = space() else { return };
    let memory = Memory::absent(MB2);
    let _watch = space.watch(memory.range()).unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    // SAFETY: an absent page of the test's mapping, which reads as zero.
    let absent = unsafe { std::slice::from_raw_parts((memory.start() + 5 * page_size()) as *const u8, 16) };
    assert_eq!(rustix::io::write(&writer, absent), Ok(16));
    drop(reader);
    memory.advise(memory.range(), Advice::LinuxHugepage).unwrap();
    memory.advise(memory.range(), Advice::LinuxDontNeed).unwrap();
    let plain = Memory::huge(MB2);
    memory.fill();
    assert_eq!(memory.is_huge(), plain.is_huge());
}

#[test]
fn windows_go_over_the_edges_of_mappings_that_look_alike() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(64 << 10);
    // The kernel keeps the middle apart from now on, though it is memory of the same kind.
    memory.advise(memory.part(5, 3), Advice::LinuxDontDump).unwrap();
    let options = MigrateOptions::new().windows(Windows::Blocks(MB2));
    for (atomicity, windows) in [(Atomicity::BestEffort, 1), (Atomicity::Range, 1), (Atomicity::Window, 3)] {
        let migrated = space.migrate_to_devmem(&vram, memory.range(), &options.atomicity(atomicity)).unwrap();
        assert_eq!((migrated.moved, migrated.refused), (64 << 10, 0), "{atomicity:?}");
        assert_eq!(vram.usage().unwrap().windows, windows, "{atomicity:?}");
        memory.check();
        assert_eq!(vram.usage().unwrap().used, 0);
    }
}

#[test]
fn a_hole_before_the_edge_of_a_mapping_says_nothing_of_the_pages_behind_it() {
    let Some(space) = space() else { return };
    for space in [&space, &Space::open_with(KernelTouch::Never, None).unwrap()] {
        let vram = VramRegion::new(space, 8 * MB2).unwrap();
        let memory = Memory::filled(64 << 10);
        memory.advise(memory.part(6, 2), Advice::LinuxDontDump).unwrap();
        memory.advise(memory.part(3, 1), Advice::LinuxDontNeed).unwrap();
        let options = MigrateOptions::new().windows(Windows::Blocks(MB2)).atomicity(Atomicity::BestEffort);
        let migrated = space.migrate_to_devmem(&vram, memory.range(), &options).unwrap();
        assert_eq!((migrated.moved, migrated.holes, migrated.refused), (64 << 10, page_size(), 0));
        assert_eq!(memory.get(3 * page_size()), 0);
        memory.check_pages(0..3);
        memory.check_pages(4..memory.pages());
        assert_eq!(vram.usage().unwrap().used, 0);
    }
}
