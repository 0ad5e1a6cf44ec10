//! Intel xe (`drm/xe_drm.h`): the driver's ioctls from device query to user fences.
//!
//! All requests go to a render node whose [driver name](crate::uapi::drm::Version) is `xe`; all have type `b'd'`. A request
//! number the kernel does not know answers `EINVAL`, not `ENOTTY`; a wedged device answers `ECANCELED` to everything, an
//! unplugged one `ENODEV`. `extensions` fields hold the address of a chain of [`UserExtension`], 0 for none; where no
//! extension is defined anything else is `EINVAL`.

mod bind;
mod device;
mod exec;
mod exec_queue;
mod extension;
mod gem;
mod madvise;
mod vm;

pub use bind::*;
pub use device::*;
pub use exec::*;
pub use exec_queue::*;
pub use extension::*;
pub use gem::*;
pub use madvise::*;
pub use vm::*;

pub(super) const TABLES: &[super::abi::Table] = &[
    bind::TABLE,
    device::TABLE,
    exec::TABLE,
    exec_queue::TABLE,
    extension::TABLE,
    gem::TABLE,
    madvise::TABLE,
    vm::TABLE,
];
