//! What moving memory to a GPU and back costs: prefetch, page faults, and copies as the yardstick.
//!
//! `cargo xtask bench-hw` builds and runs this and makes tables and pictures of what it says: one JSON object a line, to the
//! file that `HW_RESULTS` names, else to standard output. Figures of simulated and virtual GPUs are no hardware figures.

mod copies;
mod memory;
mod options;
mod record;
#[path = "../../examples/common/worker.rs"]
mod worker;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use drm_pagemap::kfd::Xnack;
use drm_pagemap::residency::{self, Place};
use drm_pagemap::{Buffer, Device, Driver, Gpu, Location, Mirror, Observe, PageRange, Prefetcher};
use options::Options;
use record::{Recorder, Series};
use worker::Worker;

fn main() -> Result<()> {
    let options = Options::from_arguments()?;
    let recorder = Recorder::from_environment()?;
    for (label, gpu) in options.gpus()? {
        if let Err(unmet) = gpu.svm().migration() {
            recorder.skip(&label, "everything", &unmet.to_string())?;
            continue;
        }
        Bench { label, gpu, options: &options, recorder: &recorder }.run()?;
    }
    Ok(())
}

struct Bench<'a> {
    label: String,
    gpu: Gpu,
    options: &'a Options,
    recorder: &'a Recorder,
}

impl Bench<'_> {
    fn run(&self) -> Result<()> {
        let mirror = Arc::new(self.gpu.mirror()?);
        for huge in [true, false] {
            for bytes in self.options.sizes() {
                if let Some(reason) = self.too_large(bytes) {
                    self.recorder.skip(&self.label, &format!("{bytes} bytes"), &reason)?;
                    continue;
                }
                self.prefetch(&mirror, bytes, huge)?;
                self.faults(&mirror, bytes, huge)?;
                self.copy(bytes, huge)?;
            }
        }
        self.threads(&mirror)
    }

    /// Half of VRAM and half of the free memory are enough for figures, and leave room for everybody.
    fn too_large(&self, bytes: u64) -> Option<String> {
        let vram = self.gpu.vram_regions()[0].size();
        if bytes > vram / 2 {
            return Some(format!("more than half of the GPU's {vram} bytes"));
        }
        let free = memory::available();
        (bytes > free / 2).then(|| format!("more than half of the {free} bytes of free memory"))
    }

    fn series(&self, what: &'static str, bytes: u64, huge: bool) -> Series<'_> {
        Series { device: &self.label, what, bytes, huge, threads: 1, helper_spaces: false }
    }

    fn prefetch(&self, mirror: &Mirror, bytes: u64, huge: bool) -> Result<()> {
        let data = memory::filled(bytes, huge)?;
        let range = data.range();
        let (mut there, mut back, mut moved) = (Vec::new(), Vec::new(), u64::MAX);
        for _ in 0..self.options.rounds(bytes) {
            there.push(timed(|| move_to(mirror, range, self.gpu.vram()))?);
            moved = moved.min(device_bytes(range)?);
            back.push(timed(|| move_to(mirror, range, Location::System))?);
        }
        self.recorder.times(&self.series("prefetch to VRAM", bytes, huge), &there, moved)?;
        self.recorder.times(&self.series("prefetch to system", bytes, huge), &back, moved)
    }

    /// Page faults: of the GPU, where it takes them, a touch for each 64 KiB; and of the CPU, a touch for each page.
    fn faults(&self, mirror: &Mirror, bytes: u64, huge: bool) -> Result<()> {
        let mut data = memory::filled(bytes, huge)?;
        let range = data.range();
        let (mut gpu, mut cpu, mut moved) = (Vec::new(), Vec::new(), u64::MAX);
        let faulting = match self.gpu.device() {
            Device::Kfd(kfd) => kfd.process().xnack()? == Xnack::On,
            _ => true,
        };
        // An address space of its own each round: what the GPU has mapped once it does not fault on.
        for _ in 0..self.options.rounds(bytes).min(5) {
            if faulting && bytes <= self.options.largest_faulted {
                let mut worker = Worker::new(&self.gpu)?;
                gpu.push(timed(|| worker.store(&mut data, (64 << 10) / 4, 7))?);
            } else {
                move_to(mirror, range, self.gpu.vram())?;
            }
            moved = moved.min(device_bytes(range)?);
            cpu.push(timed(|| {
                data.iter().step_by(4096 / 4).for_each(|word| {
                    black_box(*word);
                });
                Ok(())
            })?);
        }
        if gpu.is_empty() {
            let reason = if faulting {
                "too large for this ground"
            } else {
                "without XNACK this GPU takes no page faults"
            };
            self.recorder.skip(&self.label, &format!("GPU page faults, {bytes} bytes"), reason)?;
        } else {
            self.recorder.times(&self.series("GPU page faults", bytes, huge), &gpu, moved)?;
        }
        self.recorder.times(&self.series("CPU page faults", bytes, huge), &cpu, moved)
    }

    /// The yardstick: the same bytes into memory that stays in VRAM.
    fn copy(&self, bytes: u64, huge: bool) -> Result<()> {
        let data = memory::filled(bytes, huge)?;
        let mut copier = match copies::Copier::new(&self.gpu, &data) {
            Ok(copier) => copier,
            Err(error) => {
                return self.recorder.skip(
                    &self.label,
                    &format!("copy, {bytes} bytes"),
                    &format!("{error:#}"),
                );
            }
        };
        let rounds = self.options.rounds(bytes);
        let times = (0..rounds).map(|_| timed(|| copier.copy(&data))).collect::<Result<Vec<Duration>>>()?;
        self.recorder.times(&self.series(copier.name(), bytes, huge), &times, bytes)
    }

    /// Several threads, with and without address spaces of their own, on the largest size.
    fn threads(&self, mirror: &Arc<Mirror>) -> Result<()> {
        let Some(bytes) = self.options.sizes().filter(|&bytes| self.too_large(bytes).is_none()).last() else {
            return Ok(());
        };
        let data = memory::filled(bytes, true)?;
        let helpers: &[bool] = if self.gpu.driver() == Driver::Xe { &[false, true] } else { &[false] };
        for &helper_spaces in helpers {
            for threads in self.options.threads() {
                let builder =
                    Prefetcher::builder(mirror.clone()).threads(threads).helper_spaces(helper_spaces);
                let prefetcher = builder.chunk(8 << 20).build()?;
                let (mut times, mut moved) = (Vec::new(), u64::MAX);
                for _ in 0..self.options.rounds(bytes) {
                    times.push(timed(|| {
                        let request = prefetcher.prefetch_range(data.range()).to(self.gpu.vram());
                        let _ = request.observe(Observe::Nothing).submit()?.wait()?;
                        Ok(())
                    })?);
                    moved = moved.min(device_bytes(data.range())?);
                    move_to(mirror, data.range(), Location::System)?;
                }
                let series =
                    Series { threads, helper_spaces, ..self.series("prefetcher to VRAM", bytes, true) };
                self.recorder.times(&series, &times, moved)?;
            }
        }
        Ok(())
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

fn move_to(mirror: &Mirror, range: PageRange, to: Location) -> Result<()> {
    let _ = mirror.prefetch_range(range).to(to).observe(Observe::Nothing).run()?;
    Ok(())
}

fn device_bytes(range: PageRange) -> Result<u64> {
    Ok(residency::of_range(range)?.summary().bytes(Place::Device))
}

/// The memory that is moved.
type Data = Buffer<u32>;
