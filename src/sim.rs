//! Devices in this process that answer like the kernel's drivers.

pub mod kfd;
