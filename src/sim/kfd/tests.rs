use std::sync::Arc;

use super::*;
use crate::Buffer;
use crate::channel::Retry;
use crate::range::{PageRange, page_size};
use crate::uapi::IoctlArg;
use crate::uapi::kfd as abi;

mod checks;
mod dispatcher;
mod faults;
mod migration;
mod model;
mod vectors;

/// The GPU of [`Bench::new`].
const GPU: u32 = 0x4a3f;

/// A simulated machine with its device files open, and raw calls on them.
struct Bench {
    kfd: Arc<Kfd>,
    channel: Channel,
    /// Kept: a closed render node that was never acquired is gone.
    _render: Vec<Channel>,
}

impl Bench {
    fn new() -> Self {
        Self::with(KfdConfig::new())
    }

    /// Every GPU acquired.
    fn with(config: KfdConfig) -> Self {
        let bench = Self::without_vm(config);
        for index in 0..bench.kfd.config().gpus.len() {
            let gpu = bench.kfd.config().gpus[index].clone();
            if gpu.visible {
                bench.acquire(&bench._render[index], gpu.gpu_id).unwrap();
            }
        }
        bench
    }

    fn without_vm(config: KfdConfig) -> Self {
        let kfd = Kfd::new(config).unwrap();
        let channel = kfd.open().unwrap();
        let _render =
            (0..kfd.config().gpus.len()).map(|index| kfd.open_render_node(index).unwrap()).collect();
        Self { kfd, channel, _render }
    }

    fn call<A: IoctlArg>(&self, arg: &mut A) -> Result<(), Errno> {
        call(&self.channel, arg)
    }

    fn acquire(&self, render: &Channel, gpu_id: u32) -> Result<(), Errno> {
        use std::os::fd::AsRawFd;
        let drm_fd = render.descriptor().unwrap().as_raw_fd() as u32;
        self.call(&mut abi::AcquireVm { drm_fd, gpu_id })
    }

    fn svm(
        &self,
        start: u64,
        size: u64,
        op: u32,
        attrs: &[(u32, u32)],
    ) -> (Result<(), Errno>, Vec<(u32, u32)>) {
        let attrs: Vec<_> =
            attrs.iter().map(|&(attr_type, value)| abi::SvmAttribute { attr_type, value }).collect();
        let mut args = abi::SvmArgs::new(start, size, op, &attrs).unwrap();
        // SAFETY: the simulated kernel moves pages of the range and changes no byte of it.
        let result =
            unsafe { self.channel.call_sized("svm", args.request(), args.bytes_mut(), Retry::Never) };
        let answer = args.attrs().iter().map(|attr| (attr.attr_type, attr.value)).collect();
        (result.map_err(errno), answer)
    }

    fn set(&self, range: PageRange, attrs: &[(u32, u32)]) -> Result<(), Errno> {
        self.svm(range.start(), range.len(), abi::KFD_IOCTL_SVM_OP_SET_ATTR, attrs).0
    }

    fn get(&self, range: PageRange, attrs: &[(u32, u32)]) -> Result<Vec<(u32, u32)>, Errno> {
        let (result, answer) = self.svm(range.start(), range.len(), abi::KFD_IOCTL_SVM_OP_GET_ATTR, attrs);
        result.map(|()| answer)
    }

    /// The answer to a query of one attribute.
    fn get_one(&self, range: PageRange, attr_type: u32) -> u32 {
        self.get(range, &[(attr_type, 0)]).unwrap()[0].1
    }

    /// What a GPU may do: the type that the query turns into.
    fn access(&self, range: PageRange, gpu: u32) -> u32 {
        self.get(range, &[(ACCESS, gpu)]).unwrap()[0].0
    }

    /// First pages and lengths of the registered ranges.
    fn ranges(&self) -> Vec<PageRange> {
        self.kfd.primary.lock().ranges.iter().map(|range| range.pages).collect()
    }
}

impl Drop for Bench {
    /// A restore that is under way ends, and none follows: it would make pages of the next test present, at the same addresses.
    fn drop(&mut self) {
        self.kfd.primary.lock().ranges = Default::default();
    }
}

const PREFERRED: u32 = abi::KFD_IOCTL_SVM_ATTR_PREFERRED_LOC;
const PREFETCH: u32 = abi::KFD_IOCTL_SVM_ATTR_PREFETCH_LOC;
const ACCESS: u32 = abi::KFD_IOCTL_SVM_ATTR_ACCESS;
const IN_PLACE: u32 = abi::KFD_IOCTL_SVM_ATTR_ACCESS_IN_PLACE;
const NO_ACCESS: u32 = abi::KFD_IOCTL_SVM_ATTR_NO_ACCESS;
const SET_FLAGS: u32 = abi::KFD_IOCTL_SVM_ATTR_SET_FLAGS;
const CLR_FLAGS: u32 = abi::KFD_IOCTL_SVM_ATTR_CLR_FLAGS;
const GRANULARITY: u32 = abi::KFD_IOCTL_SVM_ATTR_GRANULARITY;
const UNDEF: u32 = abi::KFD_IOCTL_SVM_LOCATION_UNDEFINED;

fn call<A: IoctlArg>(channel: &Channel, arg: &mut A) -> Result<(), Errno> {
    // SAFETY: the tests pass addresses of memory that they own, or addresses where nothing is.
    unsafe { channel.call(arg, Retry::Never) }.map_err(errno)
}

fn errno(error: Error) -> Errno {
    error.errno().unwrap_or_else(|| panic!("{error}"))
}

/// Memory of its own mapping: `pages` pages.
fn memory(pages: u64) -> Buffer<u8> {
    Buffer::zeroed((pages * page_size()) as usize).unwrap()
}

/// Pages of a buffer, by number.
fn pages(buffer: &Buffer<u8>, start: u64, end: u64) -> PageRange {
    PageRange::new(buffer.range().start() + start * page_size(), (end - start) * page_size()).unwrap()
}
