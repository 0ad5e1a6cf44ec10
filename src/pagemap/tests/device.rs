//! What the device does to memory.

use super::*;
use crate::pagemap::{DeviceAtomic, Windows};

fn write(space: &Space, at: u64, bytes: &[u8]) -> crate::Result<()> {
    // SAFETY: the tests write to their own `Memory` only, which is touched through atomics.
    unsafe { space.device_write(at, bytes) }
}

fn atomic(space: &Space, at: u64, bytes: u32, op: DeviceAtomic) -> crate::Result<u64> {
    // SAFETY: as above.
    unsafe { space.device_atomic(at, bytes, op) }
}

#[test]
fn reads_and_writes_reach_both_kinds_of_memory_and_move_nothing() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::absent(2 * MB2);
    let device = memory.part(100, 200);
    let before: Vec<u8> = (0..2 * MB2).map(|n| (n % 253) as u8).collect();
    write(&space, memory.start(), &before).unwrap();
    space.migrate_to_devmem(&vram, device, &MigrateOptions::new()).unwrap();
    let mut seen = vec![0; before.len()];
    space.device_read(memory.start(), &mut seen).unwrap();
    assert_eq!(seen, before);
    let after: Vec<u8> = before.iter().map(|byte| byte ^ 0xff).collect();
    let odd = 99 * page_size() + 123..301 * page_size() + 45;
    write(&space, memory.start() + odd.start, &after[odd.start as usize..odd.end as usize]).unwrap();
    assert_eq!(device_bytes(&space, memory.range()), device.len());
    assert_eq!(vram.usage().unwrap().counters.cpu_faults, 0);
    for offset in (0..2 * MB2).step_by(61) {
        let expected = if odd.contains(&offset) { &after } else { &before };
        assert_eq!(memory.get(offset), expected[offset as usize], "at {offset}");
    }
}

#[test]
fn an_access_goes_on_where_the_next_page_is() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let other = VramRegion::new(&space, 8 * MB2).unwrap();
    let memory = Memory::filled(16 * page_size());
    // Device, another device, system memory, device.
    for (region, page) in [(&vram, 0), (&other, 1), (&vram, 3)] {
        space.migrate_to_devmem(region, memory.part(page, 1), &MigrateOptions::new()).unwrap();
    }
    for page in 1..4 {
        let edge = memory.start() + page * page_size();
        let bytes: Vec<u8> = (0..32).map(|n| 0x40 + n + page as u8).collect();
        write(&space, edge - 13, &bytes).unwrap();
        let mut seen = [0; 32];
        space.device_read(edge - 13, &mut seen).unwrap();
        assert_eq!(seen[..], bytes);
    }
    assert_eq!(device_bytes(&space, memory.range()), 3 * page_size());
    for page in 1..4u64 {
        let bytes: Vec<u8> = (0..32).map(|n| memory.get(page * page_size() - 13 + n)).collect();
        assert!(
            bytes.iter().copied().eq((0..32).map(|n| 0x40 + n + page as u8)),
            "at page {page}: {bytes:x?}"
        );
    }
    memory.check_pages(4..16);
}

#[test]
fn writes_to_holes_stick() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::absent(MB2);
    let migrated = space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    assert_eq!(migrated.holes, MB2);
    write(&space, memory.start() + 7 * page_size() + 3, &[1, 2, 3]).unwrap();
    assert_eq!(device_bytes(&space, memory.range()), MB2);
    assert_eq!((memory.get(7 * page_size() + 2), memory.get(7 * page_size() + 4)), (0, 2));
    assert!((8..memory.pages()).all(|page| memory.get(page * page_size()) == 0));
    assert_eq!(vram.usage().unwrap().used, 0);
}

#[test]
fn addresses_without_memory_fault() {
    let Some((space, _vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(64 << 10);
    memory.unmap(memory.part(8, 8));
    let at = memory.start() + 8 * page_size() - 8;
    for result in [space.device_read(at, &mut [0; 16]), write(&space, at, &[0; 16])] {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), errno(&error)), (ErrorKind::NotMapped, libc::EFAULT), "{error}");
    }
    for at in [0, u64::MAX - 3, 1 << 63] {
        let error = space.device_read(at, &mut [0; 16]).unwrap_err();
        assert_eq!(errno(&error), libc::EFAULT, "{error}");
    }
    memory.protect(memory.part(0, 1), rustix::mm::MprotectFlags::READ);
    assert_eq!(errno(&write(&space, memory.start(), &[1]).unwrap_err()), libc::EFAULT);
    space.device_read(memory.start(), &mut [0; 1]).unwrap();
    space.device_read(0, &mut []).unwrap();
}

