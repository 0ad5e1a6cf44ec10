//! Any sequence of operations leaves the bytes as a plain array would have them.

use proptest::prelude::*;
use rustix::mm::{Advice, MprotectFlags};

use super::*;
use crate::pagemap::{Atomicity, DeviceAtomic, Injection, Trigger, Windows};

/// Pages of the memory under test: two blocks of 2 MiB would take long to look at, so part of a third counts more.
const PAGES: u64 = 600;

#[derive(Clone, Debug)]
enum Op {
    Set { page: u64, value: u8 },
    Check { page: u64 },
    ToDevice { region: usize, first: u64, count: u64, windows: u8, atomicity: u8 },
    ToRam { first: u64, count: u64 },
    Evict { region: usize, pages: u64 },
    Discard { first: u64, count: u64 },
    DeviceRead { page: u64 },
    DeviceWrite { page: u64, value: u8 },
    DeviceAdd { page: u64, value: u8 },
    Protect { first: u64, count: u64 },
    Relocate,
    Inject { region: usize, what: u8, nth: u32 },
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    (0..PAGES, prop_oneof![1u64..4, 1u64..40, 1..PAGES])
        .prop_map(|(first, count)| (first, count.min(PAGES - first)))
}

fn op() -> impl Strategy<Value = Op> {
    let page = 0..PAGES;
    prop_oneof![
        4 => (page.clone(), any::<u8>()).prop_map(|(page, value)| Op::Set { page, value }),
        3 => page.clone().prop_map(|page| Op::Check { page }),
        8 => (0usize..2, range(), 0u8..3, 0u8..3).prop_map(|(region, (first, count), windows, atomicity)| {
            Op::ToDevice { region, first, count, windows, atomicity }
        }),
        3 => range().prop_map(|(first, count)| Op::ToRam { first, count }),
        1 => (0usize..2, 0u64..100).prop_map(|(region, pages)| Op::Evict { region, pages }),
        2 => range().prop_map(|(first, count)| Op::Discard { first, count }),
        2 => page.clone().prop_map(|page| Op::DeviceRead { page }),
        3 => (page.clone(), any::<u8>()).prop_map(|(page, value)| Op::DeviceWrite { page, value }),
        2 => (page, any::<u8>()).prop_map(|(page, value)| Op::DeviceAdd { page, value }),
        1 => range().prop_map(|(first, count)| Op::Protect { first, count }),
        1 => Just(Op::Relocate),
        2 => (0usize..2, 0u8..4, 1u32..4).prop_map(|(region, what, nth)| Op::Inject { region, what, nth }),
    ]
}

struct World {
    space: Space,
    regions: [VramRegion; 2],
    memory: Option<Memory>,
    model: Vec<u8>,
}

impl World {
    fn memory(&self) -> &Memory {
        self.memory.as_ref().unwrap()
    }

