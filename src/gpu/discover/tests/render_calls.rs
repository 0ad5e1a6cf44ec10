//! What is asked of amdgpu's render nodes: only what every DRM driver knows.
//!
//! amdgpu's DRM ioctl for shared virtual memory is not in any kernel and its number has moved, so that a call of it is one of
//! something else. No call of the driver's own is ever made, which is more than that.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use super::*;
use crate::channel::{Retry, VirtualNode};
use crate::sim::kfd::{GpuConfig, Kfd, KfdConfig};
use crate::uapi::abi::{request_nr, request_type};

/// Where the numbers of drivers begin (`DRM_COMMAND_BASE`).
const OF_THE_DRIVER: u8 = 0x40;

/// A render node that keeps the request numbers.
#[derive(Debug)]
struct Watched {
    to: Channel,
    sent: Arc<Mutex<Vec<u32>>>,
}

// SAFETY: every call is passed on to another node.
unsafe impl VirtualNode for Watched {
    unsafe fn ioctl(&self, request: u32, arg: &mut [u8]) -> std::result::Result<(), Errno> {
        self.sent.lock().unwrap().push(request);
        // SAFETY: the bytes are those of the caller, who answers for the addresses in them.
        unsafe { self.to.call_sized("watched", request, arg, Retry::Never) }
            .map_err(|error| error.errno().unwrap_or(Errno::EIO))
    }

    fn map(&self, offset: u64, len: u64) -> std::result::Result<(OwnedFd, u64), Errno> {
        let _ = (offset, len);
        Err(Errno::ENODEV)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.to.descriptor()
    }

    fn name(&self) -> String {
        self.to.name()
    }
}

#[test]
fn render_nodes_of_amdgpu_are_asked_nothing_of_the_drivers_own() {
    let second = GpuConfig { device: 1, render_minor: 129, ..GpuConfig::mi200(0x1111, 64 << 20) };
    let kfd = Kfd::new(KfdConfig::with_gpus(vec![GpuConfig::mi200(0x4a3f, 64 << 20), second])).unwrap();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let mut found = Discovery::default();
    found.add_kfd(kfd.open().unwrap(), &kfd.topology(), |node| {
        let index = node.drm_render_minor().unwrap() - 128;
        let watched = Watched { to: kfd.open_render_node(index as usize)?, sent: sent.clone() };
        let channel = Channel::to_virtual(Arc::new(watched));
        assert_eq!(driver_name(&channel)?, "amdgpu", "as the search does first");
        Ok(channel)
    });
    assert_eq!((found.gpus().len(), found.passed_over()), (2, &[][..]));
    let data = crate::Buffer::<u8>::zeroed(1 << 16).unwrap();
    for gpu in found.gpus() {
        let _ = (gpu.svm(), gpu.name(), gpu.vram_regions());
        let mirror = gpu.mirror().unwrap();
        assert!(mirror.prefetch(&data[..]).to(gpu.vram()).run().unwrap().is_observed());
        let _advice = mirror.advise(&data[..]).prefer(gpu.vram()).apply().unwrap();
    }
    let sent = sent.lock().unwrap();
    assert!(sent.len() >= 2, "{sent:x?}");
    for &request in sent.iter() {
        assert_eq!(request_type(request), b'd', "{request:#x}");
        assert!(request_nr(request) < OF_THE_DRIVER, "{request:#x} is a call of the driver's own");
    }
}
