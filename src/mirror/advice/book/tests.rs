//! What the driver holds is compared, after each step, with a plain list of what was said.

use std::cell::{Cell, RefCell};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::{Kinds, Settings};
use super::*;
use crate::error::{Error, ErrorKind};
use crate::location::Location;
use crate::range::page_size;
use crate::xe::AtomicMode;

const PAGES: u64 = 64;
const ATOMICS: [AtomicMode; 3] = [AtomicMode::Device, AtomicMode::Global, AtomicMode::Cpu];

fn pages(first: u64, count: u64) -> PageRange {
    PageRange::new((1000 + first) * page_size(), count * page_size()).unwrap()
}

/// The driver's memory: what each page was told last.
struct Driver {
    pages: RefCell<Vec<Settings>>,
    /// Calls that `restore` made.
    restored: RefCell<Vec<(PageRange, Kinds)>>,
    /// The next advice is taken in part only.
    fails: Cell<bool>,
}

impl Driver {
    fn new() -> Self {
        Self {
            pages: RefCell::new(vec![Settings::NOTHING; PAGES as usize]),
            restored: RefCell::default(),
            fails: Cell::new(false),
        }
    }

    fn change(&self, range: PageRange, change: impl Fn(&mut Settings)) {
        let first = (range.start() / page_size() - 1000) as usize;
        self.pages.borrow_mut()[first..first + range.pages() as usize].iter_mut().for_each(change);
    }

    fn restored_since(&self) -> Vec<(PageRange, Kinds)> {
        self.restored.take()
    }
}

impl Advisee for Driver {
    fn advise(&self, range: PageRange, settings: &Settings) -> Result<()> {
        if settings.preferred.is_some() {
            self.change(range, |page| page.preferred.clone_from(&settings.preferred));
        }
        if self.fails.take() {
            return Err(Error::new(ErrorKind::Unsupported, "advise"));
        }
        if settings.atomics.is_some() {
            self.change(range, |page| page.atomics = settings.atomics);
        }
        if settings.granularity.is_some() {
            self.change(range, |page| page.granularity = settings.granularity);
        }
        Ok(())
    }

    fn restore(&self, range: PageRange, was: Kinds, now: &Settings) -> Result<()> {
        self.restored.borrow_mut().push((range, was));
        self.change(range, |page| {
            if was.contains(Kinds::PREFERRED) {
                page.preferred.clone_from(&now.preferred);
            }
            if was.contains(Kinds::ATOMICS) {
                page.atomics = now.atomics;
            }
            if was.contains(Kinds::GRANULARITY) {
                page.granularity = now.granularity;
            }
        });
        Ok(())
    }
}

/// What was said and not taken back, oldest first.
#[derive(Default)]
struct Said(Vec<(LayerId, PageRange, Settings)>);

impl Said {
    fn of_page(&self, page: u64) -> Settings {
        let here = pages(page, 1);
        let mut now = Settings::NOTHING;
        for (_, _, settings) in self.0.iter().filter(|(_, range, _)| range.contains_range(here)) {
            now.preferred = settings.preferred.clone().or(now.preferred);
            now.atomics = settings.atomics.or(now.atomics);
            now.granularity = settings.granularity.or(now.granularity);
        }
        now
    }