#[test]
fn atomic_operations_do_what_they_say_wherever_the_memory_is() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::absent(MB2);
    for resident in [false, true] {
        let expected: &[(DeviceAtomic, u64, u64)] = &[
            (DeviceAtomic::Exchange(10), 0, 10),
            (DeviceAtomic::Add(5), 10, 15),
            (DeviceAtomic::Sub(16), 15, u64::MAX),
            (DeviceAtomic::And(0xff), u64::MAX, 0xff),
            (DeviceAtomic::Or(0x100), 0xff, 0x1ff),
            (DeviceAtomic::Xor(0x1f0), 0x1ff, 0xf),
            (DeviceAtomic::Max(99), 0xf, 99),
            (DeviceAtomic::Min(3), 99, 3),
            (DeviceAtomic::CompareExchange { expected: 4, new: 1 }, 3, 3),
            (DeviceAtomic::CompareExchange { expected: 3, new: 0 }, 3, 0),
        ];
        let at = memory.start() + 3 * page_size() + 16;
        if resident {
            space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
        }
        for (bytes, mask) in [(8, u64::MAX), (4, u64::from(u32::MAX))] {
            for &(op, old, new) in expected {
                assert_eq!(atomic(&space, at, bytes, op).unwrap(), old & mask, "{op:?}");
                let mut seen = [0; 8];
                space.device_read(at, &mut seen).unwrap();
                assert_eq!(u64::from_le_bytes(seen), new & mask, "{op:?}");
            }
        }
        assert_eq!(device_bytes(&space, memory.range()), if resident { MB2 } else { 0 });
    }
    memory.set(0, 1);
    assert_eq!(memory.get(1), 0);
}

#[test]
fn atomic_operations_that_make_no_sense_are_refused() {
    let Some((space, _vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(64 << 10);
    for (offset, bytes) in [(1, 4), (4, 8), (0, 2), (0, 0), (0, 16)] {
        let error = atomic(&space, memory.start() + offset, bytes, DeviceAtomic::Add(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    memory.protect(memory.part(0, 1), rustix::mm::MprotectFlags::READ);
    let error = atomic(&space, memory.start(), 8, DeviceAtomic::Add(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MemoryKind, "{error}");
    memory.check();
}

#[test]
fn cpu_and_device_count_together_without_losing_one() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::absent(64 << 10);
    const EACH: u64 = 3000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..EACH {
                memory.word(64).fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                if n % 16 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        scope.spawn(|| {
            for _ in 0..EACH {
                atomic(&space, memory.start() + 64, 8, DeviceAtomic::Add(1)).unwrap();
            }
        });
        scope.spawn(|| {
            for _ in 0..EACH / 10 {
                space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
            }
        });
    });
    assert_eq!(memory.word(64).load(std::sync::atomic::Ordering::SeqCst), 2 * EACH);
}

#[test]
fn a_page_that_the_process_may_not_read_faults_within_a_window_too() {
    use rustix::mm::{Advice, MprotectFlags};
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    let window = memory.part(16, 16);
    let options = MigrateOptions::new().windows(Windows::Blocks(window.len()));
    space.migrate_to_devmem(&vram, window, &options).unwrap();
    // A page within the window that is not the device's, and that the process may not read.
    let page = memory.part(17, 1);
    memory.advise(page, Advice::LinuxDontNeed).unwrap();
    memory.protect(page, MprotectFlags::empty());
    let mut bytes = vec![0; 2 * page_size() as usize];
    // A page of the device's lies before those that are read, too.
    space.migrate_to_devmem(&vram, memory.part(15, 1), &options).unwrap();
    let error = space.device_read(window.start(), &mut bytes).unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::NotMapped, libc::EFAULT), "{error}");
    assert_eq!(error.range(), Some(page));
    memory.protect(page, MprotectFlags::READ | MprotectFlags::WRITE);
    space.device_read(window.start(), &mut bytes).unwrap();
    assert_eq!((bytes[0], bytes[page_size() as usize]), (Memory::pattern(16), 0));
}
