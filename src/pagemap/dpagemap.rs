//! A pagemap: the device memory of one device, as migration sees it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::dev::Dev;
use super::engine::request::{RegionId, Reply, Request};
use super::ops::PagemapOps;
use super::space::{Inner, Space, expect};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::PageRange;

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