    fn offset(page: u64) -> u64 {
        page * page_size()
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Set { page, value } => {
                self.memory().set(Self::offset(page), value);
                self.model[page as usize] = value;
            }
            Op::Check { page } => {
                assert_eq!(self.memory().get(Self::offset(page)), self.model[page as usize])
            }
            Op::ToDevice { region, first, count, windows, atomicity } => {
                self.migrate_in(region, first, count, windows, atomicity)
            }
            Op::ToRam { first, count } => {
                let range = self.memory().part(first, count);
                // Fails only if that was injected.
                if self.space.migrate_to_ram(range).is_ok() {
                    assert_eq!(device_bytes(&self.space, range), 0);
                }
            }
            Op::Evict { region, pages } => drop(self.regions[region].evict(pages * page_size())),
            Op::Discard { first, count } => {
                self.memory().advise(self.memory().part(first, count), Advice::LinuxDontNeed).unwrap();
                self.model[first as usize..(first + count) as usize].fill(0);
            }
            Op::DeviceRead { page } => {
                let mut byte = [0];
                self.space.device_read(self.memory().start() + Self::offset(page), &mut byte).unwrap();
                assert_eq!(byte[0], self.model[page as usize]);
            }
            Op::DeviceWrite { page, value } => {
                let at = self.memory().start() + Self::offset(page);
                // SAFETY: the test's own memory, touched through atomics only.
                unsafe { self.space.device_write(at, &[value]) }.unwrap();
                self.model[page as usize] = value;
            }
            Op::DeviceAdd { page, value } => {
                let at = self.memory().start() + Self::offset(page);
                // The byte is the lowest of a word whose others are the carry.
                let old = self.model[page as usize];
                let op = DeviceAtomic::Exchange(u64::from(old.wrapping_add(value)));
                // SAFETY: as above.
                assert_eq!(unsafe { self.space.device_atomic(at, 4, op) }.unwrap(), u64::from(old));
                self.model[page as usize] = old.wrapping_add(value);
            }
            Op::Protect { first, count } => {
                let range = self.memory().part(first, count);
                self.memory().protect(range, MprotectFlags::READ);
                for page in first..first + count {
                    assert_eq!(self.memory().get(Self::offset(page)), self.model[page as usize]);
                }
                self.memory().protect(range, MprotectFlags::READ | MprotectFlags::WRITE);
            }
            Op::Relocate => {
                // The kernel moves one mapping at a time, and a mapping of which a device has part is several.
                let range = self.memory().range();
                let first = self.space.vma_at_or_after(range.start()).unwrap().unwrap();
                if first.range.contains_range(range) {
                    self.memory = self.memory.take().map(Memory::relocate);
                }
            }
            Op::Inject { region, what, nth } => {
                let injection = match what {
                    0 => Injection::none().allocation(Trigger::nth(nth)),
                    1 => Injection::none().pinned(Trigger::nth(nth), nth * 7),
                    _ => Injection::none(),
                };
                self.regions[region].inject(injection).unwrap();
            }
        }
        self.check_accounts();
    }

    fn migrate_in(&mut self, region: usize, first: u64, count: u64, windows: u8, atomicity: u8) {
        let range = self.memory().part(first, count);
        let windows = [Windows::Natural, Windows::Blocks(64 << 10), Windows::Blocks(MB2)][windows as usize];
        let atomicity = [Atomicity::Window, Atomicity::Range, Atomicity::BestEffort][atomicity as usize];
        let options = MigrateOptions::new().windows(windows).atomicity(atomicity);
        let id = self.regions[region].id();
        let before = self.space.device_bytes(range, Some(id)).unwrap();
        match self.space.migrate_to_devmem(&self.regions[region], range, &options) {
            Ok(migrated) => {
                assert_eq!(migrated.moved + migrated.already + migrated.refused, range.len(), "{migrated:?}");
            }
            // What was in the region before may have had to make room.
            Err(error) if atomicity == Atomicity::Range => {
                let after = self.space.device_bytes(range, Some(id)).unwrap();
                assert!(after <= before, "{error}: {before} before, {after} after");
            }
            Err(_) => {}
        }
    }

    /// What the placement says and what the regions account for is the same.
    fn check_accounts(&self) {
        for region in &self.regions {
            let usage = region.usage().unwrap();
            let there = self.space.device_bytes(self.memory().range(), Some(region.id())).unwrap();
            assert!(there <= usage.used, "{there} bytes in {usage:?}");
            assert_eq!(usage.used == 0, usage.windows == 0);
            if there == 0 {
                assert_eq!(usage.windows, 0, "a window without a page: {usage:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_are_what_a_plain_array_would_have(
        small in 8u64..64, large in 64u64..800, ops in prop::collection::vec(op(), 1..60)
    ) {
        let Some(space) = space() else { return Ok(()) };
        let regions = [small, large].map(|pages| VramRegion::new(&space, pages * page_size()).unwrap());
        let memory = Some(Memory::absent(PAGES * page_size()));
        let mut world = World { space, regions, memory, model: vec![0; PAGES as usize] };
        for op in &ops {
            world.run(op);
        }
        for page in 0..PAGES {
            assert_eq!(world.memory().get(World::offset(page)), world.model[page as usize], "page {page}");
        }
        // Dropping everything in any order loses nothing either.
    }
}
