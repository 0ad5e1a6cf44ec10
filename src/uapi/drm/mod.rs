//! Core DRM (`drm/drm.h`): what every DRM driver answers.

mod device;
mod syncobj;

pub use device::*;
pub use syncobj::*;

pub(super) const TABLES: &[super::abi::Table] = &[device::TABLE, syncobj::TABLE];
