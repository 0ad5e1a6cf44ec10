//! What a driver does with the device memory of one allocation.

use std::fmt::Debug;

use crate::addr::DeviceAddr;
use crate::error::Errno;

/// Number of a page of device memory. What it counts from is the driver's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pfn(pub u64);

/// The operations of one allocation of device memory.
///
/// The kernel's `devmem_release` is [`Drop`]: it runs once, after no page of the allocation is in use any more, in a thread
/// that holds no lock.
///
/// The arrays are the kernel's *sparse* ones: one element per page. `None` among the sources of
/// [`copy_to_devmem`](Self::copy_to_devmem) is a hole: there is nothing to copy, and the device must read zeroes there
/// (the kernel relies on cleared VRAM). `None` elsewhere is a page that is not part of the transfer.
///
/// The addresses are of protocol [`SYSTEM`](crate::addr::InterconnectProtocol::SYSTEM) and, since nothing here is behind an
/// IOMMU, addresses of this process: [`DeviceAddr::addr`] is where the page can be read or written for the duration of the
/// call, by this call and nobody else.
///
/// An error ends the transfer. On the way in the pages go back to where they were. On the way out they stay with the device;
/// a thread that touched one gets `SIGBUS`, as with the kernel's `VM_FAULT_SIGBUS`. A panic counts as `EIO`.
///
/// # Safety
///
/// Pages of any memory of the process may be handed to an allocation, and come back as its operations fill them. An
/// implementation promises that [`copy_to_ram`](Self::copy_to_ram), where it answers `Ok`, writes to each page of `dst` the very
/// bytes that the latest [`copy_to_devmem`](Self::copy_to_devmem) read from it, or what a device has written to the page since
/// under the contract of GPU code; zeroes where it read a hole; and that both touch no other memory through the addresses they
/// are given.
#[doc(alias = "drm_pagemap_devmem_ops")]
#[doc(alias = "devmem_release")]
pub unsafe trait DevMemOps: Send + Sync + Debug {
    /// Numbers the pages of the allocation, in order. Must give the same answer every time: it is asked for each transfer.
    ///
    /// # Errors
    ///
    /// The errno that ends the transfer.
    fn populate_devmem_pfn(&self, pfns: &mut [Pfn]) -> Result<(), Errno>;

    /// Copies pages of system memory (`src`) to pages of the allocation (`dst`). Complete and visible to the device on return.
    ///
    /// # Errors
    ///
    /// The errno that ends the transfer.
    fn copy_to_devmem(&self, dst: &[Option<Pfn>], src: &[Option<DeviceAddr>]) -> Result<(), Errno>;

    /// Copies pages of the allocation (`src`) to pages of system memory (`dst`), which read as zero until they are written.
    ///
    /// # Errors
    ///
    /// The errno that ends the transfer.
    fn copy_to_ram(&self, src: &[Option<Pfn>], dst: &[Option<DeviceAddr>]) -> Result<(), Errno>;
}
