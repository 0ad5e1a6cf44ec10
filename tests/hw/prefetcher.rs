//! The background prefetcher on the driver: the same result, intact data, and nothing left behind.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drm_pagemap::prefetcher::Prepare;
use drm_pagemap::xe::{Vm, VmFlags};
use drm_pagemap::{Buffer, Device, ErrorKind, Mirror, Prefetcher};

use crate::gpu_store::store_u32;
use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, fill, filled};
use crate::pressure::{count_while, unless_too_busy};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "prefetcher/the_result_is_the_same", needs: &[Need::Vram], run: the_result_is_the_same },
    Test {
        name: "prefetcher/helper_spaces_give_the_same_result",
        needs: &[Need::Vram, Need::Xe],
        run: helper_spaces_give_the_same_result,
    },
    Test {
        name: "prefetcher/helper_spaces_need_xe",
        needs: &[Need::Vram, Need::Kfd],
        run: helper_spaces_need_xe,
    },
    Test { name: "prefetcher/writers_lose_no_update", needs: &[Need::Vram], run: writers_lose_no_update },
    Test {
        name: "prefetcher/cancel_and_drop_leave_nothing",
        needs: &[Need::Vram],
        run: cancel_and_drop_leave_nothing,
    },
    Test { name: "prefetcher/prepared_memory_moves", needs: &[Need::Vram], run: prepared_memory_moves },
];

/// A hang guard.
const PATIENCE: Duration = Duration::from_secs(120);

const MIB: u64 = 1 << 20;

const THREADS: usize = 3;

/// Several threads, each with an address space of its own where the driver has such.
fn prefetcher(context: &Context, mirror: &Arc<Mirror>) -> Result<Prefetcher, drm_pagemap::Error> {
    let helper_spaces = matches!(context.gpu().device(), Device::Xe(_));
    Prefetcher::builder(mirror.clone()).threads(THREADS).chunk(2 * MIB).helper_spaces(helper_spaces).build()
}

fn the_result_is_the_same(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let (data, plain) = (filled(12 << 20)?, filled(12 << 20)?);
    let prefetcher = prefetcher(context, &mirror)?;
    let expected = mirror.prefetch(&plain).to(context.gpu().vram()).run()?;
    let pending = prefetcher.prefetch(&data).to(context.gpu().vram()).submit()?;
    let outcome = pending.wait()?;
    assert_eq!(outcome, expected);
    assert!(outcome.is_complete(), "{outcome}");
    assert_eq!(device_bytes(data.range())?, data.range().len());
    assert_eq!(prefetcher.stats().chunks, 6);
    let expected = mirror.prefetch(&plain).to_system().run()?;
    let back = prefetcher.prefetch(&data).to_system().submit()?.wait()?;
    assert_eq!(back, expected);
    assert_intact(&data);
    assert_intact(&plain);
    Ok(())
}

fn helper_spaces_give_the_same_result(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let builder = Prefetcher::builder(mirror.clone()).threads(2).chunk(2 * MIB);
    let prefetcher = builder.helper_spaces(true).build()?;
    let mut data = filled(8 << 20)?;
    let outcome = prefetcher.prefetch(&data).to(context.gpu().vram()).submit()?.wait()?;
    assert_eq!((outcome.moved(), outcome.not_moved()), (8 << 20, 0), "{outcome}");
    let again = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_eq!(again.already_there(), 8 << 20, "the user's space finds it there: {again}");
    // The GPU reaches it through the user's address space.
    let word = data.range().start() + 3 * MIB;
    store_u32(mirror.vm().expect("a mirror on xe has a VM"), word, 0x5eed)?;
    assert_eq!(data[3 * MIB as usize / 8] as u32, 0x5eed);
    fill(&mut data);
    drop(prefetcher);
    let again = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert!(again.is_complete(), "the helpers are gone: {again}");
    assert_intact(&data);
    Ok(())
}

fn helper_spaces_need_xe(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let error = Prefetcher::builder(mirror).helper_spaces(true).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    Ok(())
}

fn writers_lose_no_update(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let prefetcher = prefetcher(context, &mirror)?;
    let data = Buffer::<u64>::zeroed((8 << 20) / 8)?;
    count_while(&data, || {
        let there = prefetcher.prefetch(&data).to(context.gpu().vram()).submit()?;
        let back = prefetcher.prefetch(&data).to_system().submit()?;
        unless_too_busy(there.wait())?;
        unless_too_busy(back.wait())
    })
}

/// What the process has: descriptors, threads of prefetchers, mappings.
fn holdings() -> (usize, usize, usize) {
    let entries = |directory| std::fs::read_dir(directory).expect("/proc is mounted").flatten();
    // A thread that was joined is on the kernel's list for a moment yet.
    let deadline = Instant::now() + Duration::from_secs(10);
    while entries("/proc/self/task").any(|task| is_prefetch_thread(&task)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let threads = entries("/proc/self/task").filter(is_prefetch_thread).count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted").lines().count();
    (entries("/proc/self/fd").count(), threads, maps)
}

/// A simulated device starts and ends threads of its own, which do not count.
fn is_prefetch_thread(task: &std::fs::DirEntry) -> bool {
    std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("drm-prefetch"))
}

