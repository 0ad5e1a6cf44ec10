//! What each GPU of this machine offers, and why shared virtual memory is or is not usable there.
//!
//! `cargo run --release --example info`

use anyhow::{Result, bail};
use drm_pagemap::outcome::Bytes;
use drm_pagemap::{Device, Gpu};

fn main() -> Result<()> {
    let simulated_too = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--simulated") => true,
        Some("--help" | "-h") => {
            println!("Usage: cargo run --release --example info -- [--simulated]");
            return Ok(());
        }
        Some(other) => bail!("unknown option {other:?}; --simulated shows the simulated GPUs as well"),
    };
    let found = Gpu::discover()?;
    for gpu in found.gpus() {
        describe(gpu)?;
    }
    for passed_over in found.passed_over() {
        println!("{passed_over}");
    }
    if found.gpus().is_empty() {
        println!(
            "\nNo GPU that this crate can use. The simulated one works everywhere: --simulated shows it."
        );
    }
    if simulated_too {
        println!();
        describe(&Gpu::simulated())?;
    }
    Ok(())
}

fn describe(gpu: &Gpu) -> Result<()> {
    println!("{}", gpu.name());
    match gpu.svm().mirroring() {
        Ok(()) => println!("  shared virtual memory    yes"),
        Err(unmet) => println!("  shared virtual memory    no: {unmet}"),
    }
    match gpu.svm().migration() {
        Ok(()) => println!("  prefetch into VRAM       yes"),
        Err(unmet) => println!("  prefetch into VRAM       no: {unmet}"),
    }
    for region in gpu.vram_regions().iter().filter(|region| region.size() > 0) {
        println!("  VRAM region {}            {}", region.instance(), Bytes(region.size()));
    }
    match gpu.device() {
        Device::Xe(device) => {
            let config = device.config();
            println!("  GPU addresses            {} bits", config.va_bits);
            println!("  PCI device               8086:{:04x} revision {}", config.device_id, config.revision);
        }
        Device::Kfd(kfd) => {
            println!("  KFD interface            {}", kfd.process().version());
            println!("  GPU page faults (XNACK)  {:?}", kfd.process().xnack()?);
            println!("  KFD id                   {}", kfd.id());
        }
        other => println!("  {other:?}"),
    }
    Ok(())
}
