//! For each cause that a part of a prefetch can be refused for: provoked, and told as what it is. What memory is of a kind that
//! cannot move is in `memory_kinds`.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drm_pagemap::kfd::Xnack;
use drm_pagemap::range::{SIZE_2M, SIZE_64K, page_size};
use drm_pagemap::sim::Machine;
use drm_pagemap::sim::xe::{Platform, XeConfig, XeGpu};
use drm_pagemap::{Buffer, Cause, Device, Error, ErrorKind, Gpu, Outcome, PageRange};
use nix::libc;
use nix::sys::mman::MapFlags;

use crate::harness::{Context, Need, Test, TestResult, overcommitted};
use crate::mapping::Mapping;
use crate::placement::{assert_intact, device_bytes, filled};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "causes/pinned", needs: &[Need::Vram], run: pinned },
    Test { name: "causes/raced", needs: &[Need::Vram], run: raced },
    Test { name: "causes/no_vram", needs: &[Need::Vram, Need::Overcommit], run: no_vram },
    Test {
        name: "causes/no_interconnect",
        needs: &[Need::Vram, Need::Kfd, Need::TwoGpus],
        run: no_interconnect,
    },
    Test { name: "causes/below_the_block_size", needs: &[Need::Xe], run: below_the_block_size },
    Test { name: "causes/unsupported_kernel", needs: &[Need::Xe], run: unsupported_kernel },
];

/// A hang guard.
const PATIENCE: Duration = Duration::from_secs(120);

/// Something was refused, all of it for this cause, and everything that an outcome says agrees with that.
pub(crate) fn assert_tells(outcome: &Outcome, cause: Cause) {
    assert!(outcome.not_moved() > 0 && !outcome.is_complete(), "{outcome}");
    let causes: Vec<Cause> = outcome.refusals().iter().map(|refusal| refusal.cause).collect();
    assert!(causes.iter().all(|&told| told == cause), "{cause:?} expected: {causes:?}, {outcome}");
    assert_eq!(outcome.retry_useful(), cause.is_transient(), "{outcome}");
    assert!(outcome.to_string().contains(cause.text()), "{outcome}");
    assert_eq!(outcome.moved() + outcome.already_there() + outcome.not_moved(), outcome.requested());
}

/// Pins pages as a fixed buffer of an io_uring, until the descriptor is closed. `None` where there is no io_uring.
pub(crate) fn pin(range: PageRange) -> Option<OwnedFd> {
    let mut params = [0u8; 120];
    // SAFETY: the kernel reads and writes the 120 bytes of `struct io_uring_params`, zeroed.
    let raw = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    if raw < 0 {
        return None;
    }
    // SAFETY: a new descriptor.
    let ring = unsafe { OwnedFd::from_raw_fd(i32::try_from(raw).ok()?) };
    let buffer = libc::iovec { iov_base: range.start() as *mut _, iov_len: range.len() as usize };
    // SAFETY: registers one buffer (opcode 0, IORING_REGISTER_BUFFERS) of the test's own memory.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), 0, &buffer, 1) };
    (result == 0).then_some(ring)
}

fn pinned(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(6 << 20)?;
    let page = PageRange::new(data.range().start() + SIZE_2M + 5 * page_size(), page_size())?;
    let Some(ring) = pin(page) else { skip!("io_uring cannot be had here, so no page can be pinned") };
    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_tells(&outcome, Cause::PinnedOrBusy);
    // xe leaves the whole block, amdgpu the page, or the huge page that it is a part of.
    assert!(outcome.refusals().iter().any(|refusal| refusal.range.contains_range(page)), "{outcome}");
    assert!(outcome.not_moved() <= SIZE_2M && outcome.moved() >= 4 << 20, "{outcome}");
    assert_eq!(device_bytes(page)?, 0);
    drop(ring);
    // The kernel releases a pin some time after its ring is closed.
    let started = Instant::now();
    loop {
        let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
        if outcome.is_complete() {
            break;
        }
        assert_tells(&outcome, Cause::PinnedOrBusy);
        assert!(started.elapsed() < PATIENCE, "the pin is gone: {outcome}");
        std::thread::yield_now();
    }
    assert_intact(&data);
    Ok(())
}

