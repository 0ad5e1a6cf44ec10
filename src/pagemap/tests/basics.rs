//! In, out, and where things are.

use super::*;

#[test]
fn pages_move_in_and_a_touch_brings_the_window_back() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(2 * MB2);
    let migrated = space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    assert_eq!((migrated.moved, migrated.already, migrated.holes), (2 * MB2, 0, 0));
    assert_eq!(device_bytes(&space, memory.range()), 2 * MB2);
    assert_eq!(vram.usage().unwrap().used, 2 * MB2);
    assert_eq!(memory.get(5 * page_size()), Memory::pattern(5));
    assert_eq!(device_bytes(&space, memory.range()), MB2, "one touch, one window");
    memory.check();
    assert_eq!(device_bytes(&space, memory.range()), 0);
    let usage = vram.usage().unwrap();
    assert_eq!((usage.used, usage.windows, usage.counters.cpu_faults), (0, 0, 2));
}

#[test]
fn a_space_is_the_same_as_its_clones_and_as_no_other() {
    let (Some(one), Some(other)) = (space(), space()) else { return };
    assert!(one.is(&one.clone()) && other.is(&other));
    assert!(!one.is(&other) && !other.is(&one));
}

#[test]
fn an_explicit_return_moves_everything() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(3 * MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    let back = space.migrate_to_ram(memory.range()).unwrap();
    assert_eq!(back.moved, 3 * MB2);
    assert_eq!(space.migrate_to_ram(memory.range()).unwrap().moved, 0);
    memory.check();
    assert_eq!(vram.usage().unwrap().counters.cpu_faults, 0);
}

#[test]
fn dropping_the_handles_brings_the_data_back() {
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(2 * MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    drop(space);
    drop(vram);
    memory.check();
}

#[test]
fn forks_are_reported_to_who_may_trace() {
    let Some(space) = space_with(KernelTouch::Required) else { return };
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let may_trace = u64::from_str_radix(effective.trim(), 16).unwrap() >> 19 & 1 == 1;
    // In a user namespace of its own a process has capabilities that do not count here.
    let namespace = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if namespace.split_whitespace().eq(["0", "0", "4294967295"]) {
        assert_eq!(space.capabilities().fork_events, may_trace);
    }
    assert!(!self::space().unwrap().capabilities().fork_events, "without kernel touches nobody asks for it");
}
