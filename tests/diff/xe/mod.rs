//! The xe driver under comparison.
//!
//! Addresses are page numbers in an arena at a fixed address: `at=5 pages=3` is pages 5 to 7. The arena proper has
//! [`crate::memory::PAGES`] pages; behind it, at [`crate::memory::CONTROL`], lie pages that steps use for batches and fences, and that a
//! mirror has to cover for GPU commands to work. Every ioctl step takes `pad=`, `reserved=` and `ext=` to put rubbish where
//! zeroes belong.

mod bind;
mod bo;
mod deviations;
mod generate;
mod mistakes;
mod query;
mod queue;
mod subject;
mod words;

use std::fs;
use std::path::PathBuf;

use drm_pagemap::channel::Channel;
use drm_pagemap::sim::xe::{KernelVersion, Platform, XeConfig, XeGpu};
use drm_pagemap::xe::{Device, MemoryClass};

use crate::frame::{self, Corpus, Deviation, Model, Random, Side, Step, Subject};

/// The model.
#[derive(Debug)]
pub(crate) struct Xe;

impl Model for Xe {
    fn name(&self) -> &'static str {
        "xe"
    }

    fn lacking(&self) -> Option<String> {
        if node().is_none() {
            return Some("there is no render node of xe".to_owned());
        }
        // What the kernel merges into huge pages, and when, is its own affair: only where a step asks for it.
        let _ = fs::write("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
        let _ =
            fs::write("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", "4294967295");
        None
    }

    fn generate(&self, random: &mut Random, steps: usize) -> Vec<Step> {
        generate::script(random, steps)
    }

    fn start(&self, side: Side) -> Result<Box<dyn Subject>, String> {
        let open = || match side {
            Side::Real => real(),
            Side::Sim => simulated(),
        };
        Ok(Box::new(subject::Open::new(open()?)?))
    }

    fn deviations(&self) -> &'static [Deviation] {
        deviations::KNOWN
    }

    fn corpus(&self) -> Corpus {
        // Generated scripts that were once compared are kept as they are, so that a better generator does not change the corpus.
        Corpus { seeds: 0..0, steps: 30 }
    }
}

/// The first render node of xe.
fn node() -> Option<PathBuf> {
    let mut nodes: Vec<PathBuf> =
        fs::read_dir("/dev/dri").ok()?.flatten().map(|entry| entry.path()).collect();
    nodes.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("renderD")));
    nodes.sort();
    nodes.into_iter().find(|path| Device::open(path).is_ok())
}

fn real() -> Result<Channel, String> {
    let path = node().ok_or("there is no render node of xe")?;
    Channel::open(&path).map_err(|error| error.to_string())
}

/// A device like the real one that is here, if one is: as much VRAM, the running kernel's generation.
fn simulated() -> Result<Channel, String> {
    let failed = |error: drm_pagemap::Error| error.to_string();
    // The lab's virtual GPU has no compressed memory.
    let mut config = XeConfig::new(Platform::Battlemage).kernel(generation()).without_compression();
    if let Some(path) = node() {
        let regions = Device::open(&path).and_then(|device| device.memory_regions()).map_err(failed)?;
        if let Some(vram) = regions.iter().find(|region| region.class == MemoryClass::Vram) {
            config = config.vram(vram.total);
        }
    }
    XeGpu::new(config).and_then(|gpu| gpu.open()).map_err(failed)
}

/// The generation of the kernel to be like, or the newest that is simulated.
fn generation() -> KernelVersion {
    let release = frame::like();
    let mut numbers = release.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
        (6, 16) => KernelVersion::V6_16,
        (6, 17) => KernelVersion::V6_17,
        (6, 18) => KernelVersion::V6_18,
        (6, 19) => KernelVersion::V6_19,
        (7, 0) => KernelVersion::V7_0,
        (7, 1) => KernelVersion::V7_1,
        (7, 2) => KernelVersion::V7_2,
        _ => KernelVersion::LATEST,
    }
}
