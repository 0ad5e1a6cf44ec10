//! Random calls against a model that knows nothing of ranges: a list of pages, each with its attributes.

use proptest::prelude::*;

use super::migration::Raw;
use super::*;

const PAGES: u64 = 24;
const OTHER: u32 = 0x1111;
const IDS: [u32; 2] = [GPU, OTHER];

#[derive(Clone, Debug)]
enum Step {
    Set { start: u64, end: u64, attrs: Vec<(u32, u32)>, race: bool },
    Get { start: u64, end: u64 },
    MapOver { start: u64, end: u64 },
    Unmap { start: u64, end: u64 },
    Discard { start: u64, end: u64 },
    Touch { page: u64, value: u8 },
    Xnack(bool),
}

fn part() -> impl Strategy<Value = (u64, u64)> {
    (0..PAGES, 1..=PAGES).prop_map(|(a, b)| (a.min(b - 1), (a + 1).max(b)))
}

fn location() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(GPU), Just(OTHER)]
}

fn attr() -> impl Strategy<Value = (u32, u32)> {
    let gpu = || prop_oneof![Just(GPU), Just(OTHER)];
    let flags = || prop_oneof![0u32..0x40, Just(0x8000_0000), Just(0x80)];
    prop_oneof![
        prop_oneof![location(), Just(UNDEF)].prop_map(|value| (PREFERRED, value)),
        location().prop_map(|value| (PREFETCH, value)),
        gpu().prop_map(|value| (ACCESS, value)),
        gpu().prop_map(|value| (IN_PLACE, value)),
        gpu().prop_map(|value| (NO_ACCESS, value)),
        flags().prop_map(|value| (SET_FLAGS, value)),
        flags().prop_map(|value| (CLR_FLAGS, value)),
        (0u32..70).prop_map(|value| (GRANULARITY, value)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let attrs = || proptest::collection::vec(attr(), 0..5);
    prop_oneof![
        6 => (part(), attrs(), proptest::bool::weighted(0.1))
            .prop_map(|((start, end), attrs, race)| Step::Set { start, end, attrs, race }),
        3 => part().prop_map(|(start, end)| Step::Get { start, end }),
        1 => part().prop_map(|(start, end)| Step::MapOver { start, end }),
        1 => part().prop_map(|(start, end)| Step::Unmap { start, end }),
        1 => part().prop_map(|(start, end)| Step::Discard { start, end }),
        2 => (0..PAGES, any::<u8>()).prop_map(|(page, value)| Step::Touch { page, value }),
        1 => any::<bool>().prop_map(Step::Xnack),
    ]
}

/// The attributes of one page.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Page {
    preferred: u32,
    prefetch: u32,
    flags: u32,
    granularity: u32,
    /// Of each GPU: 2 access, 3 in place, 4 none, as the attribute types.
    access: [u32; 2],
}

impl Page {
    fn new(xnack: bool) -> Self {
        let access = if xnack { ACCESS } else { NO_ACCESS };
        Self { preferred: UNDEF, prefetch: UNDEF, flags: 3, granularity: 9, access: [access; 2] }
    }

    fn set(&mut self, (kind, value): (u32, u32)) {
        match kind {
            PREFERRED => self.preferred = value,
            PREFETCH => self.prefetch = value,
            SET_FLAGS => self.flags |= value,
            CLR_FLAGS => self.flags &= !value,
            GRANULARITY => self.granularity = value.min(63),
            access => self.access[IDS.iter().position(|&id| id == value).unwrap()] = access,
        }
    }
}

/// What a query of everything answers, from the pages that are registered.
fn expected(pages: &[Option<Page>], xnack: bool) -> Vec<(u32, u32)> {
    let registered: Vec<Page> = pages.iter().flatten().copied().collect();
    let registered = if registered.is_empty() { vec![Page::new(xnack)] } else { registered };
    let same = |of: fn(&Page) -> u32| {
        let first = of(&registered[0]);
        if registered.iter().all(|page| of(page) == first) { first } else { UNDEF }
    };
    let access = |gpu: usize| {
        let first = registered[0].access[gpu];
        if registered.iter().all(|page| page.access[gpu] == first) { first } else { NO_ACCESS }
    };
    vec![
        (PREFERRED, same(|page| page.preferred)),
        (PREFETCH, same(|page| page.prefetch)),
        (access(0), GPU),
        (access(1), OTHER),
        (SET_FLAGS, registered.iter().fold(u32::MAX, |all, page| all & page.flags)),
        (CLR_FLAGS, !registered.iter().fold(0, |any, page| any | page.flags)),
        (GRANULARITY, registered.iter().map(|page| page.granularity).min().unwrap()),
    ]
}

struct World {
    bench: Bench,
    memory: Raw,
    pages: Vec<Option<Page>>,
    bytes: Vec<u8>,
    mapped: Vec<bool>,
    xnack: bool,
}

impl World {
    fn new(hive: u64) -> Self {
        let second = GpuConfig { device: 1, render_minor: 129, ..GpuConfig::mi200(OTHER, 64 << 20) };
        let mut config = KfdConfig::with_gpus(vec![GpuConfig::mi200(GPU, 64 << 20), second]);
        config.gpus.iter_mut().for_each(|gpu| gpu.hive_id = hive);
        let (pages, bytes) = (vec![None; PAGES as usize], vec![0; PAGES as usize]);
        let mapped = vec![true; PAGES as usize];
        Self { bench: Bench::with(config), memory: Raw::new(PAGES), pages, bytes, mapped, xnack: false }
    }

    fn byte(&self, page: u64) -> *mut u8 {
        (self.memory.0.start() + page * page_size()) as *mut u8
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Set { start, end, ref attrs, race } => {
                self.bench.kfd.faults().mapping_races(u32::from(race));
                let result = self.bench.set(self.memory.part(start, end), attrs);
                self.bench.kfd.faults().mapping_races(0);
                if !self.is_mapped(start, end) {
                    assert_eq!(result, Err(Errno::EFAULT), "nothing is set where a part is a hole");
                    return;
                }
                assert!(result == Ok(()) || (race && result == Err(Errno::EAGAIN)), "{result:?}");
                for page in &mut self.pages[start as usize..end as usize] {
                    let page = page.get_or_insert(Page::new(self.xnack));
                    attrs.iter().for_each(|&attr| page.set(attr));
                }
            }
            Step::Get { start, end } => self.check(start, end),
            Step::MapOver { start, end } => {
                self.memory.map_again(start, end);
                self.pages[start as usize..end as usize].fill(None);
                self.bytes[start as usize..end as usize].fill(0);
                self.mapped[start as usize..end as usize].fill(true);
            }
            Step::Unmap { start, end } => {
                self.memory.unmap(start, end);
                self.pages[start as usize..end as usize].fill(None);
                self.bytes[start as usize..end as usize].fill(0);
                self.mapped[start as usize..end as usize].fill(false);
            }
            Step::Discard { start, end } if !self.is_mapped(start, end) => {}
            Step::Touch { page, .. } if !self.is_mapped(page, page + 1) => {}
            Step::Discard { start, end } => {
                let part = self.memory.part(start, end);
                let advice = rustix::mm::Advice::LinuxDontNeed;
                // SAFETY: the memory is the test's own, reached through raw pointers only.
                unsafe { rustix::mm::madvise(part.start() as *mut _, part.len() as usize, advice) }.unwrap();
                self.bytes[start as usize..end as usize].fill(0);
            }
            Step::Touch { page, value } => {
                // SAFETY: the memory is the test's own.
                unsafe { self.byte(page).write_volatile(value) };
                self.bytes[page as usize] = value;
            }
            Step::Xnack(on) => {
                self.bench.call(&mut abi::SetXnackMode { xnack_enabled: on.into() }).unwrap();
                self.xnack = on;
            }
        }
    }

    fn is_mapped(&self, start: u64, end: u64) -> bool {
        self.mapped[start as usize..end as usize].iter().all(|mapped| *mapped)
    }

    fn check(&self, start: u64, end: u64) {
        let asked = [
            (PREFERRED, 0),
            (PREFETCH, 0),
            (ACCESS, GPU),
            (ACCESS, OTHER),
            (SET_FLAGS, 0),
            (CLR_FLAGS, 0),
            (GRANULARITY, 0),
        ];
        let answer = self.bench.get(self.memory.part(start, end), &asked);
        if !self.is_mapped(start, end) {
            assert_eq!(answer, Err(Errno::EFAULT), "{start}..{end}");
            return;
        }
        let answer = answer.unwrap();
        assert_eq!(answer, expected(&self.pages[start as usize..end as usize], self.xnack), "{start}..{end}");
    }

    /// What must be true at any time of the driver's own books.
    fn check_books(&self) {
        let state = self.bench.kfd.primary.lock();
        let mut end = 0;
        for range in state.ranges.iter() {
            assert!(range.pages.start() >= end && !range.pages.is_empty());
            end = range.pages.end();
            assert!(range.access.and(range.in_place).is_empty(), "{range:?}");
            assert_eq!(range.vram.is_some(), range.actual != 0, "{range:?}");
        }
        let all = self.memory.0;
        let pages = |runs: Vec<PageRange>| -> Vec<u64> {
            runs.iter().flat_map(|run| (run.start()..run.end()).step_by(page_size() as usize)).collect()
        };
        assert_eq!(pages(state.resident.within(all)), pages(self.bench.kfd.shared.memory.in_vram(all)));
        let registered: u64 = state.ranges.iter().map(|range| range.pages.pages()).sum();
        assert_eq!(registered as usize, self.pages.iter().flatten().count());
    }

    /// How many pages are in ranges that by the driver's count of pages, which discarding and splitting put wrong, are where `of`
    /// says.
    fn pages_counted(&self, of: impl Fn(u32) -> bool) -> u64 {
        let state = self.bench.kfd.primary.lock();
        state.ranges.iter().filter(|range| of(range.actual)).map(|range| range.pages.pages()).sum()
    }

    /// Moves everything to a GPU and back, and looks at every byte.
    fn finish(&mut self) {
        for page in 0..PAGES {
            if !self.is_mapped(page, page + 1) {
                self.run(&Step::MapOver { start: page, end: page + 1 });
            }
        }
        let all = self.memory.0;
        let in_vram = || self.bench.kfd.shared.memory.in_vram(all).iter().map(PageRange::pages).sum::<u64>();
        let alone = [(NO_ACCESS, OTHER), (ACCESS, GPU), (PREFETCH, 0)];
        self.bench.set(all, &alone).unwrap();
        // Those that lost their last mapping by it skipped the rest.
        self.bench.set(all, &[(PREFETCH, 0)]).unwrap();
        // What the driver cannot get out of the other GPU's VRAM it does not move to this one's.
        let moves = PAGES - self.pages_counted(|actual| actual == OTHER);
        // Other tests fork, which holds pages for a moment.
        for _ in 0..100 {
            self.bench.set(all, &[(PREFETCH, GPU)]).unwrap();
            if in_vram() == moves {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(in_vram(), moves, "nothing keeps these pages from moving");
        self.bench.set(all, &[(PREFETCH, 0)]).unwrap();
        assert!(in_vram() <= self.pages_counted(|actual| actual == 0), "only what the driver forgot stays");
        for (page, &byte) in (0..).zip(&self.bytes) {
            // SAFETY: the memory is the test's own.
            assert_eq!(unsafe { self.byte(page).read_volatile() }, byte, "page {page}");
        }
    }
}

/// A few, unless `DRM_PAGEMAP_MODEL_CASES` asks for more.
fn cases() -> ProptestConfig {
    let asked = std::env::var("DRM_PAGEMAP_MODEL_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig::with_cases(asked.unwrap_or(32))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn answers_as_a_list_of_pages_would(
        steps in proptest::collection::vec(step(), 1..60),
        hive in prop_oneof![Just(0u64), Just(7)],
    ) {
        let mut world = World::new(hive);
        for step in &steps {
            world.run(step);
            // A query makes the driver catch up with what the process did.
            world.check(0, PAGES);
            world.check_books();
        }
        for page in 0..PAGES {
            world.check(page, page + 1);
        }
        world.finish();
        assert!(world.bench.kfd.hazards().iter().all(|hazard| hazard.contains("never ends")));
    }
}
