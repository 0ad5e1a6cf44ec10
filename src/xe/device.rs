//! An open render node of the xe driver.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::errors::explain;
use super::operation::Answers;
use super::pat::PatTable;
use super::query;
use super::query::{Engine, Gt, MemoryRegion};
use crate::channel::Channel;
use crate::drm;
use crate::error::{Error, ErrorKind, Result};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::uapi::drm::Version;
use crate::uapi::xe::{
    DRM_XE_QUERY_CONFIG_FLAG_HAS_CPU_ADDR_MIRROR, DRM_XE_QUERY_CONFIG_FLAG_HAS_DISABLE_STATE_CACHE_PERF_FIX,
    DRM_XE_QUERY_CONFIG_FLAG_HAS_LOW_LATENCY, DRM_XE_QUERY_CONFIG_FLAG_HAS_NO_COMPRESSION_HINT,
    DRM_XE_QUERY_CONFIG_FLAG_HAS_PURGING_SUPPORT, DRM_XE_QUERY_CONFIG_FLAG_HAS_VRAM,
    DRM_XE_QUERY_CONFIG_FLAGS, DRM_XE_QUERY_CONFIG_MAX_EXEC_QUEUE_PRIORITY,
    DRM_XE_QUERY_CONFIG_MIN_ALIGNMENT, DRM_XE_QUERY_CONFIG_REV_AND_DEVICE_ID, DRM_XE_QUERY_CONFIG_VA_BITS,
};

/// Facts about a device that never change while it is open (`DEVICE_QUERY`, `CONFIG`).
#[doc(alias = "drm_xe_query_config")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// PCI device id.
    pub device_id: u16,
    /// PCI revision.
    pub revision: u8,
    /// The device has memory of its own.
    pub has_vram: bool,
    /// Queues take the low-latency hint.
    pub has_low_latency: bool,
    /// The device serves page faults and the kernel mirrors CPU addresses: SVM works. Since kernel 6.15.
    pub has_cpu_addr_mirror: bool,
    /// Buffer objects take the hint not to be compressed. Since kernel 7.0.
    pub has_no_compression_hint: bool,
    /// Queues can turn a state-cache workaround off. Since kernel 7.1.
    pub has_disable_state_cache_perf_fix: bool,
    /// Buffer objects can be marked purgeable. Since kernel 7.1.
    pub has_purging_support: bool,
    /// Smallest alignment of a buffer object's mapping, in bytes: 4 KiB, or 64 KiB on DG2 and PVC.
    pub min_alignment: u64,
    /// Bits of a GPU virtual address: 48, or 57 on PVC and CRI. CPU addresses beyond cannot be mirrored.
    pub va_bits: u32,
    /// Highest queue priority this process may ask for: 2 with `CAP_SYS_NICE`, otherwise 1.
    pub max_exec_queue_priority: u32,
}

impl Config {
    fn read(channel: &Channel) -> Result<Self> {
        let info = query::config(channel)?;
        let value = |index: u32| {
            info.get(index as usize).copied().ok_or_else(|| {
                Error::new(ErrorKind::Unsupported, query::CALL)
                    .because(format!("the kernel's answer has no configuration value {index}"))
                    .hint_is("use Linux 6.8 or newer")
            })
        };
        let identity = value(DRM_XE_QUERY_CONFIG_REV_AND_DEVICE_ID)?;
        let flags = value(DRM_XE_QUERY_CONFIG_FLAGS)?;
        let va_bits = value(DRM_XE_QUERY_CONFIG_VA_BITS)?;
        if !(32..=63).contains(&va_bits) {
            return Err(Error::new(ErrorKind::Other, query::CALL)
                .because(format!("the driver claims GPU addresses of {va_bits} bits")));
        }
        Ok(Self {
            device_id: identity as u16,
            revision: (identity >> 16) as u8,
            has_vram: flags & DRM_XE_QUERY_CONFIG_FLAG_HAS_VRAM != 0,
            has_low_latency: flags & DRM_XE_QUERY_CONFIG_FLAG_HAS_LOW_LATENCY != 0,
            has_cpu_addr_mirror: flags & DRM_XE_QUERY_CONFIG_FLAG_HAS_CPU_ADDR_MIRROR != 0,
            has_no_compression_hint: flags & DRM_XE_QUERY_CONFIG_FLAG_HAS_NO_COMPRESSION_HINT != 0,
            has_disable_state_cache_perf_fix: flags
                & DRM_XE_QUERY_CONFIG_FLAG_HAS_DISABLE_STATE_CACHE_PERF_FIX
                != 0,
            has_purging_support: flags & DRM_XE_QUERY_CONFIG_FLAG_HAS_PURGING_SUPPORT != 0,
            min_alignment: value(DRM_XE_QUERY_CONFIG_MIN_ALIGNMENT)?,
            va_bits: va_bits as u32,
            max_exec_queue_priority: value(DRM_XE_QUERY_CONFIG_MAX_EXEC_QUEUE_PRIORITY)? as u32,
        })
    }