    fn all(&self) -> Vec<Settings> {
        (0..PAGES).map(|page| self.of_page(page)).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Give { range: PageRange, settings: Settings, fails: bool },
    TakeBack(prop::sample::Index),
    Keep(prop::sample::Index),
    Reset(PageRange),
    During(PageRange, Settings),
}

fn ranges() -> impl Strategy<Value = PageRange> {
    // Of few sizes, so that one often covers another, and of all.
    let sizes = prop_oneof![Just(1), Just(8), Just(16), 0..PAGES];
    (0..PAGES, sizes).prop_map(|(first, count)| pages(first, count.min(PAGES - first)))
}

fn settings() -> impl Strategy<Value = Settings> {
    let kinds = (any::<bool>(), option::of(0..ATOMICS.len()), option::of(12..20u32));
    kinds.prop_map(|(preferred, atomics, granularity)| Settings {
        preferred: preferred.then_some(Location::System),
        atomics: atomics.map(|index| ATOMICS[index]),
        granularity: granularity.map(|log2| 1 << log2),
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let give = (ranges(), settings(), prop::bool::weighted(0.1));
    prop_oneof![
        6 => give.prop_map(|(range, settings, fails)| Step::Give { range, settings, fails }),
        4 => any::<prop::sample::Index>().prop_map(Step::TakeBack),
        2 => any::<prop::sample::Index>().prop_map(Step::Keep),
        1 => ranges().prop_map(Step::Reset),
        1 => (ranges(), settings()).prop_map(|(range, settings)| Step::During(range, settings)),
    ]
}

proptest! {
    #[test]
    fn the_driver_holds_what_the_guards_say_together(steps in vec(steps(), 1..60)) {
        let (book, driver, mut said) = (AdviceBook::default(), Driver::new(), Said::default());
        let mut guards: Vec<(LayerId, PageRange)> = Vec::new();
        for step in steps {
            match step {
                Step::Give { range, settings, fails } => {
                    driver.fails.set(fails && !range.is_empty());
                    match book.give(&driver, range, settings.clone()) {
                        Ok(Some(id)) => {
                            guards.push((id, range));
                            said.0.push((id, range, settings));
                        }
                        Ok(None) => prop_assert!(range.is_empty()),
                        Err(_) => prop_assert!(fails),
                    }
                }
                Step::TakeBack(index) if !guards.is_empty() => {
                    let (id, range) = guards.remove(index.index(guards.len()));
                    book.take_back(&driver, range, id).unwrap();
                    said.0.retain(|(other, ..)| *other != id);
                }
                Step::Keep(index) if !guards.is_empty() => {
                    let (id, range) = guards.remove(index.index(guards.len()));
                    book.keep(range, id);
                }
                Step::TakeBack(_) | Step::Keep(_) => {}
                Step::Reset(range) => {
                    book.reset(&driver, range).unwrap();
                    said.0.retain(|(_, other, _)| !range.contains_range(*other));
                }
                Step::During(range, settings) => {
                    if !range.is_empty() {
                        book.during(&driver, range, &settings, || Ok(())).unwrap();
                    }
                }
            }
            prop_assert_eq!(&*driver.pages.borrow(), &said.all());
        }
    }
}

fn atomics(mode: AtomicMode) -> Settings {
    Settings { atomics: Some(mode), ..Settings::NOTHING }
}

#[test]
fn what_stayed_hidden_is_not_told_again() {
    let (book, driver) = (AdviceBook::default(), Driver::new());
    let give = |range, settings| book.give(&driver, range, settings).unwrap().unwrap();
    let lower = give(pages(0, 8), atomics(AtomicMode::Device));
    let upper = give(pages(2, 4), atomics(AtomicMode::Global));
    let other = give(pages(3, 1), Settings { granularity: Some(1 << 16), ..Settings::NOTHING });
    book.take_back(&driver, pages(0, 8), lower).unwrap();
    let beside = [(pages(0, 2), Kinds::ATOMICS), (pages(6, 2), Kinds::ATOMICS)];
    assert_eq!(driver.restored_since(), beside, "around the newer advice alone");
    book.take_back(&driver, pages(2, 4), upper).unwrap();
    let parts = driver.restored_since();
    assert_eq!(
        parts.iter().map(|(range, _)| range.pages()).sum::<u64>(),
        4,
        "advice of another kind hides nothing"
    );
    book.take_back(&driver, pages(3, 1), other).unwrap();
    assert_eq!(driver.restored_since(), [(pages(3, 1), Kinds::GRANULARITY)]);
}

#[test]
fn advice_that_is_kept_again_and_again_is_remembered_once() {
    let (book, driver) = (AdviceBook::default(), Driver::new());
    for round in 0..100 {
        let mode = ATOMICS[round % ATOMICS.len()];
        for (range, settings) in [(pages(0, 8), atomics(mode)), (pages(2, 2), atomics(AtomicMode::Cpu))] {
            let id = book.give(&driver, range, settings).unwrap().unwrap();
            book.keep(range, id);
        }
    }
    assert_eq!(book.lock().len(), 2, "one for all of the pages, and one on top of it");
    // A guard that is older than what was kept meanwhile.
    let older = book.give(&driver, pages(1, 1), atomics(AtomicMode::Device)).unwrap().unwrap();
    let newer = book.give(&driver, pages(0, 8), atomics(AtomicMode::Global)).unwrap().unwrap();
    book.keep(pages(0, 8), newer);
    assert_eq!(book.lock().len(), 2, "what is kept, and the guard");
    book.keep(pages(1, 1), older);
    assert_eq!(book.lock().len(), 1);
}

#[test]
fn no_pages_are_never_told_about() {
    let (book, driver) = (AdviceBook::default(), Driver::new());
    driver.fails.set(true);
    assert_eq!(book.give(&driver, pages(5, 0), atomics(AtomicMode::Cpu)).unwrap(), None);
    assert!(book.lock().len() == 0 && driver.fails.get());
}
