//! Device query: memory regions, engines, GTs, configuration.

use bytemuck::Pod;

use super::errors::{Meaning, explain, means};
use crate::channel::{Channel, Retry};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::uapi::IoctlArg;
use crate::uapi::xe as abi;

pub(super) const CALL: &str = abi::DeviceQuery::NAME;

const MEANINGS: &[Meaning] = &[
    means(
        Errno::EINVAL,
        ErrorKind::Unsupported,
        "this kernel does not know the query, or its answer kept changing its size",
        "use Linux 6.8 or newer",
    ),
    // The one query that answers a failed copy with its own errno (`query_mem_regions`).
    means(
        Errno::ENOSPC,
        ErrorKind::NotMapped,
        "the driver could not copy its answer out",
        "report this: the buffer belongs to the crate",
    ),
    means(
        Errno::EOPNOTSUPP,
        ErrorKind::Unsupported,
        "a virtual function cannot answer this query",
        "ask on the physical function",
    ),
    means(
        Errno::EIO,
        ErrorKind::DeviceLost,
        "the driver could not read the answer from the hardware",
        "look into the kernel log",
    ),
];

/// Most changes of an answer's size between asking for the size and asking for the answer.
const SIZE_ATTEMPTS: u32 = 16;

/// The answer to `query`, as 64-bit words: every xe answer is a multiple of 8 bytes and aligned so.
fn ask(channel: &Channel, query: u32) -> Result<Vec<u64>> {
    let mut attempts = 0;
    loop {
        let mut arg = abi::DeviceQuery { query, ..Default::default() };
        // SAFETY: with size 0 the kernel writes the argument only.
        unsafe { channel.call(&mut arg, Retry::Always) }.map_err(|error| explain(error, MEANINGS))?;
        let mut answer = vec![0u64; (arg.size as usize).div_ceil(8)];
        arg.data = answer.as_mut_ptr() as u64;
        // SAFETY: the kernel writes exactly `size` bytes to `data`, or refuses when its answer is not that long; `answer` has at
        // least as many and lives until after the call.
        match unsafe { channel.call(&mut arg, Retry::Always) } {
            Ok(()) => return Ok(answer),
            Err(error) if error.errno() == Some(Errno::EINVAL) && attempts < SIZE_ATTEMPTS => attempts += 1,
            Err(error) => return Err(explain(error, MEANINGS)),
        }
    }
}

/// The elements behind the 8-byte head of an answer, as many as the head says.
fn elements<T: Pod>(answer: &[u64]) -> Result<&[T]> {
    let (head, rest) = answer.split_first().ok_or_else(|| short("an answer"))?;
    let count = *head as u32 as usize;
    let bytes: &[u8] = bytemuck::cast_slice(rest);
    let wanted = count.checked_mul(size_of::<T>()).filter(|&wanted| wanted <= bytes.len());
    let wanted = wanted.ok_or_else(|| short("the elements it promises"))?;
    // Alignment holds: the buffer consists of u64 and no element needs more.
    Ok(bytemuck::cast_slice(&bytes[..wanted]))
}

#[cold]
fn short(what: &str) -> Error {
    Error::new(ErrorKind::Other, CALL).because(format!("the driver's answer is too short for {what}"))
}

pub(super) fn config(channel: &Channel) -> Result<Vec<u64>> {
    let answer = ask(channel, abi::DRM_XE_DEVICE_QUERY_CONFIG)?;
    elements::<u64>(&answer).map(<[u64]>::to_vec)
}

pub(super) fn memory_regions(channel: &Channel) -> Result<Vec<MemoryRegion>> {
    let answer = ask(channel, abi::DRM_XE_DEVICE_QUERY_MEM_REGIONS)?;
    Ok(elements::<abi::MemRegion>(&answer)?.iter().map(MemoryRegion::from).collect())
}

pub(super) fn engines(channel: &Channel) -> Result<Vec<Engine>> {
    let answer = ask(channel, abi::DRM_XE_DEVICE_QUERY_ENGINES)?;
    Ok(elements::<abi::Engine>(&answer)?.iter().map(|engine| Engine::from(engine.instance)).collect())
}

pub(super) fn gts(channel: &Channel) -> Result<Vec<Gt>> {
    let answer = ask(channel, abi::DRM_XE_DEVICE_QUERY_GT_LIST)?;
    Ok(elements::<abi::Gt>(&answer)?.iter().map(Gt::from).collect())
}

/// What kind of memory a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryClass {
    /// The machine's ordinary memory.
    #[doc(alias = "DRM_XE_MEM_REGION_CLASS_SYSMEM")]
    System,
    /// Memory of the device.
    #[doc(alias = "DRM_XE_MEM_REGION_CLASS_VRAM")]
    Vram,
    /// A class newer than this crate.
    Other(u16),
}