/// The numbers that the driver gives to the next VMs of the open file, the lowest that are free: one more than a prefetcher has
/// helper spaces, so that a VM that any of them leaves behind takes one of these.
fn next_vms(context: &Context) -> Result<Vec<u32>, drm_pagemap::Error> {
    let Device::Xe(device) = context.gpu().device() else { return Ok(Vec::new()) };
    let vms = (0..=THREADS).map(|_| Vm::create(device, VmFlags::SVM)).collect::<Result<Vec<_>, _>>()?;
    Ok(vms.iter().map(Vm::id).collect())
}

/// How a prefetcher ends while it has work.
#[derive(Clone, Copy, Debug)]
enum End {
    Cancelled,
    Dropped,
}

/// One life of a prefetcher, which ends after `moment` chunks.
fn life(context: &Context, mirror: &Arc<Mirror>, data: &[u64], moment: u64, end: End) -> TestResult {
    let prefetcher = prefetcher(context, mirror)?;
    let chunks = Arc::new(AtomicU64::new(0));
    let hear = {
        let chunks = chunks.clone();
        move |_| {
            chunks.fetch_add(1, Ordering::Relaxed);
            ControlFlow::Continue(())
        }
    };
    let pending = prefetcher.prefetch(data).to(context.gpu().vram()).on_progress(hear).submit()?;
    let queued = prefetcher.prefetch(data).to_system().submit()?.cancel_on_drop();
    while chunks.load(Ordering::Relaxed) < moment && !pending.is_done() {
        // Not `yield_now`: a waiting thread must not take one of two emulated processors from those that work.
        std::thread::sleep(Duration::from_micros(50));
    }
    match end {
        End::Dropped => {
            drop(prefetcher);
            assert!(pending.is_done() && queued.is_done(), "nothing goes on without the prefetcher");
        }
        End::Cancelled => {
            pending.cancel();
            drop(queued);
            assert!(prefetcher.wait_idle_timeout(PATIENCE)?, "what was cancelled ends");
        }
    }
    match pending.wait() {
        // The request back may overtake it.
        Ok(outcome) => assert!(outcome.is_observed(), "{outcome}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
    }
    Ok(())
}

fn cancel_and_drop_leave_nothing(context: &Context) -> TestResult {
    const CHUNKS: u64 = 4;
    let mirror = Arc::new(context.gpu().mirror()?);
    let data = filled((CHUNKS * 2 * MIB) as usize)?;
    // In each round another end at each moment, so that what leaks at a single one adds up.
    let lives = |rounds: std::ops::Range<u64>| {
        let end = |odd: u64| if odd == 0 { End::Dropped } else { End::Cancelled };
        rounds.flat_map(move |round| (0..=CHUNKS).map(move |moment| (moment, end((moment + round) % 2))))
    };
    // The first lives make what is made once.
    for (moment, end) in lives(0..2) {
        life(context, &mirror, &data, moment, end)?;
    }
    let holdings = || -> Result<_, drm_pagemap::Error> {
        // A simulated device splits mappings that are in its memory.
        let _ = mirror.prefetch(&data).to_system().run()?;
        Ok(holdings())
    };
    let (files, threads, maps) = holdings()?;
    assert_eq!(threads, 0, "a dropped prefetcher has no threads");
    let vms = next_vms(context)?;
    // A mirror keeps what its threads look at pages with, once for each that ever did so at the same time; the C library keeps
    // stacks and arenas. Less than what one moment leaks in all rounds.
    const KEPT: usize = 3;
    const ROUNDS: u64 = 8;
    for (moment, end) in lives(0..ROUNDS) {
        life(context, &mirror, &data, moment, end)?;
        assert_eq!(next_vms(context)?, vms, "address spaces, {end:?} after {moment} chunks");
        let now = holdings()?;
        assert_eq!(now.1, threads, "threads, {end:?} after {moment} chunks");
        assert!(now.0 <= files + KEPT, "descriptors grew from {files} to {}", now.0);
        assert!(now.2 <= maps + KEPT, "mappings grew from {maps} to {}", now.2);
    }
    assert_intact(&data);
    Ok(())
}

fn prepared_memory_moves(context: &Context) -> TestResult {
    let mirror = Arc::new(context.gpu().mirror()?);
    let prefetcher = prefetcher(context, &mirror)?;
    for prepare in [Prepare::Populate, Prepare::HugePages] {
        let mut data = Buffer::<u64>::zeroed((4 << 20) / 8)?;
        fill(&mut data[..1000]);
        let pending = prefetcher.prefetch(&data).to(context.gpu().vram()).prepare(prepare).submit()?;
        let outcome = pending.wait()?;
        assert!(outcome.is_complete(), "{prepare:?}: {outcome}");
        assert_intact(&data[..1000]);
        assert!(data[1000..].iter().all(|&word| word == 0), "{prepare:?}");
    }
    Ok(())
}