fn raced(context: &Context) -> TestResult {
    const ATTEMPTS: usize = 60;
    const ENOUGH: Duration = Duration::from_secs(20);
    let mirror = context.gpu().mirror()?;
    let data = Buffer::<u64>::zeroed((4 << 20) / 8)?;
    let words: &[AtomicU64] = {
        // SAFETY: `AtomicU64` has the layout of `u64`, and for the life of this slice the buffer is reached through it alone.
        unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), data.len()) }
    };
    let stop = AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut writes = 0u64;
            while !stop.load(Ordering::Relaxed) {
                words[0].fetch_add(1, Ordering::Relaxed);
                writes += 1;
            }
            writes
        });
        let prefetch = || mirror.prefetch_range(data.range()).to(context.gpu().vram()).run();
        // Under fire a driver may also ask to be called again.
        let told = |result: &Result<Outcome, Error>| match result {
            Ok(outcome) => !outcome.is_complete(),
            Err(error) => error.kind() != ErrorKind::TryAgain,
        };
        // Each can take seconds on an emulated machine.
        let started = Instant::now();
        let in_time = |_: &usize| started.elapsed() < ENOUGH;
        let refused = (0..ATTEMPTS).take_while(in_time).map(|_| prefetch()).find(told);
        stop.store(true, Ordering::Relaxed);
        (refused, writer.join().expect("the writer ends"))
    });
    let (refused, writes) = refused;
    assert_eq!(words[0].load(Ordering::Relaxed), writes, "no write was lost");
    let Some(refused) = refused else {
        skip!("the CPU never came in between, in {ATTEMPTS} attempts or {ENOUGH:?}")
    };
    let outcome = refused?;
    assert_tells(&outcome, Cause::PinnedOrBusy);
    assert!(outcome.refusals()[0].range.contains(data.range().start()), "{outcome}");
    Ok(())
}

fn no_vram(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = Buffer::<u8>::zeroed(overcommitted(context.gpu()) as usize)?;
    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_tells(&outcome, Cause::NoVram);
    assert!(outcome.moved() >= context.gpu().vram_regions()[0].size() / 2, "{outcome}");
    Ok(())
}

fn no_interconnect(context: &Context) -> TestResult {
    let (Device::Kfd(own), Device::Kfd(peer)) = (context.gpu().device(), context.peer().device()) else {
        skip!("for amdgpu only");
    };
    if own.process().xnack()? == Xnack::On {
        skip!("with XNACK each GPU maps memory where it can reach it, and data follows the last prefetch");
    }
    if own.system().topology().are_linked(own.id(), peer.id()) {
        skip!("the two GPUs have a fast link");
    }
    let (mirror, other) = (context.gpu().mirror()?, context.peer().mirror()?);
    let data = filled(4 << 20)?;
    assert!(other.prefetch(&data).to(context.peer().vram()).run()?.is_complete());
    let outcome = mirror.prefetch(&data).to(context.gpu().vram()).run()?;
    assert_eq!(outcome.not_moved(), 4 << 20, "KFD keeps it where both can reach it: {outcome}");
    assert_tells(&outcome, Cause::NoInterconnect);
    assert_intact(&data);
    Ok(())
}

/// Real only on Ponte Vecchio, whose VRAM has blocks of 64 KiB; elsewhere on a simulated one.
fn below_the_block_size(context: &Context) -> TestResult {
    let own = context.gpu();
    let Device::Xe(device) = own.device() else { skip!("for xe only") };
    let simulated;
    let gpu = if device.config().min_alignment > page_size() {
        own
    } else if own.is_simulated() {
        let device = XeGpu::new(XeConfig::new(Platform::PonteVecchio).vram(64 << 20))?;
        simulated = Gpu::discover_in(&Machine::new().with_xe(device)).into_iter().next().expect("a device");
        &simulated
    } else {
        skip!("this GPU migrates single pages; the cause is provoked on a simulated Ponte Vecchio");
    };
    let mirror = gpu.mirror()?;
    // From one page before a boundary of 64 KiB to one page behind the next.
    let mut memory = Mapping::anonymous(4 << 20, MapFlags::MAP_PRIVATE).expect("memory").without_huge_pages();
    memory.words().fill(3);
    let (whole, page) = (memory.range(), page_size());
    let first = whole.align_outward(SIZE_2M).expect("an address").start() + SIZE_2M;
    let kept = PageRange::new(first - page, SIZE_64K + 2 * page)?;
    memory.punch(0..(kept.start() - whole.start()) as usize);
    memory.punch((kept.end() - whole.start()) as usize..whole.len() as usize);
    let outcome = mirror.prefetch_range(kept).to(gpu.vram()).run()?;
    assert_eq!((outcome.moved(), outcome.not_moved()), (SIZE_64K, 2 * page), "{outcome}");
    assert_tells(&outcome, Cause::BelowBlockSize);
    let ranges: Vec<PageRange> = outcome.refusals().iter().map(|refusal| refusal.range).collect();
    assert_eq!(ranges, [PageRange::new(first - page, page)?, PageRange::new(first + SIZE_64K, page)?]);
    Ok(())
}

fn unsupported_kernel(context: &Context) -> TestResult {
    let gpu = context.gpu();
    let Err(missing) = gpu.svm().migration().map_err(ToString::to_string) else {
        skip!("this kernel and GPU can migrate; kernels that cannot are in faults/xe_kernels and in the lab");
    };
    let mirror = gpu.mirror()?;
    let data = filled(2 << 20)?;
    let error = mirror.prefetch(&data).to(gpu.vram()).run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}; {missing}");
    assert_eq!(device_bytes(data.range())?, 0);
    let back = mirror.prefetch(&data).to_system().run()?;
    assert!(back.is_complete(), "{back}");
    assert_intact(&data);
    Ok(())
}
