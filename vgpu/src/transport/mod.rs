//! How QEMU reaches a device.

mod vfio;

pub use vfio::{Listener, listen};
