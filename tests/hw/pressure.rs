//! More data than VRAM, and CPU threads that write while pages move: nothing is lost.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drm_pagemap::range::SIZE_2M;
use drm_pagemap::{Buffer, Error, ErrorKind, Location, Outcome, PageRange};

use crate::harness::{Context, Need, Stop, Test, TestResult, overcommitted};
use crate::placement::{device_bytes, word_at};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "pressure/more_data_than_vram",
        needs: &[Need::Vram, Need::Overcommit],
        run: more_data_than_vram,
    },
    Test { name: "pressure/writers_lose_no_update", needs: &[Need::Vram], run: writers_lose_no_update },
    Test {
        name: "pressure/writers_and_eviction",
        needs: &[Need::Vram, Need::Overcommit, Need::TouchedEviction],
        run: writers_and_eviction,
    },
    Test {
        name: "pressure/writers_beside_eviction",
        needs: &[Need::Vram, Need::Overcommit],
        run: writers_beside_eviction,
    },
];

/// How long the writers write; a stress run sets `HW_STRESS_SECONDS`.
fn duration() -> Duration {
    let seconds = std::env::var("HW_STRESS_SECONDS").ok().and_then(|text| text.parse().ok());
    seconds.map_or(Duration::from_millis(700), Duration::from_secs)
}

/// Words between those that are written and checked: a few in each page, since data here is larger than VRAM.
const SPARSE: usize = 64;

fn more_data_than_vram(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let vram = context.gpu().vram_regions()[0].size();
    let mut data = Buffer::<u64>::zeroed(overcommitted(context.gpu()) as usize / 8)?;
    for index in (0..data.len()).step_by(SPARSE) {
        data[index] = word_at(index);
    }
    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    context.picture("what found room in VRAM", data.range())?;
    let resident = device_bytes(data.range())?;
    assert!(resident <= vram, "{resident} bytes in {vram} bytes of VRAM");
    assert!(resident >= vram / 2, "most of VRAM is used: {outcome}");
    assert!(!outcome.is_complete() && outcome.not_moved() >= vram / 2, "{outcome}");
    assert!(outcome.retry_useful(), "room may come: {outcome}");
    let wrong = (0..data.len()).step_by(SPARSE).find(|&index| data[index] != word_at(index));
    assert_eq!(wrong, None, "first wrong word");
    Ok(())
}

const WRITERS: usize = 2;
/// Words between those that writers count in: one in each page.
const STRIDE: usize = 512;

fn shared_words(data: &Buffer<u64>) -> &[AtomicU64] {
    // SAFETY: `AtomicU64` has the layout of `u64`, and for the life of this slice the buffer is reached through it alone.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), data.len()) }
}

/// Threads that count in words of `data`, one stripe each, while `migrate` runs again and again. Returns what each word must
/// hold at the end.
pub(crate) fn count_while(data: &Buffer<u64>, mut migrate: impl FnMut() -> TestResult) -> TestResult {
    let words = shared_words(data);
    let stop = AtomicBool::new(false);
    let counts: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut rounds = 0;
                    while !stop.load(Ordering::Relaxed) {
                        for word in words.iter().skip(writer).step_by(STRIDE) {
                            // Not an atomic addition: an update lost between the load and the store must show.
                            word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                        }
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        let started = Instant::now();
        let mut result = Ok(());
        while started.elapsed() < duration() && result.is_ok() {
            result = migrate();
        }
        stop.store(true, Ordering::Relaxed);
        let counts = writers.into_iter().map(|writer| writer.join().expect("a writer ends")).collect();
        result.map(|()| counts)
    })?;
    for (writer, rounds) in counts.into_iter().enumerate() {
        assert!(rounds > 0, "writer {writer} made no round");
        for (index, word) in words.iter().enumerate().skip(writer).step_by(STRIDE) {
            assert_eq!(word.load(Ordering::Relaxed), rounds, "word {index} of writer {writer}");
        }
    }
    Ok(())
}