/// One region of memory a device can place data in.
#[doc(alias = "drm_xe_mem_region")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryRegion {
    /// What kind of memory.
    pub class: MemoryClass,
    /// The region's number, unique on the device: system memory is 0, VRAM regions count from 1, one for each tile.
    pub instance: u16,
    /// Smallest page, in bytes.
    pub min_page_size: u32,
    /// Size in bytes.
    pub total: u64,
    /// Bytes in use by all clients of the device; an estimate. Kernels before 6.18 tell only processes with
    /// `CAP_PERFMON`, and 0 to others.
    pub used: u64,
    /// Bytes that the CPU can reach.
    pub cpu_visible_size: u64,
    /// Bytes of that in use.
    pub cpu_visible_used: u64,
}

impl From<&abi::MemRegion> for MemoryRegion {
    fn from(raw: &abi::MemRegion) -> Self {
        Self {
            class: match raw.mem_class {
                abi::DRM_XE_MEM_REGION_CLASS_SYSMEM => MemoryClass::System,
                abi::DRM_XE_MEM_REGION_CLASS_VRAM => MemoryClass::Vram,
                other => MemoryClass::Other(other),
            },
            instance: raw.instance,
            min_page_size: raw.min_page_size,
            total: raw.total_size,
            used: raw.used,
            cpu_visible_size: raw.cpu_visible_size,
            cpu_visible_used: raw.cpu_visible_used,
        }
    }
}

/// A set of memory regions, one bit for each [`MemoryRegion::instance`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RegionMask(u64);

impl RegionMask {
    /// System memory alone.
    pub const SYSTEM: Self = Self(1);

    /// From the kernel's bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The kernel's bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set with region `instance` added. Instances of 64 and above do not exist and are left out.
    #[must_use]
    pub const fn with(self, instance: u16) -> Self {
        if instance < 64 { Self(self.0 | 1 << instance) } else { self }
    }

    /// Whether region `instance` is in the set.
    #[must_use]
    pub const fn contains(self, instance: u16) -> bool {
        instance < 64 && self.0 >> instance & 1 != 0
    }
}

/// What an engine is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EngineClass {
    /// 3D.
    #[doc(alias = "DRM_XE_ENGINE_CLASS_RENDER")]
    Render,
    /// Copies.
    #[doc(alias = "DRM_XE_ENGINE_CLASS_COPY")]
    Copy,
    /// Video decoding.
    #[doc(alias = "DRM_XE_ENGINE_CLASS_VIDEO_DECODE")]
    VideoDecode,
    /// Video processing.
    #[doc(alias = "DRM_XE_ENGINE_CLASS_VIDEO_ENHANCE")]
    VideoEnhance,
    /// Compute.
    #[doc(alias = "DRM_XE_ENGINE_CLASS_COMPUTE")]
    Compute,
    /// A class newer than this crate.
    Other(u16),
}

impl EngineClass {
    const fn raw(self) -> u16 {
        match self {
            Self::Render => abi::DRM_XE_ENGINE_CLASS_RENDER,
            Self::Copy => abi::DRM_XE_ENGINE_CLASS_COPY,
            Self::VideoDecode => abi::DRM_XE_ENGINE_CLASS_VIDEO_DECODE,
            Self::VideoEnhance => abi::DRM_XE_ENGINE_CLASS_VIDEO_ENHANCE,
            Self::Compute => abi::DRM_XE_ENGINE_CLASS_COMPUTE,
            Self::Other(raw) => raw,
        }
    }
}

/// One engine that work can be submitted to.
#[doc(alias = "drm_xe_engine_class_instance")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Engine {
    /// What it is made for.
    pub class: EngineClass,
    /// Counts within the class and GT.
    pub instance: u16,
    /// The GT it belongs to.
    pub gt_id: u16,
}

impl From<abi::EngineClassInstance> for Engine {
    fn from(raw: abi::EngineClassInstance) -> Self {
        Self {
            class: match raw.engine_class {
                abi::DRM_XE_ENGINE_CLASS_RENDER => EngineClass::Render,
                abi::DRM_XE_ENGINE_CLASS_COPY => EngineClass::Copy,
                abi::DRM_XE_ENGINE_CLASS_VIDEO_DECODE => EngineClass::VideoDecode,
                abi::DRM_XE_ENGINE_CLASS_VIDEO_ENHANCE => EngineClass::VideoEnhance,
                abi::DRM_XE_ENGINE_CLASS_COMPUTE => EngineClass::Compute,
                other => EngineClass::Other(other),
            },
            instance: raw.engine_instance,
            gt_id: raw.gt_id,
        }
    }
}

impl From<Engine> for abi::EngineClassInstance {
    fn from(engine: Engine) -> Self {
        Self {
            engine_class: engine.class.raw(),
            engine_instance: engine.instance,
            gt_id: engine.gt_id,
            pad: 0,
        }
    }
}

