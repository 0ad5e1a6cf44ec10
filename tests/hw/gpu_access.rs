//! The GPU itself reads and writes plain memory of the process: a `Vec`, as the allocator gave it.
//!
//! On xe through the mirror's own address space, on amdgpu with a copy engine. In the terms of IGT's
//! `xe_exec_system_allocator`:
//!
//! | there | here |
//! |---|---|
//! | `once-malloc`, `once-malloc-prefetch`, `many-*` | `stores_before_and_after_prefetch`, `copies_before_and_after_prefetch` |
//! | `*-mmap-remap` | `memory_that_was_moved` |
//! | `*-race`, CPU and GPU on the same data | `sees_what_the_cpu_wrote_last`, `atomics_of_gpu_and_cpu_add_up` |
//! | atomics (`prefetch`, `madvise` variants) | `atomics_before_and_after_prefetch` |

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use drm_pagemap::kfd::{GfxVersion, SdmaPackets, SdmaQueue, SvmAttribute};
use drm_pagemap::range::{SIZE_2M, page_size};
use drm_pagemap::residency::{self, Place};
use drm_pagemap::xe::{
    Batch, BatchBuffer, EngineClass, ExecQueue, QueueOptions, Syncs, Timeout, UserFence, Vm,
};
use drm_pagemap::{Device, Mirror, PageRange};

use crate::harness::{Context, Need, Stop, Test, TestResult};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "gpu_access/stores_before_and_after_prefetch", needs: &[Need::Vram], run: stores },
    Test { name: "gpu_access/copies_before_and_after_prefetch", needs: &[Need::Vram], run: copies },
    Test {
        name: "gpu_access/atomics_before_and_after_prefetch",
        needs: &[Need::Vram, Need::Xe],
        run: atomics,
    },
    Test {
        name: "gpu_access/atomics_of_gpu_and_cpu_add_up",
        needs: &[Need::Vram, Need::Xe],
        run: shared_atomics,
    },
    Test { name: "gpu_access/sees_what_the_cpu_wrote_last", needs: &[Need::Vram], run: sees_the_latest },
    Test { name: "gpu_access/memory_that_was_moved", needs: &[Need::Vram, Need::Xe], run: moved_memory },
];

/// A hang guard.
const HANG: Duration = Duration::from_secs(120);

