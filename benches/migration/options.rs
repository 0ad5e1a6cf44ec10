//! The command line.

use anyhow::{Result, bail};
use drm_pagemap::Device;
use drm_pagemap::Gpu;
use drm_pagemap::kfd::Xnack;
use drm_pagemap::sim::Machine;
use drm_pagemap::sim::kfd::{GpuConfig, Kfd, KfdConfig};
use drm_pagemap::sim::xe::{Platform, XeConfig, XeGpu};
use lexopt::prelude::*;

/// VRAM of simulated GPUs.
const VRAM: u64 = 256 << 20;

/// What to measure.
#[derive(Debug)]
pub(crate) struct Options {
    simulated: bool,
    smallest: u64,
    largest: u64,
    /// The GPU of a simulation takes page faults slowly.
    pub(crate) largest_faulted: u64,
    most_rounds: usize,
    most_threads: usize,
}

impl Options {
    pub(crate) fn from_arguments() -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut options = Self {
            simulated: true,
            smallest: 4 << 10,
            largest: 1 << 30,
            largest_faulted: 1 << 30,
            most_rounds: 50,
            most_threads: threads.min(8),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("ground") => options.simulated = parser.value()?.string()? == "simulated",
                Long("largest") => options.largest = parser.value()?.parse()?,
                Long("rounds") => options.most_rounds = parser.value()?.parse()?,
                Long("threads") => options.most_threads = parser.value()?.parse()?,
                // What `cargo bench` adds.
                Long("bench") => {}
                other => bail!("{}", other.unexpected()),
            }
        }
        if options.most_rounds == 0 || options.most_threads == 0 || options.largest < options.smallest {
            bail!("nothing to measure");
        }
        if options.simulated {
            options.largest_faulted = 16 << 20;
        }
        Ok(options)
    }

    /// From 4 KiB on, each four times the one before.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = u64> + '_ {
        std::iter::successors(Some(self.smallest), |bytes| bytes.checked_mul(4))
            .take_while(|&bytes| bytes <= self.largest)
    }

    /// Fewer of what takes long.
    pub(crate) fn rounds(&self, bytes: u64) -> usize {
        ((256 << 20) / bytes).clamp(3, 50).min(self.most_rounds as u64) as usize
    }

    /// 1, 2, 4 and so on.
    pub(crate) fn threads(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(1), |threads| Some(threads * 2))
            .take_while(|&threads| threads <= self.most_threads)
    }

    /// The GPUs, by label.
    pub(crate) fn gpus(&self) -> Result<Vec<(String, Gpu)>> {
        let found = if self.simulated { simulated()? } else { Gpu::discover()?.into_iter().collect() };
        let usable = found.into_iter().enumerate().filter(|(_, gpu)| gpu.svm().mirroring().is_ok());
        Ok(usable.map(|(index, gpu)| (format!("{}{index}", gpu.driver().name()), gpu)).collect())
    }
}

fn simulated() -> Result<Vec<Gpu>> {
    let kfd = Kfd::new(KfdConfig::with_gpus(vec![GpuConfig::mi200(0x4a3f, VRAM)]))?;
    let machine =
        Machine::new().with_xe(XeGpu::new(XeConfig::new(Platform::Battlemage).vram(VRAM))?).with_kfd(kfd);
    let gpus: Vec<Gpu> = Gpu::discover_in(&machine).into_iter().collect();
    for gpu in &gpus {
        if let Device::Kfd(kfd) = gpu.device() {
            kfd.process().set_xnack(Xnack::On)?;
        }
    }
    Ok(gpus)
}
