//! Which GPUs an example runs on.

use anyhow::{Context, Result, bail};
use drm_pagemap::Gpu;
use drm_pagemap::sim::Machine;
use drm_pagemap::sim::xe::{Platform, XeConfig, XeGpu};

/// VRAM of each simulated GPU: small, so that the examples need little memory.
const VRAM: u64 = 64 << 20;

/// The GPUs that `--gpu simulated|NUMBER|all` asks for; by default `count` simulated ones. `None`: only help was asked for.
pub(crate) fn gpus(about: &str, count: usize) -> Result<Option<Vec<Gpu>>> {
    use lexopt::prelude::*;
    let mut wanted = "simulated".to_owned();
    let mut options = lexopt::Parser::from_env();
    while let Some(option) = options.next()? {
        match option {
            Long("gpu") => wanted = options.value()?.string()?,
            Short('h') | Long("help") => {
                println!(
                    "{about}\n\n  --gpu WHICH   simulated (default), all, or a number: the real GPUs that `--example info` lists"
                );
                return Ok(None);
            }
            other => bail!("{}; --help lists the options", other.unexpected()),
        }
    }
    if wanted == "simulated" {
        return simulated(count).map(Some);
    }
    let found: Vec<Gpu> = Gpu::discover()?.into_iter().filter(|gpu| gpu.svm().mirroring().is_ok()).collect();
    if wanted == "all" {
        if found.len() < count {
            bail!(
                "{} GPUs with shared virtual memory here, {count} needed; `--example doctor` says why",
                found.len()
            );
        }
        return Ok(Some(found));
    }
    let number: usize =
        wanted.parse().with_context(|| format!("--gpu {wanted}: simulated, all, or a number"))?;
    let gpu = found
        .get(number)
        .with_context(|| format!("no GPU {number} among the {} usable ones", found.len()))?;
    Ok(Some(vec![gpu.clone()]))
}

fn simulated(count: usize) -> Result<Vec<Gpu>> {
    let mut machine = Machine::new();
    for _ in 0..count {
        machine = machine.with_xe(XeGpu::new(XeConfig::new(Platform::Battlemage).vram(VRAM))?);
    }
    Ok(Gpu::discover_in(&machine).into_iter().collect())
}
