//! The driver's side of a mirror.

use std::sync::Arc;

use crate::device::{Device, KfdGpu};
use crate::error::{Error, ErrorKind, Result};
use crate::kfd::{self, Node};
use crate::location::{Location, VramRegion};
use crate::range::{PageRange, SIZE_2M};
use crate::xe;

use super::advice::{Advisee, Kinds, Settings};
use super::granularity::DefaultGranularity;
use super::trial::{self, Trial};

const ADVISE: &str = "Mirror::advise";

/// What the driver was asked to make for a mirror.
#[derive(Debug)]
pub(super) enum Space {
    Xe {
        vm: xe::Vm,
        /// The GPU has one VRAM region, so "the memory of the GPU that faults" is that region.
        one_region: bool,
    },
    Kfd {
        gpu: Arc<KfdGpu>,
        /// Resets of the GPU before this mirror.
        resets: u64,
        default_granularity: DefaultGranularity,
    },
}

/// Where a prefetch goes: xe's number of a memory region of the mirror's own GPU, where 0 is system memory. KFD has one region, 1 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target(u16);

/// What came of saying where a prefetch goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Nothing was said.
    Unsaid,
    /// Memory of a GPU that the mirror's driver cannot bring pages to.
    OtherGpu,
    /// Memory of another GPU, which the driver may have a way to.
    Peer(Box<VramRegion>),
    /// Memory that the GPU does not have.
    NoVram,
    /// A place.
    At(Target),
}

impl Target {
    pub(super) const SYSTEM: Self = Self(0);
    /// Memory of another GPU, which the advice in force prefers. xe only.
    pub(super) const PEER: Self = Self(u16::MAX);

    #[inline]
    pub(super) const fn is_vram(self) -> bool {
        self.0 != Self::SYSTEM.0
    }

    /// The number of the memory region, on xe.
    pub(super) const fn region(self) -> u16 {
        self.0
    }
}

impl Space {
    pub(super) fn new(device: &Device) -> Result<Self> {
        match device {
            Device::Xe(device) => {
                let vm = xe::Vm::create(device, xe::VmFlags::SVM)?;
                vm.mirror_all()?;
                Self::of_vm(vm)
            }
            Device::Kfd(gpu) => {
                gpu.acquire()?;
                let resets = gpu.resets()?;
                gpu.try_migration(resets, || Ok(trial::migrate_a_page(gpu)? == Trial::Intact))?;
                let default_granularity = DefaultGranularity::default();
                Ok(Self::Kfd { gpu: gpu.clone(), resets, default_granularity })
            }
        }
    }

    /// A VM in which memory is mirrored already.
    pub(super) fn of_vm(vm: xe::Vm) -> Result<Self> {
        let regions = vm.device().memory_regions()?;
        let vram = regions.iter().filter(|region| region.class == xe::MemoryClass::Vram);
        Ok(Self::Xe { one_region: vram.count() == 1, vm })
    }

    pub(super) const fn vm(&self) -> Option<&xe::Vm> {
        match self {
            Self::Xe { vm, .. } => Some(vm),
            Self::Kfd { .. } => None,
        }
    }

    /// Translates a location for a prefetch by GPU `own`.
    #[inline(always)]
    pub(super) fn goal(own: &Device, to: &Location) -> Goal {
        match to {
            Location::System => Goal::At(Target::SYSTEM),
            Location::Vram(region) if region.device() != own => peer(own, region),
            Location::Vram(region) if region.size() == 0 => Goal::NoVram,
            Location::Vram(region) => Goal::At(Target(region.number())),
        }
    }

    /// Fails once amdgpu has reset the GPU: nothing in its memory can be relied on, and the driver may have stopped copying what it
    /// migrates. xe refuses by itself.
    pub(super) fn check_for_resets(&self, range: PageRange) -> Result<()> {
        match self {
            Self::Xe { .. } => Ok(()),
            Self::Kfd { gpu, resets, .. } if gpu.resets()? == *resets => Ok(()),
            Self::Kfd { .. } => Err(Error::new(ErrorKind::DeviceLost, "Mirror::prefetch")
                .over(range)
                .because("the driver has reset the GPU since this mirror was made: data that was in its memory, or on the way there or back, may be lost")
                .hint_is("make that data again, and a new mirror, which tries first whether the driver still copies what it migrates")),
        }
    }

    /// The GPU's own memory, or system memory if it has none.
    pub(super) fn nearest(&self) -> Result<Target> {
        match self {
            Self::Xe { vm, .. } => {
                let regions = vm.device().memory_regions()?;
                let vram = regions.iter().find(|region| region.class == xe::MemoryClass::Vram);
                Ok(vram.map_or(Target::SYSTEM, |region| Target(region.instance)))
            }
            Self::Kfd { gpu, .. } => {
                let bytes = gpu.node()?.vram_bytes();
                Ok(if bytes == 0 { Target::SYSTEM } else { Target(1) })
            }
        }
    }

