//! The lab: real, unmodified kernels with their real GPU drivers in QEMU, each driver bound to a virtual GPU.

mod accel;
mod apt;
mod attempt;
mod boot;
mod cache;
mod catalog;
mod check;
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
mod spec;
mod vendor;

pub(crate) use apt::{Apt, Source};
pub(crate) use boot::run as boot;
pub(crate) use cache::Cache;
pub(crate) use cli::{busybox, main};
pub(crate) use guest_init::Message;
pub(crate) use initramfs::GuestFile;
pub(crate) use kernel::Kernel;
pub(crate) use klog::Watch;
pub(crate) use module::Tree as ModuleTree;
pub(crate) use options::{GuestOptions, HELP as OPTIONS_HELP, path, seconds, text, unexpected};
pub(crate) use programs::{Kind, Target, Workspace, cargo};
pub(crate) use qemu::Accel;
pub(crate) use session::{
    Conditions, Wanted, accelerator, add_program, describe_end, describe_trouble, describe_unknown, spec,
    tools,
};
pub(crate) use spec::{End, Report, Spec, Tools};
pub(crate) use vendor::Vendor;
