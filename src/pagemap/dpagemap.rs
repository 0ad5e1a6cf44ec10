//! A pagemap: the device memory of one device, as migration sees it, and what its driver does with it.

use std::fmt::Debug;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::dev::Dev;
use super::devmem_ops::Pfn;
use super::engine::request::{RegionId, Reply, Request};
use super::inner::Inner;
use super::space::{Space, expect};
use crate::addr::{DeviceAddr, Direction};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::PageRange;

/// The operations of a [`Pagemap`].
#[doc(alias = "drm_pagemap_ops")]
pub trait PagemapOps: Send + Sync + Debug {
    /// Maps `PAGE_SIZE << order` bytes of device memory at `page` for access by `dev`, or tells the address at which `dev`
    /// reaches them anyway.
    ///
    /// Called while nothing keeps the page but the caller's word, so it must not wait for a migration. Failure is
    /// [`DeviceAddr::MAPPING_ERROR`], which callers turn into `EFAULT`. In xe the device itself gets protocol `DRIVER` and a
    /// device address, a peer gets `DRIVER + 1` and a bus address, and a device without a path fails.
    fn device_map(&self, pagemap: &Pagemap, dev: &Dev, page: Pfn, order: u32, dir: Direction) -> DeviceAddr;

    /// Undoes [`device_map`](Self::device_map). Cannot fail, and must not block: the kernel calls it from MMU notifiers.
    fn device_unmap(&self, pagemap: &Pagemap, dev: &Dev, addr: DeviceAddr);

    /// Populates part of an address space with memory of this pagemap, migrating what is there.
    ///
    /// Best effort: nothing guarantees that the memory is still resident when the function returns. When the address space
    /// stops using it, it is released; under pressure it is reclaimed, and the data goes to system memory.
    ///
    /// # Errors
    ///
    /// Those of [`Space::migrate_to_devmem`] or [`Space::migrate_devmem`]. After the device's removal
    /// [`DeviceLost`](crate::ErrorKind::DeviceLost) with `ENODEV`.
    fn populate_mm(
        &self,
        pagemap: &Arc<Pagemap>,
        range: PageRange,
        mm: &Space,
        timeslice: Duration,
    ) -> Result<()>;
}

/// The operations and the device behind a kind of device memory.
///
/// Reference-counted with [`Arc`], as the kernel's is since 7.x: each allocation holds one reference. Dropping the last one
/// drops the operations. A pagemap does not keep its address space alive.
#[doc(alias = "drm_pagemap")]
#[derive(Debug)]
pub struct Pagemap {
    ops: Box<dyn PagemapOps>,
    dev: Dev,
    space: Weak<Inner>,
    region: RegionId,
    /// Whether the region goes with the pagemap.
    owns_region: bool,
}

impl Pagemap {
    /// A pagemap for allocations whose memory is a driver's own ([`DevMem`](super::DevMem)).
    ///
    /// For memory that the engine manages, see [`VramRegion`](super::VramRegion), which has one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] when the space has 32 regions already.
    #[doc(alias = "drm_pagemap_init")]
    #[doc(alias = "drm_pagemap_create")]
    pub fn new(space: &Space, dev: Dev, ops: Box<dyn PagemapOps>) -> Result<Arc<Self>> {
        let reply = space.ask("Pagemap::new", Request::AddRegion { bytes: 0, reserved: 0 })?;
        let region = expect("Pagemap::new", reply, region_of)?;
        Ok(Arc::new(Self { ops, dev, space: Arc::downgrade(space.inner()), region, owns_region: true }))
    }

    pub(crate) fn of_region(
        space: &Space,
        dev: Dev,
        ops: Box<dyn PagemapOps>,
        region: RegionId,
    ) -> Arc<Self> {
        Arc::new(Self { ops, dev, space: Arc::downgrade(space.inner()), region, owns_region: false })
    }

    /// The operations.
    #[must_use]
    pub fn ops(&self) -> &dyn PagemapOps {
        &*self.ops
    }

    /// The device that owns the memory.
    #[must_use]
    pub fn dev(&self) -> Dev {
        self.dev
    }

    /// Populates part of an address space, as `drm_pagemap_populate_mm` does: takes care that the space stays alive meanwhile,
    /// and calls the operation.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    #[doc(alias = "drm_pagemap_populate_mm")]
    pub fn populate_mm(self: &Arc<Self>, range: PageRange, mm: &Space, timeslice: Duration) -> Result<()> {
        self.ops.populate_mm(self, range, mm, timeslice)
    }

    /// The device is gone: allocations of this pagemap go back to system memory, and new ones are refused with `ENODEV`.
    ///
    /// What a driver's failing operations do not give back raises `SIGBUS` when touched.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`] in a forked child.
    pub fn remove(&self) -> Result<()> {
        match self.space.upgrade() {
            Some(inner) => {
                let space = Space::from_inner(inner);
                let request = Request::RemoveRegion { region: self.region };
                super::space::unit("Pagemap::remove", space.ask("Pagemap::remove", request)?)
            }
            None => Ok(()),
        }
    }

    pub(crate) fn region(&self) -> RegionId {
        self.region
    }

    pub(crate) fn check_space(&self, space: &Space, call: &'static str) -> Result<()> {
        if self.space.ptr_eq(&Arc::downgrade(space.inner())) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidArgument, call)
            .errno_is(Errno::EINVAL)
            .because("the device memory belongs to another Space"))
    }
}

impl Drop for Pagemap {
    fn drop(&mut self) {
        let Some(inner) = self.space.upgrade().filter(|inner| self.owns_region && inner.is_owner()) else {
            return;
        };
        // No allocation is left: each would hold a reference.
        let _ = Space::from_inner(inner).ask("Pagemap::drop", Request::DropRegion { region: self.region });
    }
}

pub(crate) fn region_of(reply: Reply) -> Option<RegionId> {
    match reply {
        Reply::Number(id) => u32::try_from(id).ok(),
        _ => None,
    }
}
