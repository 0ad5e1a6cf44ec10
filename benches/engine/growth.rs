//! What an operation costs with few and with very many ranges.

use std::time::Instant;

use drm_pagemap::PageRange;
use drm_pagemap::kfd::{self, GpuId, Granularity, SvmAttribute};
use drm_pagemap::pagemap::{MigrateOptions, Space, VramRegion, Windows};
use drm_pagemap::sim::kfd::{GpuConfig, Kfd, KfdConfig};
use drm_pagemap::sim::xe::{Platform, XeConfig, XeGpu};
use drm_pagemap::xe;

use super::bare::Mapping;
use super::report::Row;
use super::threads::shuffled;

const PAGE: u64 = 4096;
const COUNTS: [usize; 6] = [10, 100, 1_000, 10_000, 100_000, 1_000_000];
/// The windows of a million are four gigabytes of memory.
const WINDOWS: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];
/// What the target compares with.
const BASE: usize = 1_000;
/// Operations of one sample, and samples.
const BATCH: usize = 200;
const SAMPLES: usize = 15;

pub(crate) fn all(space: &Space) -> Result<(), Box<dyn std::error::Error>> {
    xe_attributes()?;
    kfd_attributes()?;
    windows(space)?;
    Ok(())
}

/// Mean seconds of an operation over random ranges among `count`, for each of the samples.
fn sample(
    count: usize,
    mut act: impl FnMut(usize) -> drm_pagemap::Result<()>,
) -> drm_pagemap::Result<Vec<f64>> {
    let order = shuffled(count);
    let mut next = order.iter().cycle();
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let start = Instant::now();
        for &index in next.by_ref().take(BATCH) {
            act(index)?;
        }
        samples.push(start.elapsed().as_secs_f64() / BATCH as f64);
    }
    Ok(samples)
}

/// One line for each count, against the cost at [`BASE`]; the target is for the largest.
fn report(what: &str, counts: &[usize], samples: &[Vec<f64>]) {
    let base = &samples[counts.iter().position(|&count| count == BASE).expect("one of the counts")];
    for (&count, own) in counts.iter().zip(samples) {
        let pairs: Vec<(f64, f64)> = own.iter().copied().zip(base.iter().copied()).collect();
        let what = format!("{what} among {count}");
        let row = Row::timed('d', &what, &pairs, "among 1000");
        if count == 1_000_000 { row.at_most(3.0).print() } else { row.print() }
    }
}

fn page(start: u64, index: usize) -> PageRange {
    PageRange::new(start + index as u64 * PAGE, PAGE).expect("aligned")
}

/// Advice for single pages of a mirror, each other than its neighbour's, and asking what it is.
fn xe_attributes() -> drm_pagemap::Result<()> {
    let gpu = XeGpu::new(XeConfig::new(Platform::Battlemage).vram(64 << 20))?;
    let device = xe::Device::from_channel(gpu.open()?)?;
    let vm = xe::Vm::create(&device, xe::VmFlags::SVM)?;
    vm.mirror_all()?;
    let start = 0x10_0000_0000;
    let mode =
        |odd: bool| xe::Advice::Atomic(if odd { xe::AtomicMode::Device } else { xe::AtomicMode::Global });
    let (mut set, mut get) = (Vec::new(), Vec::new());
    let mut made = 0;
    for count in COUNTS {
        for index in made..count {
            vm.advise(page(start, index), mode(index % 2 == 1))?;
        }
        made = count;
        set.push(sample(count, |index| vm.advise(page(start, index), mode(index % 2 == 1)))?);
        let mut buffer = xe::RangeAttributeBuffer::new();
        get.push(sample(count, |index| {
            let answer = vm.range_attributes_into(page(start, index), &mut buffer)?;
            assert_eq!(answer.len(), 1);
            Ok(())
        })?);
    }
    report("xe: advise a page", &COUNTS, &set);
    report("xe: query a page", &COUNTS, &get);
    Ok(())
}

/// Attributes of single pages, each other than its neighbour's.
fn kfd_attributes() -> drm_pagemap::Result<()> {
    let kfd = Kfd::new(KfdConfig::with_gpus(vec![GpuConfig::mi200(0x4a3f, 64 << 20)]))?;
    let process = kfd::Process::open(kfd.open()?)?;
    let gpu = GpuId::new(0x4a3f).expect("not 0");
    process.acquire_vm(&kfd.open_render_node(0)?, gpu)?;
    let most = COUNTS[COUNTS.len() - 1];
    let memory = Mapping::empty(most * PAGE as usize);
    let start = memory.start();
    let unit = |odd: bool| [SvmAttribute::Granularity(Granularity::from_pages_log2(3 + u8::from(odd)))];
    let (mut set, mut get) = (Vec::new(), Vec::new());
    let mut made = 0;
    for count in COUNTS {
        for index in made..count {
            process.set_attributes(page(start, index), &unit(index % 2 == 1))?;
        }
        made = count;
        set.push(sample(count, |index| process.set_attributes(page(start, index), &unit(index % 2 == 1)))?);
        get.push(sample(count, |index| process.get_attributes(page(start, index), &[gpu]).map(drop))?);
    }
    report("KFD: set attributes of a page", &COUNTS, &set);
    report("KFD: get attributes of a page", &COUNTS, &get);
    Ok(())
}

/// Windows of one page in device memory: one goes back and returns, among many.
fn windows(space: &Space) -> drm_pagemap::Result<()> {
    let most = WINDOWS[WINDOWS.len() - 1];
    let vram = VramRegion::new(space, most as u64 * PAGE + (2 << 20))?;
    let memory = Mapping::filled(most * PAGE as usize, false);
    let small = MigrateOptions::new().windows(Windows::Blocks(PAGE));
    let start = memory.start();
    let mut there_and_back = Vec::new();
    let mut made = 0;
    for count in WINDOWS {
        let more = PageRange::new(start + made as u64 * PAGE, (count - made) as u64 * PAGE).expect("aligned");
        let _ = space.migrate_to_devmem(&vram, more, &small)?;
        made = count;
        there_and_back.push(sample(count, |index| {
            memory.touch_at(index * PAGE as usize);
            space.migrate_to_devmem(&vram, page(start, index), &small).map(drop)
        })?);
    }
    report("engine: a window out and in", &WINDOWS, &there_and_back);
    Ok(())
}