    /// The pieces in which what stayed behind of a prefetch is tried once more. Cut out of the range of the first call, they take
    /// apart nothing that this call left whole.
    ///
    /// KFD divides a range at multiples of a power of two, at most 1 GiB, that follows from the smallest VRAM of the machine
    /// (`svm_range_set_max_pages`). Attributes of a part would take such a piece apart, and amdgpu (7.3.4) miscounts the pages in
    /// VRAM of one that is not there as a whole (`svm_range_split_pages`) and takes memory that it has given back
    /// (`svm_range_clone`): lost data, touches that never end.
    pub(super) fn retried_blocks(&self) -> u64 {
        match self {
            Self::Xe { .. } => SIZE_2M,
            Self::Kfd { gpu, .. } => largest_piece(gpu.node().map_or(0, Node::vram_bytes)),
        }
    }

    /// Makes the one call that prefetches.
    pub(super) fn prefetch(&self, range: PageRange, target: Target) -> Result<()> {
        match self {
            Self::Xe { vm, .. } if target == Target::PEER => vm.prefetch(range, xe::PrefetchTarget::Advised),
            _ => self.prefetch_own(range, target),
        }
    }

    /// As [`prefetch`](Self::prefetch), to system memory or memory of the mirror's own GPU.
    #[inline(always)]
    pub(super) fn prefetch_own(&self, range: PageRange, target: Target) -> Result<()> {
        match self {
            Self::Xe { vm, .. } => vm.prefetch_inlined(range, xe::PrefetchTarget::Region(target.region())),
            Self::Kfd { gpu, .. } => prefetch_kfd(gpu, range, target),
        }
    }

    /// Finds out whether the device was lost during a prefetch that the driver called a success: xe answers 0 also when it
    /// gave the device up while it copied, and what was on its way then is not what it was.
    pub(super) fn check_alive(&self, range: PageRange) -> Result<()> {
        match self {
            Self::Xe { vm, .. } => vm.device().check_alive().map_err(|error| {
                let lost = "the device was lost during the prefetch";
                error
                    .over(range)
                    .because(lost)
                    .hint_is("pages that were being copied may have lost their content: fill them anew; the kernel log says why")
            }),
            // Other failures come to light in the pages.
            Self::Kfd { .. } => self.check_for_resets(range),
        }
    }
}

impl Advisee for Space {
    #[inline]
    fn advise(&self, range: PageRange, settings: &Settings) -> Result<()> {
        match self {
            Self::Xe { vm, one_region } => advise_xe(vm, *one_region, range, settings),
            Self::Kfd { gpu, .. } => advise_kfd(gpu, range, settings),
        }
    }

    #[inline]
    fn restore(&self, range: PageRange, was: Kinds, now: &Settings) -> Result<()> {
        match self {
            Self::Xe { vm, one_region } => {
                if was.contains(Kinds::PREFERRED) {
                    let location = match &now.preferred {
                        Some(location) => preferred_xe(vm, *one_region, location)?,
                        None => xe::PreferredLocation::FaultingDevice,
                    };
                    vm.advise(range, xe::Advice::PreferredLocation(location))?;
                }
                if was.contains(Kinds::ATOMICS) {
                    vm.advise(range, xe::Advice::Atomic(now.atomics.unwrap_or_default()))?;
                }
                Ok(())
            }
            Self::Kfd { gpu, default_granularity, .. } => {
                restore_kfd(gpu, default_granularity, range, was, now)
            }
        }
    }
}

/// At least what KFD takes when this GPU's VRAM is the smallest of the machine; a multiple of it takes nothing apart either.
fn largest_piece(vram: u64) -> u64 {
    const LARGEST: u64 = 1 << 30;
    (vram / 32).clamp(SIZE_2M, LARGEST).next_power_of_two()
}

fn prefetch_kfd(gpu: &KfdGpu, range: PageRange, target: Target) -> Result<()> {
    let to = if target.is_vram() { kfd::Location::Gpu(gpu.id()) } else { kfd::Location::System };
    let attributes = [kfd::SvmAttribute::Access(gpu.id()), kfd::SvmAttribute::Prefetch(to)];
    gpu.process().set_attributes(range, &attributes)
}

/// What memory of another GPU is to a prefetch.
#[cold]
fn peer(own: &Device, region: &VramRegion) -> Goal {
    match (own, region.device()) {
        (Device::Xe(_), Device::Xe(_)) if region.size() == 0 => Goal::NoVram,
        (Device::Xe(_), Device::Xe(_)) => Goal::Peer(Box::new(region.clone())),
        _ => Goal::OtherGpu,
    }
}

