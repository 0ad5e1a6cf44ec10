//! A simulated xe device: the driver's ioctls, with the kernel's order of checks and meaning.
//!
//! [`XeGpu`] is one device, made from an [`XeConfig`]; [`XeGpu::open`] opens it as a render node. What the real driver gets wrong or
//! leaves unsaid is simulated as well: a prefetch that cannot move its pages succeeds, unmapping is refused while the GPU
//! uses pages, advice compares file numbers. Sources are the driver's own (`xe_vm.c`, `xe_svm.c`, `xe_vm_madvise.c`,
//! `drm_gpusvm.c`, `xe_pagefault.c`; Linux 7.3), and for older kernels the trees of 6.17 to 7.0.

mod address_space;
mod attributes;
mod bind;
mod check;
mod config;
mod cpu;
mod engine;
mod gpu;
mod ids;
mod madvise;
mod node;
mod object;
mod prefetch;
mod property;
mod query;
mod queue;
mod ranges;
mod sync;
mod syncobj;
mod vmas;
mod wait;

pub use config::{KernelVersion, Platform, XeConfig};
pub use gpu::XeGpu;

#[cfg(test)]
mod tests;
