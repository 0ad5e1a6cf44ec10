//! A GPU as its driver's own objects: what GPUs, locations and mirrors have in common.

use std::sync::Arc;

use crate::xe;

mod kfd_gpu;
mod resets;

pub use kfd_gpu::{KfdGpu, KfdSystem};

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

/// A GPU, reached through its driver's own objects. A runtime that needs more than [`Gpu`](crate::Gpu) offers goes on from here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Device {
    /// An open render node of the xe driver.
    Xe(xe::Device),
    /// One GPU of the process's KFD state.
    Kfd(Arc<KfdGpu>),
}

impl Device {
    /// The driver.
    #[must_use]
    pub fn driver(&self) -> Driver {
        match self {
            Self::Xe(_) => Driver::Xe,
            Self::Kfd(_) => Driver::Kfd,
        }
    }

    /// The render node, as a path or as the name of a simulated node; no two GPUs of a machine share it.
    #[must_use]
    pub fn node(&self) -> String {
        match self {
            Self::Xe(device) => device.channel().name(),
            Self::Kfd(gpu) => gpu.render().name(),
        }
    }

    /// Whether the device lives in this process.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        match self {
            Self::Xe(device) => device.channel().is_virtual(),
            Self::Kfd(gpu) => gpu.render().is_virtual(),
        }
    }
}

/// Two values are equal when they are the same GPU, however often it was opened.
impl PartialEq for Device {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        // The same open file, mostly. What both hold on to is alive, so one address is one object, of whichever driver.
        std::ptr::eq(self.object(), other.object()) || self.is_same_node(other)
    }
}

impl Eq for Device {}

impl Device {
    /// The address of the driver's object.
    #[inline]
    fn object(&self) -> *const () {
        match self {
            Self::Xe(device) => device.object(),
            Self::Kfd(gpu) => Arc::as_ptr(gpu).cast(),
        }
    }

    #[cold]
    fn is_same_node(&self, other: &Self) -> bool {
        self.driver() == other.driver() && self.node() == other.node()
    }
}
