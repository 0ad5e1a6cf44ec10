//! Device addresses as `drm_pagemap` writes them down.
//!
//! [`DeviceAddr`] is the kernel's 16-byte `struct drm_pagemap_addr` (named `drm_pagemap_device_addr` up to 6.17), bit for
//! bit. [`PackedDeviceAddr`] is the same information in one 64-bit word, which the kernel's own header wishes for, so
//! that a page-table slot can be an `AtomicU64` and an absent entry costs nothing.

mod device;
mod packed;

pub use device::{DeviceAddr, Direction, EncodeError, InterconnectProtocol};
pub use packed::{PackError, PackedDeviceAddr};
