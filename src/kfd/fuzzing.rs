//! A search for input that does harm: damage to input that is good, at random, for a while.

use std::cell::Cell;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// One damage to some bytes.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    Replace(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    /// A stretch again, somewhere else.
    Repeat(usize, usize, usize),
    Number(usize, u64),
}

impl Damage {
    /// `good` after all of them.
    pub(super) fn all(damages: &[Self], good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        damages.iter().for_each(|damage| damage.to(&mut bytes));
        bytes
    }

    fn to(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        let place = |at: usize| at % (len + 1);
        let stretch = |at: usize, count: usize| place(at)..(place(at) + count).min(len);
        match self {
            Self::Replace(at, byte) => {
                if let Some(old) = bytes.get_mut(place(*at)) {
                    *old = *byte;
                }
            }
            Self::Insert(at, more) => drop(bytes.splice(place(*at)..place(*at), more.iter().copied())),
            Self::Remove(at, count) => drop(bytes.drain(stretch(*at, *count))),
            Self::Repeat(at, count, to) => {
                let copy = bytes[stretch(*at, *count)].to_vec();
                drop(bytes.splice(place(*to)..place(*to), copy));
            }
            Self::Number(at, number) => {
                drop(bytes.splice(place(*at)..place(*at), number.to_string().into_bytes()));
            }
        }
    }
}

/// Up to a dozen damages, with bytes that have a meaning more often than others.
pub(super) fn damage(good: &[u8], alphabet: &'static [u8]) -> impl Strategy<Value = Vec<Damage>> {
    let at = 0..good.len();
    let byte = || prop_oneof![3 => proptest::sample::select(alphabet), 1 => any::<u8>()];
    let number = prop_oneof![Just(0), Just(u64::MAX), Just(u64::from(u32::MAX)), Just(1 << 63), any::<u64>()];
    let one = prop_oneof![
        (at.clone(), byte()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (at.clone(), vec(byte(), 0..8)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (at.clone(), 0usize..100).prop_map(|(at, count)| Damage::Remove(at, count)),
        (at.clone(), 0usize..200, at.clone()).prop_map(|(at, count, to)| Damage::Repeat(at, count, to)),
        (at, number).prop_map(|(at, number)| Damage::Number(at, number)),
    ];
    vec(one, 0..12)
}

/// Tries inputs, a few hundred unless `DRM_PAGEMAP_FUZZ_SECONDS` asks for more, and tells how many there were.
pub(super) fn search<S: Strategy>(
    what: &str,
    strategy: S,
    check: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    const CASES: u32 = 256;
    let seconds = std::env::var("DRM_PAGEMAP_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let limit = Duration::from_secs(seconds.unwrap_or(0));
    let start = Instant::now();
    let inputs = Cell::new(0u64);
    loop {
        // A runner does a number of cases and no more.
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(CASES) });
        let counted = |input| {
            inputs.set(inputs.get() + 1);
            check(input)
        };
        runner.run(&strategy, counted).unwrap_or_else(|failure| panic!("{failure}"));
        if start.elapsed() >= limit {
            break;
        }
    }
    println!("{what}: {} inputs", inputs.get());
}
