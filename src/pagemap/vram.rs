//! A simulated VRAM region.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::counters::Counters;
use super::dev::Dev;
use super::devmem_ops::Pfn;
use super::dpagemap::{Pagemap, PagemapOps, region_of};
use super::engine::request::{RegionState, Reply, Request};
use super::inject::Injection;
use super::interconnect::OwnerList;
use super::options::{Atomicity, MigrateOptions, Migrated, Windows};
use super::space::{Space, expect, unit};
use crate::addr::{DeviceAddr, Direction, InterconnectProtocol};
use crate::error::{Errno, Error, Result};
use crate::range::{PageRange, SIZE_2M, page_size};

/// Number of a VRAM region within its space; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId(pub(crate) u32);

impl fmt::Debug for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegionId({})", self.0)
    }
}

/// A region of simulated VRAM: so and so many bytes that pages of the process can move to.
///
/// A handle; clones are the same region. Dropping the last one removes the region: its data goes back to system memory.
///
/// ```no_run
/// use drm_pagemap::PageRange;
/// use drm_pagemap::pagemap::{MigrateOptions, Space, VramRegion};
///
/// let space = Space::of_process()?;
/// let vram = VramRegion::new(&space, 64 << 20)?;
/// let data = vec![1.0f32; 1 << 20];
/// let range = PageRange::covering(&data);
/// let migrated = space.migrate_to_devmem(&vram, range, &MigrateOptions::new())?;
/// assert_eq!(migrated.moved, range.len());
/// assert_eq!(data[7], 1.0); // the touch brought its window back
/// # Ok::<(), drm_pagemap::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct VramRegion {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    space: Space,
    id: RegionId,
    pagemap: Arc<Pagemap>,
    maps: Arc<AtomicU64>,
}

/// How a region is made.
#[derive(Clone, Debug)]
pub struct VramRegionOptions {
    bytes: u64,
    reserved: u64,
    dev: Option<Dev>,
    owners: Option<Arc<OwnerList>>,
}

impl VramRegionOptions {
    /// A region of `bytes` bytes, nothing reserved, of a device of its own.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self { bytes, reserved: 0, dev: None, owners: None }
    }

    /// Bytes that are not available to anybody, as the firmware's share of real VRAM. Rounded up to whole pages.
    #[must_use]
    pub const fn reserved(mut self, bytes: u64) -> Self {
        self.reserved = bytes;
        self
    }

    /// The device the region belongs to.
    #[must_use]
    pub const fn dev(mut self, dev: Dev) -> Self {
        self.dev = Some(dev);
        self
    }

    /// Which devices reach each other: those in one group can [map](PagemapOps::device_map) each other's pages.
    #[must_use]
    pub fn owners(mut self, owners: Arc<OwnerList>) -> Self {
        self.owners = Some(owners);
        self
    }

    /// Makes the region.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for more than 16 TiB or no bytes at all;
    /// [`OutOfMemory`](crate::ErrorKind::OutOfMemory) when the addresses cannot be reserved, or the space has 32 regions already.
    pub fn create(&self, space: &Space) -> Result<VramRegion> {
        const CALL: &str = "VramRegion::new";
        let mask = page_size() - 1;
        let bytes = self.bytes & !mask;
        let reserved = self.reserved.checked_add(mask).map_or(u64::MAX, |sum| sum & !mask);
        if bytes == 0 || reserved > bytes {
            return Err(Error::from_errno(CALL, Errno::EINVAL).because("the region would have no page"));
        }
        let reply = space.ask(CALL, Request::AddRegion { bytes, reserved })?;
        let id = expect(CALL, reply, region_of)?;
        let dev = self.dev.unwrap_or_else(Dev::new);
        let maps = Arc::new(AtomicU64::new(0));
        let ops = PoolOps { id: RegionId(id), owners: self.owners.clone(), maps: maps.clone() };
        let pagemap = Pagemap::of_region(space, dev, Box::new(ops), id);
        Ok(VramRegion { inner: Arc::new(Inner { space: space.clone(), id: RegionId(id), pagemap, maps }) })
    }
}

impl VramRegion {
    /// A region of `bytes` bytes (rounded down to whole pages).
    ///
    /// # Errors
    ///
    /// Those of [`VramRegionOptions::create`].
    pub fn new(space: &Space, bytes: u64) -> Result<Self> {
        VramRegionOptions::new(bytes).create(space)
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> RegionId {
        self.inner.id
    }

    /// The space it is in.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.inner.space
    }

    /// The device it belongs to.
    #[must_use]
    pub fn dev(&self) -> Dev {
        self.inner.pagemap.dev()
    }

    /// Its pagemap.
    #[must_use]
    pub fn pagemap(&self) -> &Arc<Pagemap> {
        &self.inner.pagemap
    }

