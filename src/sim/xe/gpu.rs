//! One simulated device.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use super::config::XeConfig;
use super::cpu::errno_of;
use super::node::XeNode;
use super::object::Object;
use super::sync::{Signaller, lock};
use crate::channel::Channel;
use crate::error::{Errno, Error, Result};
use crate::pagemap::{Injection, RegionId, Space, Trigger, VramRegion};

/// The memory of one tile, as a place that pages can migrate to: the counterpart of a `struct drm_pagemap`.
#[derive(Debug)]
pub(super) struct Pagemap {
    /// The device; gone once it is.
    gpu: Weak<XeGpu>,
    /// Counts from 0; the region's instance is one more.
    pub(super) tile: u32,
    pub(super) bytes: u64,
    /// Bytes that buffer objects hold.
    objects: AtomicU64,
    /// Made with the first VM in fault mode, as the driver's.
    region: OnceLock<VramRegion>,
    purgeable: Mutex<Vec<Weak<Object>>>,
}

impl Pagemap {
    /// The region, which is made now if it is the first time.
    pub(super) fn region(&self) -> Result<&VramRegion, Errno> {
        if let Some(region) = self.region.get() {
            return Ok(region);
        }
        let gpu = self.gpu.upgrade().ok_or(Errno::ENODEV)?;
        let made = VramRegion::new(gpu.space()?, self.bytes).map_err(|error| errno_of(&error))?;
        Ok(self.region.get_or_init(|| made))
    }

    /// Bytes in use, by objects and by pages of processes.
    pub(super) fn used(&self) -> u64 {
        let pages = self.region.get().and_then(|region| region.usage().ok()).map_or(0, |usage| usage.used);
        self.objects.load(Ordering::Relaxed) + pages
    }

    /// Takes `bytes` for an object. What nobody needs is thrown away first, then pages go back to system memory.
    pub(super) fn take_for_object(&self, bytes: u64) -> Result<(), Errno> {
        let fits = |used: u64| used.checked_add(bytes).filter(|&used| used <= self.bytes);
        while self.objects.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            if !self.purge_one() {
                return Err(Errno::ENOSPC);
            }
        }
        self.make_room(0).inspect_err(|_| self.give_back(bytes))
    }

    /// Remembers an object whose memory is here, to be purged one day.
    pub(super) fn remember(&self, object: &Arc<Object>) {
        let mut purgeable = lock(&self.purgeable);
        purgeable.retain(|object| object.strong_count() != 0);
        purgeable.push(Arc::downgrade(object));
    }

    /// Throws the memory of one object away whose content is not needed.
    fn purge_one(&self) -> bool {
        let objects: Vec<Arc<Object>> = lock(&self.purgeable).iter().filter_map(Weak::upgrade).collect();
        objects.iter().any(|object| object.purge_if_not_needed())
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.objects.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Sends the least recently used pages back to system memory until `bytes` more fit beside the objects.
    pub(super) fn make_room(&self, bytes: u64) -> Result<(), Errno> {
        while self.used() + bytes > self.bytes && self.purge_one() {}
        let over = (self.used() + bytes).saturating_sub(self.bytes);
        match self.region.get() {
            Some(region) if over > 0 => {
                region.evict(over).map(|_| ()).map_err(|error| errno_of(&error))?;
            }
            _ => {}
        }
        if self.used() + bytes <= self.bytes { Ok(()) } else { Err(Errno::ENOSPC) }
    }
}

/// A simulated xe device.
///
/// It exists for as long as this value, an open channel or a VM does.
pub struct XeGpu {
    id: u64,
    config: XeConfig,
    pagemaps: Vec<Arc<Pagemap>>,
    wedged: AtomicBool,
    unplugged: AtomicBool,
    pub(super) signaller: Arc<Signaller>,
    opens: AtomicU64,
    space: OnceLock<Space>,
    injection: Mutex<XeInjection>,
}

/// Failures to be injected into a device, for tests of what is built on the crate. The default is none.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct XeInjection {
    /// A call that takes a VM's lock is interrupted there: `EINTR`.
    pub interrupted: Trigger,
    /// A bind has to be made again, as if the CPU's page tables had changed meanwhile: `EAGAIN`.
    pub again: Trigger,
    /// How long each completion takes to be told.
    pub fence_delay: Duration,
    /// Failures of each tile's memory: full, pinned pages, slow migration.
    pub vram: Injection,
}

impl XeInjection {
    /// No failures.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Replaces [`interrupted`](Self::interrupted).
    #[must_use]
    pub fn interrupted(mut self, trigger: Trigger) -> Self {
        self.interrupted = trigger;
        self
    }

    /// Replaces [`again`](Self::again).
    #[must_use]
    pub fn again(mut self, trigger: Trigger) -> Self {
        self.again = trigger;
        self
    }

    /// Replaces [`fence_delay`](Self::fence_delay).
    #[must_use]
    pub fn fence_delay(mut self, delay: Duration) -> Self {
        self.fence_delay = delay;
        self
    }