/// On a slow machine the driver may give up pages that the writers never leave alone, for now (xe: after a second, `EBUSY`).
pub(crate) fn unless_too_busy(result: Result<Outcome, Error>) -> TestResult {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::TryAgain) => Ok(()),
        other => {
            let _ = other?;
            Ok(())
        }
    }
}

fn writers_lose_no_update(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = Buffer::<u64>::zeroed((8 << 20) / 8)?;
    let vram = context.gpu().vram();
    count_while(&data, || {
        unless_too_busy(mirror.prefetch(&data).to(vram.clone()).run())?;
        unless_too_busy(mirror.prefetch(&data).to(Location::System).run())
    })
}

fn writers_and_eviction(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = Buffer::<u64>::zeroed(overcommitted(context.gpu()) as usize / 8)?;
    let vram = context.gpu().vram();
    let third = data.len() / 3;
    let mut turn = 0;
    count_while(&data, || {
        turn = (turn + 1) % 3;
        unless_too_busy(mirror.prefetch(&data[turn * third..(turn + 1) * third]).to(vram.clone()).run())
    })
}

/// As above, but the writers keep to the third that is on its way into VRAM. What the driver evicts for it nobody touches.
fn writers_beside_eviction(context: &Context) -> TestResult {
    const THIRDS: usize = 3;
    const TURNS: usize = THIRDS + 1;
    let mirror = context.gpu().mirror()?;
    let vram = context.gpu().vram();
    let data = Buffer::<u64>::zeroed(overcommitted(context.gpu()) as usize / 8)?;
    let words = shared_words(&data);
    let block = SIZE_2M as usize / 8;
    let third = data.len() / block / THIRDS * block;
    let bytes = third as u64 * 8;
    let part = |turn: usize| {
        let start = data.range().start() + (turn % THIRDS) as u64 * bytes;
        PageRange::new(start, bytes).expect("within the buffer")
    };
    // The turn whose part is written, and how often each part was, by all writers together.
    let turn = RwLock::new(0);
    let rounds: [[AtomicU64; WRITERS]; THIRDS] = Default::default();
    let stop = AtomicBool::new(false);
    let evicted = std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (turn, rounds, stop) = (&turn, &rounds, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let turn = turn.read().expect("no writer panics");
                    let first = *turn % THIRDS * third;
                    for word in words[first..first + third].iter().skip(writer).step_by(STRIDE) {
                        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    }
                    rounds[*turn % THIRDS][writer].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let evict = || -> Result<u64, Stop> {
            let mut evicted = 0;
            let started = Instant::now();
            for next in (1..).take_while(|&next| next <= TURNS || started.elapsed() < duration()) {
                {
                    let mut turn = turn.write().expect("no writer panics");
                    // What was written last stays in VRAM. Of what is to be written nothing is old there: the driver evicts what
                    // came first, and that is to be none of it.
                    unless_too_busy(mirror.prefetch_range(part(*turn)).to(vram.clone()).run())?;
                    unless_too_busy(mirror.prefetch_range(part(next)).to(Location::System).run())?;
                    *turn = next;
                }
                let others = || Ok::<_, Error>(device_bytes(part(next + 1))? + device_bytes(part(next + 2))?);
                let before = others()?;
                unless_too_busy(mirror.prefetch_range(part(next)).to(vram.clone()).run())?;
                evicted += before.saturating_sub(others()?);
            }
            Ok(evicted)
        };
        let evicted = evict();
        stop.store(true, Ordering::Relaxed);
        evicted
    })?;
    assert!(evicted > 0, "more than fits, and nothing was evicted");
    for (index, word) in words.iter().take(THIRDS * third).enumerate() {
        let writer = index % third % STRIDE;
        let expected =
            if writer < WRITERS { rounds[index / third][writer].load(Ordering::Relaxed) } else { 0 };
        assert_eq!(word.load(Ordering::Relaxed), expected, "word {index}");
    }
    Ok(())
}
