//! One simulated device.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::config::XeConfig;
use super::node::XeNode;
use super::sync::Signaller;
use crate::channel::Channel;
use crate::error::{Error, Result};

/// The memory of one tile, as a place that pages can migrate to: the counterpart of a `struct drm_pagemap`.
#[derive(Debug)]
pub(super) struct Pagemap {
    /// Number of the region in the machine.
    pub(super) id: u64,
    /// The device; `None` once it is gone.
    pub(super) gpu: Weak<XeGpu>,
    /// Counts from 0; the region's instance is one more.
    pub(super) tile: u32,
    pub(super) bytes: u64,
    /// Bytes that buffer objects hold.
    pub(super) objects: AtomicU64,
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
                    id: NEXT.fetch_add(1, Ordering::Relaxed),
                    gpu: gpu.clone(),
                    tile,
                    bytes,
                    objects: AtomicU64::new(0),
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

    /// Takes the device away: every call answers `ENODEV` from now on.
    pub fn unplug(&self) {
        self.unplugged.store(true, Ordering::Release);
        self.signaller.wake();
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

/// Open files of simulated devices by the inode of their descriptor: what a file number in an ioctl means.
pub(super) static OPEN_FILES: Mutex<Vec<((u64, u64), Weak<XeGpu>)>> = Mutex::new(Vec::new());