/// What a GT holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GtKind {
    /// Render, copy and compute engines.
    #[doc(alias = "DRM_XE_QUERY_GT_TYPE_MAIN")]
    Main,
    /// Video engines.
    #[doc(alias = "DRM_XE_QUERY_GT_TYPE_MEDIA")]
    Media,
    /// A kind newer than this crate.
    Other(u16),
}

/// Version of a graphics or media block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpVersion {
    /// Major number: 20 is Xe2, 30 Xe3.
    pub major: u16,
    /// Minor number, counted in hundredths (`20.01`).
    pub minor: u16,
    /// Revision.
    pub revision: u16,
}

/// One GT: a group of engines with its own firmware.
#[doc(alias = "drm_xe_gt")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gt {
    /// What it holds.
    pub kind: GtKind,
    /// The tile it is on; the tile's VRAM is region `tile_id + 1`.
    pub tile_id: u16,
    /// The GT's number, unique on the device.
    pub id: u16,
    /// Frequency of its timestamps, in Hz.
    pub reference_clock_hz: u32,
    /// Regions next to its engines.
    pub near_regions: RegionMask,
    /// Regions that are slower to reach.
    pub far_regions: RegionMask,
    /// Version of the graphics or media block.
    pub ip_version: IpVersion,
}

impl From<&abi::Gt> for Gt {
    fn from(raw: &abi::Gt) -> Self {
        Self {
            kind: match raw.gt_type {
                abi::DRM_XE_QUERY_GT_TYPE_MAIN => GtKind::Main,
                abi::DRM_XE_QUERY_GT_TYPE_MEDIA => GtKind::Media,
                other => GtKind::Other(other),
            },
            tile_id: raw.tile_id,
            id: raw.gt_id,
            reference_clock_hz: raw.reference_clock,
            near_regions: RegionMask(raw.near_mem_regions),
            far_regions: RegionMask(raw.far_mem_regions),
            ip_version: IpVersion {
                major: raw.ip_ver_major,
                minor: raw.ip_ver_minor,
                revision: raw.ip_ver_rev,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_cut_to_the_promised_count_and_never_read_beyond() {
        assert_eq!(elements::<u64>(&[2, 10, 11, 12]).unwrap(), [10, 11]);
        assert_eq!(elements::<u64>(&[0]).unwrap(), [0u64; 0]);
        assert!(elements::<u64>(&[]).is_err());
        assert!(elements::<u64>(&[2, 10]).unwrap_err().reason().contains("too short"));
        assert!(elements::<abi::MemRegion>(&[u64::from(u32::MAX), 0]).is_err());
    }

    /// Its answer has grown each time that it is asked for, until it has grown enough.
    #[derive(Debug)]
    struct Growing {
        until: u32,
        refusal: Errno,
        asked: std::sync::atomic::AtomicU32,
    }

    // SAFETY: it writes as many words as it was given room for.
    unsafe impl crate::channel::VirtualNode for Growing {
        unsafe fn ioctl(&self, _: u32, arg: &mut [u8]) -> Result<(), Errno> {
            let mut query: abi::DeviceQuery = bytemuck::pod_read_unaligned(arg);
            if query.data == 0 {
                let asked = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                query.size = 8 * (asked + 1);
                arg.copy_from_slice(bytemuck::bytes_of(&query));
                return Ok(());
            }
            let words = query.size / 8;
            if words < self.until {
                return Err(self.refusal);
            }
            let at = query.data as *mut u64;
            // SAFETY: the caller's array of `size` bytes.
            (0..words as usize).for_each(|word| unsafe { at.add(word).write(7) });
            Ok(())
        }

        fn name(&self) -> String {
            "growing".into()
        }
    }

    #[test]
    fn an_answer_that_has_grown_is_asked_for_again() {
        let ask = |until, refusal| {
            let node = Growing { until, refusal, asked: Default::default() };
            ask(&Channel::to_virtual(std::sync::Arc::new(node)), abi::DRM_XE_DEVICE_QUERY_CONFIG)
        };
        assert_eq!(ask(1, Errno::EINVAL).unwrap(), [7]);
        assert_eq!(ask(4, Errno::EINVAL).unwrap(), [7; 4]);
        assert_eq!(ask(SIZE_ATTEMPTS + 1, Errno::EINVAL).unwrap().len() as u32, SIZE_ATTEMPTS + 1);
        let error = ask(SIZE_ATTEMPTS + 2, Errno::EINVAL).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EINVAL), "it ends some day");
        assert_eq!(
            ask(2, Errno::EIO).unwrap_err().errno(),
            Some(Errno::EIO),
            "other errors are told at once"
        );
    }

    #[test]
    fn region_masks_hold_what_is_put_in() {
        let mask = RegionMask::SYSTEM.with(2).with(64).with(u16::MAX);
        assert_eq!(mask.bits(), 0b101);
        assert!(mask.contains(0) && mask.contains(2) && !mask.contains(1) && !mask.contains(64));
    }
}