/// A GPU that works on this process's memory.
pub(crate) enum Worker<'a> {
    Xe { vm: &'a Vm, queue: ExecQueue },
    Kfd { gpu: &'a drm_pagemap::device::KfdGpu, gfx: GfxVersion, queue: Box<SdmaQueue> },
}

impl<'a> Worker<'a> {
    pub(crate) fn new(context: &'a Context, mirror: &'a Mirror) -> Result<Self, Stop> {
        match context.gpu().device() {
            Device::Xe(device) => {
                let vm = mirror.vm().ok_or_else(|| Stop::Fail("a mirror on xe has a VM".into()))?;
                let engines = device.engines()?;
                let engine = engines.iter().find(|engine| engine.class == EngineClass::Copy);
                let Some(engine) = engine else { skip!("the device has no copy engine") };
                Ok(Self::Xe { vm, queue: ExecQueue::create(vm, &[*engine], QueueOptions::new())? })
            }
            Device::Kfd(gpu) => {
                gpu.acquire()?;
                let Some(gfx) = gpu.node()?.gfx_version() else { skip!("the topology tells no generation") };
                let queue = Box::new(gpu.process().create_sdma_queue(gpu.id(), 64 << 10)?);
                Ok(Self::Kfd { gpu, gfx, queue })
            }
            other => skip!("no way to make {other:?} work"),
        }
    }

    /// Lets the GPU touch the memory. KFD wants to be told, and without XNACK maps its pages now.
    pub(crate) fn allow<T>(&self, data: &[T]) -> TestResult {
        if let Self::Kfd { gpu, .. } = self {
            gpu.process().set_attributes(PageRange::covering(data), &[SvmAttribute::Access(gpu.id())])?;
        }
        Ok(())
    }

    fn run_batch(vm: &Vm, queue: &ExecQueue, batch: Batch) -> TestResult {
        let batch = BatchBuffer::new(batch)?;
        let mut fence = UserFence::new()?;
        // SAFETY: the tests' commands touch memory of the test only, through raw addresses; batch and fence outlive the wait.
        unsafe { queue.submit(batch.address(), Syncs::new().fence(&mut fence)) }?;
        Ok(fence.wait(vm.device(), Timeout::Within(HANG), Some(queue))?)
    }

    fn run_packets(queue: &mut SdmaQueue, packets: &SdmaPackets) -> TestResult {
        // SAFETY: as above.
        unsafe { queue.submit(packets) }?;
        Ok(queue.wait(HANG)?)
    }

    /// Stores a number at each address.
    pub(crate) fn store(&mut self, stores: &[(u64, u32)]) -> TestResult {
        match self {
            Self::Xe { vm, queue } => {
                let batch =
                    stores.iter().fold(Batch::new(), |batch, &(at, value)| batch.store_u32(at, value));
                Self::run_batch(vm, queue, batch)
            }
            Self::Kfd { gfx, queue, .. } => {
                let mut packets = SdmaPackets::new(*gfx);
                for &(at, value) in stores {
                    packets.write(at, &[value])?;
                }
                Self::run_packets(queue, &packets)
            }
        }
    }

    /// Copies single numbers, `(from, to)`.
    pub(crate) fn copy(&mut self, copies: &[(u64, u64)]) -> TestResult {
        match self {
            Self::Xe { vm, queue } => {
                let batch = copies.iter().fold(Batch::new(), |batch, &(from, to)| batch.copy_u32(to, from));
                Self::run_batch(vm, queue, batch)
            }
            Self::Kfd { gfx, queue, .. } => {
                let mut packets = SdmaPackets::new(*gfx);
                for &(from, to) in copies {
                    packets.copy(from, to, 4);
                }
                Self::run_packets(queue, &packets)
            }
        }
    }

    /// Increments each number once, atomically. xe only.
    pub(crate) fn increment(&mut self, addresses: &[u64]) -> TestResult {
        let Self::Xe { vm, queue } = self else { skip!("no packet for it") };
        let batch = addresses.iter().fold(Batch::new(), |batch, &at| batch.atomic_increment(at));
        Self::run_batch(vm, queue, batch)
    }
}

/// Numbers between those that are touched, so that each is in a page of its own.
fn step() -> usize {
    page_size() as usize / 4 * 25 + 1
}

/// A `Vec` of 8 MiB.
fn memory() -> Vec<u32> {
    vec![0; 2 << 20]
}

/// Two whole blocks of 2 MiB inside, numbered. What lies beside them the process touches whenever it likes, and a touch brings the
/// whole block back; there the tests could say nothing about where pages are.
fn numbered(memory: &mut [u32]) -> &mut [u32] {
    let skip = memory.as_ptr().align_offset(SIZE_2M as usize);
    let data = &mut memory[skip..][..1 << 20];
    data.iter_mut().zip(0..).for_each(|(number, index)| *number = index);
    data
}

/// Addresses of the numbers that the GPU touches.
fn places(data: &mut [u32]) -> Vec<u64> {
    let base = data.as_mut_ptr();
    (0..data.len()).step_by(step()).map(|index| base.wrapping_add(index) as u64).collect()
}

/// What the CPU reads, although the compiler knows of no write.
fn read(data: &[u32], index: usize) -> u32 {
    // SAFETY: in the slice; the GPU is done with it.
    unsafe { data.as_ptr().add(index).read_volatile() }
}

fn check(data: &[u32], expected: impl Fn(usize, bool) -> u32) {
    for index in 0..data.len() {
        let touched = index % step() == 0;
        assert_eq!(read(data, index), expected(index, touched), "number {index}");
    }
}

/// Puts the whole pages of a `Vec` into VRAM.
fn prefetch(context: &Context, mirror: &Mirror, data: &[u32]) -> Result<PageRange, Stop> {
    let pages = PageRange::inside(data);
    let outcome = mirror.prefetch_range(pages).to(context.gpu().vram()).run()?;
    assert!(outcome.is_complete(), "{outcome}");
    assert_eq!(residency::of_range(pages)?.summary().bytes(Place::Device), pages.len());
    Ok(pages)
}

fn stores(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let mut worker = Worker::new(context, &mirror)?;
    let mut memory = memory();
    let data = numbered(&mut memory);
    worker.allow(data)?;
    let places = places(data);
    let some =
        |tag: u32| -> Vec<(u64, u32)> { (tag..).zip(&places).map(|(value, &at)| (at, value)).collect() };
    worker.store(&some(1 << 30))?;
    check(data, |index, touched| if touched { (1 << 30) + (index / step()) as u32 } else { index as u32 });
    let pages = prefetch(context, &mirror, data)?;
    worker.store(&some(1 << 31))?;
    let there = residency::of_range(pages)?.summary().bytes(Place::Device);
    assert_eq!(there, pages.len(), "what the GPU writes in its own memory stays there");
    check(data, |index, touched| if touched { (1 << 31) + (index / step()) as u32 } else { index as u32 });
    Ok(())
}

fn copies(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let mut worker = Worker::new(context, &mirror)?;
    let (mut one, mut other) = (memory(), memory());
    let (from, to) = (numbered(&mut one), numbered(&mut other));
    to.fill(7);
    worker.allow(from)?;
    worker.allow(to)?;
    let (sources, targets) = (places(from), places(to));
    let all: Vec<(u64, u64)> = sources.iter().copied().zip(targets.iter().copied()).collect();
    worker.copy(&all)?;
    check(to, |index, touched| if touched { index as u32 } else { 7 });
    // From VRAM to system memory, and back into VRAM.
    prefetch(context, &mirror, from)?;
    to.fill(8);
    worker.copy(&all)?;
    check(to, |index, touched| if touched { index as u32 } else { 8 });
    prefetch(context, &mirror, to)?;
    from.iter_mut().for_each(|number| *number += 1);
    worker.copy(&all)?;
    check(to, |index, touched| if touched { index as u32 + 1 } else { 8 });
    Ok(())
}

fn atomics(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let mut worker = Worker::new(context, &mirror)?;
    let mut memory = memory();
    let data = numbered(&mut memory);
    let places = places(data);
    worker.increment(&places)?;
    check(data, |index, touched| index as u32 + u32::from(touched));
    prefetch(context, &mirror, data)?;
    worker.increment(&places)?;
    worker.increment(&places)?;
    check(data, |index, touched| index as u32 + 3 * u32::from(touched));
    Ok(())
}

fn shared_atomics(context: &Context) -> TestResult {
    const EACH: u32 = 200;
    let mirror = context.gpu().mirror()?;
    let mut worker = Worker::new(context, &mirror)?;
    let mut memory = memory();
    let data = numbered(&mut memory);
    data.fill(0);
    prefetch(context, &mirror, data)?;
    let at = &raw mut data[1 << 18];
    // SAFETY: a word of the test's own, aligned, from now on touched through atomics only.
    let counter = unsafe { AtomicU32::from_ptr(at) };
    std::thread::scope(|scope| -> TestResult {
        scope.spawn(|| {
            for _ in 0..EACH {
                counter.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        for _ in 0..EACH / 10 {
            worker.increment(&[counter.as_ptr() as u64; 10])?;
        }
        Ok(())
    })?;
    assert_eq!(counter.load(Ordering::Relaxed), 2 * EACH, "no increment of either side is lost");
    Ok(())
}

fn sees_the_latest(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let mut worker = Worker::new(context, &mirror)?;
    let (mut memory, mut seen) = (memory(), vec![0u32; 1 << 16]);
    let data = numbered(&mut memory);
    worker.allow(data)?;
    worker.allow(&seen)?;
    prefetch(context, &mirror, data)?;
    let source = (1 << 19) + 5;
    for round in 0..20u32 {
        // The CPU's write takes the block away from the GPU.
        data[source] = round + 100;
        let (from, to) = (&raw mut data[source] as u64, &raw mut seen[round as usize] as u64);
        worker.copy(&[(from, to)])?;
    }
    for round in 0..20 {
        assert_eq!(read(&seen, round as usize), round + 100, "in round {round}");
    }
    Ok(())
}

/// For xe. Real amdgpu (Linux 7.3.4) crashes at it: registering addresses that `mremap` gave to pages in VRAM dereferences a null
/// pointer in `svm_range_validate_and_map`.
fn moved_memory(context: &Context) -> TestResult {
    use rustix::mm::{MapFlags, MremapFlags, ProtFlags};
    let mirror = context.gpu().mirror()?;
    let mut worker = Worker::new(context, &mirror)?;
    let len = 4usize << 20;
    let map = || -> Result<*mut u32, Stop> {
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping, anywhere.
        let mapped = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, prot, flags) };
        mapped.map(|at| at.cast()).map_err(|errno| Stop::Fail(errno.to_string()))
    };
    let (old, new) = (map()?, map()?);
    // SAFETY: `old` is that mapping; the slice is not used after it moves.
    let data = unsafe { std::slice::from_raw_parts_mut(old, len / 4) };
    data.iter_mut().zip(0..).for_each(|(number, index)| *number = index);
    worker.allow(data)?;
    worker.store(&[(old as u64, 77)])?;
    let outcome = mirror.prefetch(data).to(context.gpu().vram()).run()?;
    assert!(outcome.moved() + outcome.already_there() > 0, "{outcome}");
    // SAFETY: the mapping moves over `new`, to which nothing refers.
    unsafe { rustix::mm::mremap_fixed(old.cast(), len, len, MremapFlags::MAYMOVE, new.cast()) }
        .map_err(|errno| Stop::Fail(errno.to_string()))?;
    // SAFETY: `new` is the mapping now.
    let data = unsafe { std::slice::from_raw_parts_mut(new, len / 4) };
    worker.allow(data)?;
    worker.store(&[(new as u64 + 4, 78)])?;
    for index in 0..len / 4 {
        let expected = match index {
            0 => 77,
            1 => 78,
            _ => index as u32,
        };
        assert_eq!(read(data, index), expected, "number {index}");
    }
    // SAFETY: the test's own mapping, used no more.
    unsafe { rustix::mm::munmap(new.cast(), len) }.map_err(|errno| Stop::Fail(errno.to_string()))
}
