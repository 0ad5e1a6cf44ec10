//! The lab: real, unmodified kernels with their real GPU drivers in QEMU, each driver bound to a virtual GPU.

mod accel;
mod apt;
mod boot;
mod cache;
mod catalog;
pub(crate) mod child;
mod cli;
mod cpio;
mod device;
mod initramfs;
mod kernel;
mod klog;
mod list;
mod module;
mod options;
mod programs;
mod qemu;
mod session;
mod setup;
mod vendor;

pub(crate) use cli::main;