    /// Replaces [`vram`](Self::vram).
    #[must_use]
    pub fn vram(mut self, injection: Injection) -> Self {
        self.vram = injection;
        self
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl XeGpu {
    /// Makes a device.
    ///
    /// # Errors
    ///
    /// The errno of making its thread.
    pub fn new(config: XeConfig) -> Result<Arc<Self>> {
        let signaller = Arc::new(Signaller::default());
        let worker = signaller.clone();
        std::thread::Builder::new()
            .name("sim-xe-fences".into())
            .spawn(move || worker.run())
            .map_err(|error| thread_error(&error))?;
        Ok(Arc::new_cyclic(|gpu: &Weak<Self>| {
            let pagemaps = config.vram_tiles().iter().zip(0..).map(|(&bytes, tile)| {
                Arc::new(Pagemap {
                    gpu: gpu.clone(),
                    tile,
                    bytes,
                    objects: AtomicU64::new(0),
                    region: OnceLock::new(),
                    purgeable: Mutex::new(Vec::new()),
                })
            });
            Self {
                id: NEXT.fetch_add(1, Ordering::Relaxed),
                pagemaps: pagemaps.collect(),
                config,
                wedged: AtomicBool::new(false),
                unplugged: AtomicBool::new(false),
                signaller,
                opens: AtomicU64::new(0),
                space: OnceLock::new(),
                injection: Mutex::new(XeInjection::none()),
            }
        }))
    }

    /// Opens the device, as opening its render node would.
    ///
    /// # Errors
    ///
    /// The errno of making the descriptor that stands for the open file.
    pub fn open(self: &Arc<Self>) -> Result<Channel> {
        let number = self.opens.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Channel::to_virtual(Arc::new(XeNode::open(self.clone(), number)?)))
    }

    /// How the device was made.
    #[must_use]
    pub fn config(&self) -> &XeConfig {
        &self.config
    }

    /// Takes the device away: every call answers `ENODEV` from now on, and pages in its memory go back to system memory.
    pub fn unplug(&self) {
        self.unplugged.store(true, Ordering::Release);
        for region in self.pagemaps.iter().filter_map(|pagemap| pagemap.region.get()) {
            // Refused in a forked child only, where nothing is on the device.
            let _ = region.remove();
        }
        self.signaller.wake();
    }

    /// Has failures happen from now on, instead of those that were to happen before.
    ///
    /// # Errors
    ///
    /// The errno of what VRAM needs, where [`XeInjection::vram`] is the first thing ever asked of it.
    pub fn inject(&self, injection: XeInjection) -> Result<()> {
        for pagemap in &self.pagemaps {
            let region = pagemap.region().map_err(|errno| Error::from_errno("XeGpu::inject", errno))?;
            region.inject(injection.vram)?;
        }
        self.signaller.set_delay(injection.fence_delay);
        *lock(&self.injection) = injection;
        Ok(())
    }

    /// The regions that the device's tiles are to the engine, for looking at what a migration really did. Empty for an integrated
    /// device, and before the first VM in fault mode.
    #[must_use]
    pub fn vram(&self) -> Vec<VramRegion> {
        self.pagemaps.iter().filter_map(|pagemap| pagemap.region.get().cloned()).collect()
    }

    /// The process's address space as migration sees it; there is none where `userfaultfd` cannot be had.
    pub(super) fn space(&self) -> Result<&Space, Errno> {
        if let Some(space) = self.space.get() {
            return Ok(space);
        }
        let space = crate::sim::space::of_process().map_err(|error| errno_of(&error))?;
        Ok(self.space.get_or_init(|| space))
    }

    pub(super) fn is_interrupted(&self) -> bool {
        lock(&self.injection).interrupted.strikes()
    }

    pub(super) fn is_to_come_again(&self) -> bool {
        lock(&self.injection).again.strikes()
    }

    /// The tile memory that a region is.
    pub(super) fn pagemap_of(&self, region: RegionId) -> Option<&Arc<Pagemap>> {
        self.pagemaps.iter().find(|pagemap| pagemap.region.get().is_some_and(|own| own.id() == region))
    }

    /// Declares the device wedged: every call answers `ECANCELED` from now on.
    pub fn wedge(&self) {
        self.wedged.store(true, Ordering::Release);
        self.signaller.wake();
    }

    pub(super) fn is_unplugged(&self) -> bool {
        self.unplugged.load(Ordering::Acquire)
    }

    pub(super) fn is_wedged(&self) -> bool {
        self.wedged.load(Ordering::Acquire)
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn pagemaps(&self) -> &[Arc<Pagemap>] {
        &self.pagemaps
    }

    /// Whether this device reaches memory of `other` directly (`xe_has_interconnect`).
    pub(super) fn reaches(&self, other: &Self) -> bool {
        self.id == other.id || (self.config.link.is_some() && self.config.link == other.config.link)
    }
}

impl Drop for XeGpu {
    fn drop(&mut self) {
        self.signaller.stop();
    }
}

impl fmt::Debug for XeGpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XeGpu").field("id", &self.id).field("config", &self.config).finish_non_exhaustive()
    }
}

pub(super) fn thread_error(error: &std::io::Error) -> Error {
    let errno = crate::error::Errno::from_raw(error.raw_os_error().unwrap_or(0));
    Error::from_errno("pthread_create", errno).because("no thread for the simulated device")
}

/// Device and number of a descriptor's inode.
pub(super) type Inode = (u64, u64);

/// Open files of simulated devices by the inode of their descriptor: what a file number in an ioctl means.
pub(super) static OPEN_FILES: Mutex<Vec<(Inode, Weak<XeGpu>)>> = Mutex::new(Vec::new());

/// The simulated device that a region belongs to.
pub(super) fn device_with(region: RegionId) -> Option<Arc<XeGpu>> {
    let open = lock(&OPEN_FILES);
    let mut gpus = open.iter().filter_map(|(_, gpu)| gpu.upgrade());
    gpus.find(|gpu| gpu.pagemap_of(region).is_some())
}