#[inline]
fn advise_xe(vm: &xe::Vm, one_region: bool, range: PageRange, settings: &Settings) -> Result<()> {
    if settings.granularity.is_some() {
        return Err(unadvisable(range, "xe chooses its migration granularity by itself"));
    }
    if let Some(location) = &settings.preferred {
        vm.advise(range, xe::Advice::PreferredLocation(preferred_xe(vm, one_region, location)?))?;
    }
    if let Some(mode) = settings.atomics {
        vm.advise(range, xe::Advice::Atomic(mode))?;
    }
    Ok(())
}

#[inline]
fn preferred_xe<'l>(
    vm: &xe::Vm,
    one_region: bool,
    location: &'l Location,
) -> Result<xe::PreferredLocation<'l>> {
    match location {
        Location::System => Ok(xe::PreferredLocation::System),
        Location::Vram(region) => match region.device() {
            // Says the same as naming the region, and kernels before 7.0 cannot name one.
            Device::Xe(device) if one_region && device == vm.device() => {
                Ok(xe::PreferredLocation::FaultingDevice)
            }
            Device::Xe(device) => Ok(xe::PreferredLocation::Region { device, instance: region.instance() }),
            Device::Kfd(_) => Err(unadvisable_location()),
        },
    }
}

#[inline(never)]
fn advise_kfd(gpu: &KfdGpu, range: PageRange, settings: &Settings) -> Result<()> {
    if settings.atomics.is_some() {
        return Err(unadvisable(range, "KFD has no advice about atomic operations"));
    }
    let preferred = settings.preferred.as_ref().map(preferred_kfd).transpose()?;
    let granularity = settings.granularity.map(granularity_kfd).transpose()?;
    set_kfd(
        gpu,
        range,
        preferred.map(|location| kfd::SvmAttribute::Preferred(Some(location))),
        granularity.map(kfd::SvmAttribute::Granularity),
    )
}

#[inline(never)]
fn restore_kfd(
    gpu: &KfdGpu,
    default_granularity: &DefaultGranularity,
    range: PageRange,
    was: Kinds,
    now: &Settings,
) -> Result<()> {
    let preferred = now.preferred.as_ref().map(preferred_kfd).transpose()?;
    let granularity = match now.granularity {
        _ if !was.contains(Kinds::GRANULARITY) => None,
        Some(bytes) => Some(granularity_kfd(bytes)?),
        None => Some(default_granularity.get(gpu.process())?),
    };
    set_kfd(
        gpu,
        range,
        was.contains(Kinds::PREFERRED).then_some(kfd::SvmAttribute::Preferred(preferred)),
        granularity.map(kfd::SvmAttribute::Granularity),
    )
}

/// Sets up to two attributes in one call, without allocation.
fn set_kfd(
    gpu: &KfdGpu,
    range: PageRange,
    first: Option<kfd::SvmAttribute>,
    second: Option<kfd::SvmAttribute>,
) -> Result<()> {
    match (first, second) {
        (Some(first), Some(second)) => gpu.process().set_attributes(range, &[first, second]),
        (Some(only), None) | (None, Some(only)) => gpu.process().set_attributes(range, &[only]),
        (None, None) => Ok(()),
    }
}

fn preferred_kfd(location: &Location) -> Result<kfd::Location> {
    match location {
        Location::System => Ok(kfd::Location::System),
        Location::Vram(region) => match region.device() {
            Device::Kfd(gpu) => Ok(kfd::Location::Gpu(gpu.id())),
            Device::Xe(_) => Err(unadvisable_location()),
        },
    }
}

fn granularity_kfd(bytes: u64) -> Result<kfd::Granularity> {
    kfd::Granularity::from_bytes(bytes).ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument, ADVISE).because(format!(
            "a migration granularity of {bytes} bytes is no power of two of at least a page"
        ))
    })
}

#[cold]
fn unadvisable(range: PageRange, reason: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, ADVISE).over(range).because(reason)
}

#[cold]
fn unadvisable_location() -> Error {
    Error::new(ErrorKind::Unsupported, ADVISE)
        .because("the preferred memory belongs to a GPU of another driver")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_a_power_of_two_that_kfd_divides_at_or_more() {
        for (vram, piece) in [
            (0, SIZE_2M),
            (16 << 20, SIZE_2M),
            (256 << 20, 8 << 20),
            (240 << 20, 8 << 20),
            (16 << 30, 512 << 20),
            (48 << 30, 1 << 30),
            (192 << 30, 1 << 30),
        ] {
            assert_eq!(largest_piece(vram), piece, "{vram}");
        }
    }
}
