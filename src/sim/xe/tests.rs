//! The simulated device seen through the crate's own wrappers and, where those refuse to ask, through raw arguments.

use std::sync::Arc;

use super::{KernelVersion, Platform, XeConfig, XeGpu};
use crate::Buffer;
use crate::channel::{Channel, Retry};
use crate::error::{Errno, Error, ErrorKind};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::xe::{Device, Vm, VmFlags};

mod attributes;
mod bind;
mod device;
mod dispatch;
mod exec;
mod madvise;
mod migrate;
mod object;
mod peer;
mod prefetch;
mod refusals;
mod shared;
mod syncobj;
mod vm;

const PAGE: u64 = 4096;
const M2: u64 = 2 << 20;

pub(super) struct Bench {
    pub(super) gpu: Arc<XeGpu>,
    pub(super) device: Device,
}

impl Bench {
    pub(super) fn new(platform: Platform) -> Self {
        Self::with(XeConfig::new(platform))
    }

    pub(super) fn with(config: XeConfig) -> Self {
        let gpu = XeGpu::new(config).unwrap();
        let device = Device::from_channel(gpu.open().unwrap()).unwrap();
        Self { gpu, device }
    }

    pub(super) fn at(kernel: KernelVersion) -> Self {
        Self::with(XeConfig::new(Platform::Battlemage).kernel(kernel))
    }

    pub(super) fn vm(&self) -> Vm {
        Vm::create(&self.device, VmFlags::SVM).unwrap()
    }

    pub(super) fn mirrored(&self) -> Vm {
        let vm = self.vm();
        vm.mirror_all().unwrap();
        vm
    }
}

/// Makes one ioctl with the argument as it is.
pub(super) fn raw<A: IoctlArg>(channel: &Channel, arg: &mut A) -> Result<(), Errno> {
    // SAFETY: the tests pass addresses of memory that outlives the call, or that must be refused.
    unsafe { channel.call(arg, Retry::Never) }.map_err(|error| error.errno().unwrap())
}

#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(
    result: Result<T, Error>,
    kind: ErrorKind,
    errno: Option<Errno>,
) -> Error {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.errno()), (kind, errno), "{error}");
    error
}

pub(super) fn memory(bytes: u64) -> Buffer<u8> {
    Buffer::zeroed(bytes as usize).unwrap()
}

pub(super) fn pages(start: u64, count: u64) -> PageRange {
    PageRange::new(start, count * PAGE).unwrap()
}
