//! A GPU as its driver's own objects: what [`Gpu`](crate::Gpu), locations and mirrors have in common.

use std::sync::Arc;

use crate::error::Result;
use crate::kfd;
use crate::xe;

mod kfd_system;

pub(crate) use kfd_system::KfdSystem;

/// Which kernel driver a GPU is reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Driver {
    /// Intel's `xe`.
    Xe,
    /// AMD's `amdgpu` with its compute interface, KFD.
    Kfd,
}

impl Driver {
    /// The driver's name as the kernel spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xe => "xe",
            Self::Kfd => "amdgpu",
        }
    }
}
