//! How a compute runtime embeds the crate: its own driver objects are adopted, its data comes from an allocator, and prefetches go
//! on in the background, within a budget, while events tell what happened.
//!
//! `cargo run --features allocator-api2 --example runtime -- [--device simulated-xe|simulated-amdgpu|/dev/dri/renderD128|amdgpu]`

mod driver;
mod launch;

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use drm_pagemap::alloc::{SvmAlloc, Vec};
use drm_pagemap::budget::Policy;
use drm_pagemap::events::{Events, What};
use drm_pagemap::prefetcher::Priority;
use drm_pagemap::{Budget, Mirror, Prefetcher, residency};

const USAGE: &str = "\
Usage: cargo run --features allocator-api2 --example runtime -- [--device NAME]

  --device NAME   simulated-xe (default), simulated-amdgpu, amdgpu, or the path of a render node of xe";

/// Everything that a runtime keeps for one GPU.
struct Runtime {
    gpu: drm_pagemap::Gpu,
    mirror: Arc<Mirror>,
    alloc: SvmAlloc,
    prefetcher: Prefetcher,
    events: Events,
    // The runtime's own objects outlive everything that uses them, so they come last.
    _driver: driver::Objects,
}

impl Runtime {
    fn new(device: &str) -> Result<Self> {
        // A runtime has a VM (xe) or a process (KFD) of its own; the crate uses it and never ends it.
        let driver = driver::Objects::open(device)?;
        let (gpu, mirror) = driver.adopt()?;
        let mirror = Arc::new(mirror);
        // Freed memory loses the advice that was given for it, before its addresses are given out again.
        let alloc = SvmAlloc::for_mirrors([mirror.clone()]);
        // What does not fit sends the runtime's own oldest data back, and nothing else.
        let budget = Budget::new(&gpu.vram_regions()[0])?.with_policy(Policy::Evict);
        let prefetcher = Prefetcher::builder(mirror.clone()).threads(2).budget(Arc::new(budget)).build()?;
        let events = Events::of(mirror.clone())?;
        Ok(Self { gpu, mirror, alloc, prefetcher, events, _driver: driver })
    }

    /// A buffer as the runtime's users get it: a vector, in memory that GPUs migrate well.
    fn buffer(&self, len: usize) -> Vec<u32, SvmAlloc> {
        let mut data = Vec::with_capacity_in(len, self.alloc.clone());
        data.extend((0..len).map(|index| index as u32));
        data
    }

    /// One step of work: the data goes to VRAM in the background, then the GPU works on it.
    fn step(&self, data: &mut Vec<u32, SvmAlloc>) -> Result<()> {
        let pending = self.prefetcher.prefetch(data).to(self.gpu.vram()).priority(Priority::HIGH).submit()?;
        // … the runtime compiles a kernel, fills in arguments …
        let outcome = pending.wait()?;
        println!("prefetch: {outcome}");
        println!("{}", residency::of(data)?);
        if !outcome.is_complete() && !outcome.retry_useful() {
            bail!("the GPU would have to work on system memory: {outcome}");
        }
        launch::increment(&self.mirror, data)
    }

    /// What the driver and the crate have seen since the last call.
    fn report(&mut self) -> Result<usize> {
        let mut seen = 0;
        for event in self.events.drain() {
            let event = event?;
            // Migrations that nobody asked for are what makes programs slow.
            let unasked =
                matches!(&event.what, What::MigrationEnded { migration, .. } if migration.request.is_none());
            println!("{} {event}", if unasked { "!" } else { " " });
            seen += 1;
        }
        Ok(seen)
    }
}

fn run(device: &str) -> Result<()> {
    let mut runtime = Runtime::new(device)?;
    println!("GPU: {}", runtime.gpu.name());
    let mut data = runtime.buffer(1 << 20);
    runtime.step(&mut data)?;
    ensure!(data[0] == 1 && data[1..].iter().zip(1..).all(|(&word, index)| word == index), "a word is wrong");
    ensure!(runtime.report()? > 0, "nothing was seen of a prefetch");
    let used = runtime.alloc.usage();
    drop(data);
    println!("allocator: {} bytes were used, {} are left", used.used, runtime.alloc.usage().used);
    Ok(())
}

fn main() -> Result<()> {
    let mut device = "simulated-xe".to_owned();
    let mut options = lexopt::Parser::from_env();
    while let Some(option) = options.next()? {
        match option {
            lexopt::Arg::Long("device") => device = options.value()?.to_string_lossy().into_owned(),
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => {
                println!("{USAGE}");
                return Ok(());
            }
            other => bail!("{}\n\n{USAGE}", other.unexpected()),
        }
    }
    run(&device)
}

#[test]
fn it_runs_on_a_simulated_xe() {
    run("simulated-xe").unwrap();
}

#[test]
fn it_runs_on_a_simulated_amdgpu() {
    run("simulated-amdgpu").unwrap();
}