    /// How full it is, and what it has done so far.
    ///
    /// # Errors
    ///
    /// [`ForeignProcess`](crate::ErrorKind::ForeignProcess) in a forked child.
    pub fn usage(&self) -> Result<Usage> {
        const CALL: &str = "VramRegion::usage";
        let reply = self.inner.space.ask(CALL, Request::RegionInfo { region: self.inner.id.0 })?;
        expect(CALL, reply, |reply| match reply {
            Reply::Region(state) => Some(Usage::of(&state)),
            _ => None,
        })
    }

    /// Sends the least recently used windows back to system memory until `bytes` bytes are, or none is left. Timeslices do
    /// not protect from this.
    ///
    /// # Errors
    ///
    /// [`Busy`](crate::ErrorKind::Busy) when a window is still there after three tries.
    pub fn evict(&self, bytes: u64) -> Result<Migrated> {
        const CALL: &str = "VramRegion::evict";
        let reply = self.inner.space.ask(CALL, Request::Evict { region: self.inner.id.0, bytes })?;
        expect(CALL, reply, Migrated::of_reply)
    }

    /// The device is gone. Its data goes back to system memory; what cannot raises `SIGBUS` when touched. From now on
    /// populating fails with `ENODEV` ([`DeviceLost`](crate::ErrorKind::DeviceLost)).
    ///
    /// # Errors
    ///
    /// [`ForeignProcess`](crate::ErrorKind::ForeignProcess) in a forked child.
    pub fn remove(&self) -> Result<()> {
        const CALL: &str = "VramRegion::remove";
        unit(CALL, self.inner.space.ask(CALL, Request::RemoveRegion { region: self.inner.id.0 })?)
    }

    /// Has failures happen, for tests. Replaces what was to be injected before.
    ///
    /// # Errors
    ///
    /// [`ForeignProcess`](crate::ErrorKind::ForeignProcess) in a forked child.
    pub fn inject(&self, injection: Injection) -> Result<()> {
        const CALL: &str = "VramRegion::inject";
        unit(CALL, self.inner.space.ask(CALL, Request::Inject { region: self.inner.id.0, injection })?)
    }

    /// Device mappings made and not undone ([`PagemapOps::device_map`]).
    #[must_use]
    pub fn live_maps(&self) -> u64 {
        self.inner.maps.load(Ordering::Relaxed)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // In a forked child this is refused, and there is nothing to do there.
        let _ = self.space.ask("VramRegion::drop", Request::DropRegion { region: self.id.0 });
    }
}

/// How full a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes nobody gets.
    pub reserved: u64,
    /// Bytes allocated.
    pub used: u64,
    /// Windows in it.
    pub windows: u64,
    /// Whether it was [removed](VramRegion::remove).
    pub removed: bool,
    /// What it has done.
    pub counters: Counters,
}

impl Usage {
    fn of(state: &RegionState) -> Self {
        let &RegionState { id: _, capacity, reserved, used, windows, removed, counters } = state;
        Self { capacity, reserved, used, windows, removed, counters }
    }

    /// Bytes that can be had without evicting anything.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.capacity - self.reserved - self.used
    }
}

/// The operations of a region whose memory is the engine's.
#[derive(Debug)]
struct PoolOps {
    id: RegionId,
    owners: Option<Arc<OwnerList>>,
    maps: Arc<AtomicU64>,
}

impl PagemapOps for PoolOps {
    fn device_map(&self, pagemap: &Pagemap, dev: &Dev, page: Pfn, order: u32, dir: Direction) -> DeviceAddr {
        let peer = || self.owners.as_ref().is_some_and(|owners| owners.same_owner(*dev, pagemap.dev()));
        let protocol = if *dev == pagemap.dev() {
            Some(InterconnectProtocol::DRIVER)
        } else if peer() {
            InterconnectProtocol::private(1)
        } else {
            None
        };
        let address = page.0.checked_mul(page_size());
        let mapped = protocol.zip(address).and_then(|(p, a)| DeviceAddr::encode(a, p, order, dir).ok());
        if mapped.is_some() {
            self.maps.fetch_add(1, Ordering::Relaxed);
        }
        mapped.unwrap_or(DeviceAddr::MAPPING_ERROR)
    }

    fn device_unmap(&self, _pagemap: &Pagemap, _dev: &Dev, addr: DeviceAddr) {
        if !addr.is_mapping_error() {
            let before = self.maps.fetch_sub(1, Ordering::Relaxed);
            debug_assert!(before > 0, "unmapped more often than mapped");
        }
    }

    fn populate_mm(
        &self,
        pagemap: &Arc<Pagemap>,
        range: PageRange,
        mm: &Space,
        timeslice: Duration,
    ) -> Result<()> {
        pagemap.check_space(mm, "populate_mm")?;
        let options = MigrateOptions::new()
            .timeslice(timeslice)
            .windows(Windows::Blocks(SIZE_2M))
            .atomicity(Atomicity::Range)
            .retry(false);
        mm.migrate_to_region("populate_mm", self.id, range, &options).map(|_| ())
    }
}
