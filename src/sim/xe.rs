//! A simulated xe device: the driver's ioctls, with the kernel's order of checks and meaning.
//!
//! [`XeGpu`] is one device, made from an [`XeConfig`]; [`XeGpu::open`] opens it as a render node. What the real driver gets wrong or
//! leaves unsaid is simulated as well: a prefetch that cannot move its pages succeeds, unmapping is refused while the GPU
//! uses pages, advice compares file numbers. Sources are the driver's own (`xe_vm.c`, `xe_svm.c`, `xe_vm_madvise.c`,
//! `drm_gpusvm.c`, `xe_pagefault.c`; Linux 7.3), and for older kernels the trees of 6.17 to 7.0.
//!
//! ```no_run
//! use drm_pagemap::PageRange;
//! use drm_pagemap::sim::xe::{KernelVersion, Platform, XeConfig, XeGpu};
//! use drm_pagemap::xe::{Device, PrefetchTarget, Vm, VmFlags};
//!
//! let gpu = XeGpu::new(XeConfig::new(Platform::Battlemage).kernel(KernelVersion::V6_18))?;
//! let device = Device::from_channel(gpu.open()?)?;
//! let vm = Vm::create(&device, VmFlags::SVM)?;
//! vm.mirror_all()?;
//! let data = vec![1.0f32; 1 << 20];
//! vm.prefetch(PageRange::covering(&data), PrefetchTarget::Region(1))?;
//! # Ok::<(), drm_pagemap::Error>(())
//! ```

mod address_space;
mod attributes;
mod bind;
mod check;
mod config;
mod cpu;
mod cuts;
mod engine;
mod fault;
mod gpu;
mod gpu_memory;
mod huge;
mod ids;
mod madvise;
mod node;
mod object;
mod place;
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
pub use gpu::{XeGpu, XeInjection};

#[cfg(test)]
mod tests;
