//! AMD KFD (`linux/kfd_ioctl.h`): shared virtual memory and what surrounds it.
//!
//! All requests go to `/dev/kfd` and have type `b'K'`; the kernel looks only at their number and size. A number out of its
//! range answers `ENOTTY`, an unassigned one `EINVAL`. One process has one KFD state, whichever descriptor is used; a forked
//! child must open its own (`EBADF` otherwise). GPUs are named by `gpu_id`, a hash from sysfs that is never 0.
//!
//! Versions are those of [`GetVersion`]: "KFD 1.5" is major 1, minor 5.

mod event;
mod memory;
mod process;
mod queue;
mod smi;
mod svm;
mod svm_args;
mod sysfs;

pub use event::*;
pub use memory::*;
pub use process::*;
pub use queue::*;
pub use smi::*;
pub use svm::*;
pub use svm_args::*;
pub use sysfs::*;

pub(super) const TABLES: &[super::abi::Table] =
    &[event::TABLE, memory::TABLE, process::TABLE, queue::TABLE, smi::TABLE, svm::TABLE, sysfs::TABLE];