    /// Every address the GPU can form: `[0, 1 << va_bits)`.
    #[must_use]
    pub fn whole_va(&self) -> PageRange {
        PageRange::from_aligned(0, 1 << self.va_bits)
    }
}

/// An open render node of the xe driver. Clones are the same open file.
///
/// ```no_run
/// use std::path::Path;
/// use drm_pagemap::xe::Device;
///
/// let device = Device::open(Path::new("/dev/dri/renderD128"))?;
/// if device.config().has_cpu_addr_mirror {
///     for region in device.memory_regions()? {
///         println!("{:?} {}: {} bytes", region.class, region.instance, region.total);
///     }
/// }
/// # Ok::<(), drm_pagemap::Error>(())
/// ```
#[derive(Clone)]
pub struct Device(Arc<Inner>);

struct Inner {
    channel: Channel,
    config: Config,
    answers: Answers,
    pat: OnceLock<Option<PatTable>>,
}

impl Device {
    /// Opens a render node and checks that the xe driver is behind it.
    ///
    /// # Errors
    ///
    /// The errno of `open` (`EACCES`: not in the group `render`); [`ErrorKind::Unsupported`] when another driver answers;
    /// [`ErrorKind::DeviceLost`] when the device is unplugged or wedged.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_channel(Channel::open(path)?)
    }

    /// Uses a channel that is already there: an inherited descriptor, or a simulated device.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), without `open` itself.
    pub fn from_channel(channel: Channel) -> Result<Self> {
        let driver = drm::driver_name(&channel).map_err(|error| explain(error, &[]))?;
        if driver != "xe" {
            return Err(Error::new(ErrorKind::Unsupported, Version::NAME)
                .because(format!("{} belongs to the driver {driver:?}", channel.name()))
                .hint_is("open a render node of the xe driver"));
        }
        let config = Config::read(&channel)?;
        Ok(Self(Arc::new(Inner { channel, config, answers: Answers::default(), pat: OnceLock::new() })))
    }

    /// Whether the device still takes calls: one system call, no allocation.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DeviceLost`] when it is unplugged or wedged.
    pub fn check_alive(&self) -> Result<()> {
        drm::check_alive(self.channel()).map_err(|error| explain(error, &[]))
    }

    /// A device that was asked nothing, of a kernel that can everything.
    #[cfg(test)]
    pub(super) fn unchecked(channel: Channel) -> Self {
        let config = Config {
            device_id: 0xe20b,
            revision: 0,
            has_vram: true,
            has_low_latency: true,
            has_cpu_addr_mirror: true,
            has_no_compression_hint: true,
            has_disable_state_cache_perf_fix: true,
            has_purging_support: true,
            min_alignment: 4096,
            va_bits: 48,
            max_exec_queue_priority: 1,
        };
        let pat = OnceLock::from(Some(PatTable::BMG));
        Self(Arc::new(Inner { channel, config, answers: Answers::all_supported(), pat }))
    }

    /// What tells open files apart.
    #[inline]
    pub(crate) fn object(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }

    /// The channel to the driver.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.0.channel
    }

    /// Facts about the device, read when it was opened.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// What the kernel has answered so far; asked by [`Probe`](super::Probe).
    pub(super) fn answers(&self) -> &Answers {
        &self.0.answers
    }

    /// The device's memory regions, system memory first (`DEVICE_QUERY`, `MEM_REGIONS`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DeviceLost`]; [`ErrorKind::OutOfMemory`].
    pub fn memory_regions(&self) -> Result<Vec<MemoryRegion>> {
        query::memory_regions(self.channel())
    }

    /// The engines that work can be submitted to (`DEVICE_QUERY`, `ENGINES`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DeviceLost`]; [`ErrorKind::OutOfMemory`].
    pub fn engines(&self) -> Result<Vec<Engine>> {
        query::engines(self.channel())
    }

    /// The device's GTs (`DEVICE_QUERY`, `GT_LIST`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DeviceLost`]; [`ErrorKind::OutOfMemory`].
    pub fn gts(&self) -> Result<Vec<Gt>> {
        query::gts(self.channel())
    }

    /// The memory attributes (PAT) this device has, from the version of its main GT; `None` for hardware this crate does not
    /// know.
    ///
    /// # Errors
    ///
    /// As [`gts`](Self::gts).
    pub fn pat_table(&self) -> Result<Option<&PatTable>> {
        if let Some(known) = self.0.pat.get() {
            return Ok(known.as_ref());
        }
        let table = PatTable::of_device(&self.gts()?);
        Ok(self.0.pat.get_or_init(|| table).as_ref())
    }
}

impl PartialEq for Device {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Device {}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("xe::Device")
            .field("channel", &self.0.channel)
            .field("device_id", &format_args!("{:#06x}", self.0.config.device_id))
            .finish()
    }
}
