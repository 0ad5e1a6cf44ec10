//! The driver's side of a mirror.

use std::sync::Arc;

use crate::device::{Device, KfdGpu};
use crate::error::{Error, ErrorKind, Result};
use crate::kfd;
use crate::location::Location;
use crate::range::{PageRange, SIZE_2M};
use crate::xe;

/// What the driver was asked to make for a mirror.
#[derive(Debug)]
pub(super) enum Space {
    Xe(xe::Vm),
    Kfd(Arc<KfdGpu>),
}

/// Where a prefetch goes, in the driver's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// System memory.
    System,
    /// A VRAM region of the mirror's own GPU, by the driver's number.
    Vram(u16),
}

impl Target {
    pub(super) const fn is_vram(self) -> bool {
        matches!(self, Self::Vram(_))
    }
}

impl Space {
    pub(super) fn new(device: &Device) -> Result<Self> {
        match device {
            Device::Xe(device) => {
                let vm = xe::Vm::create(device, xe::VmFlags::SVM)?;
                vm.mirror_all()?;
                Ok(Self::Xe(vm))
            }
            Device::Kfd(gpu) => {
                gpu.acquire()?;
                Ok(Self::Kfd(gpu.clone()))
            }
        }
    }

    /// Translates a location, refusing what this GPU cannot prefetch to.
    pub(super) fn target(&self, own: &Device, to: &Location) -> Result<Target> {
        let region = match to {
            Location::System => return Ok(Target::System),
            Location::Vram(region) => region,
        };
        if region.device() != own {
            return Err(unsupported("the target is memory of another GPU")
                .hint_is("prefetch through a mirror of the GPU that owns the memory"));
        }
        if region.size() == 0 {
            return Err(unsupported("the GPU has no memory of its own; it works on system memory directly"));
        }
        Ok(Target::Vram(region.instance()))
    }

    /// Makes the one call that prefetches.
    pub(super) fn prefetch(&self, range: PageRange, target: Target) -> Result<()> {
        match self {
            Self::Xe(vm) => vm.prefetch(
                range,
                match target {
                    Target::System => xe::PrefetchTarget::System,
                    Target::Vram(instance) => xe::PrefetchTarget::Region(instance),
                },
            ),
            Self::Kfd(gpu) => {
                let to = match target {
                    Target::System => kfd::Location::System,
                    Target::Vram(_) => kfd::Location::Gpu(gpu.id()),
                };
                let attributes = [kfd::SvmAttribute::Access(gpu.id()), kfd::SvmAttribute::Prefetch(to)];
                gpu.process().set_attributes(range, &attributes)
            }
        }
    }

    /// Whether not even one block of 2 MiB is free in the target region, as far as the driver tells. An estimate, used to
    /// explain, never to decide.
    pub(super) fn vram_is_full(&self, target: Target) -> bool {
        match (self, target) {
            (_, Target::System) => false,
            (Self::Xe(vm), Target::Vram(instance)) => vm
                .device()
                .memory_regions()
                .ok()
                .and_then(|regions| regions.into_iter().find(|region| region.instance == instance))
                .is_some_and(|region| region.total.saturating_sub(region.used) < SIZE_2M),
            (Self::Kfd(gpu), Target::Vram(_)) => {
                gpu.process().available_memory(gpu.id()).is_ok_and(|available| available < SIZE_2M)
            }
        }
    }
}

fn unsupported(reason: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, "Mirror::prefetch").because(reason)
}
