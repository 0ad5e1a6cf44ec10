//! What a driver does with a pagemap.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::dev::Dev;
use super::devmem_ops::Pfn;
use super::dpagemap::Pagemap;
use super::space::Space;
use crate::addr::{DeviceAddr, Direction};
use crate::error::Result;
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
