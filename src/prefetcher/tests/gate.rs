//! A simulated device behind a gate: every prefetch is written down, and waits until it is let through.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::buffer::Buffer;
use crate::channel::{Channel, Retry, VirtualNode};
use crate::device::Device;
use crate::error::Errno;
use crate::gpu::Gpu;
use crate::mirror::Mirror;
use crate::prefetcher::Prefetcher;
use crate::range::PageRange;
use crate::sim::xe::{Platform, XeConfig, XeGpu};
use crate::uapi::IoctlArg;
use crate::uapi::xe::{DRM_XE_VM_BIND_OP_PREFETCH, VmBind, VmCreate, VmDestroy};
use crate::xe;

/// Nothing here takes this long; what does has hung.
pub(super) const HANG: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) vm: u32,
    pub(super) range: PageRange,
    pub(super) region: u32,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    /// How many more may pass; `None` is any number.
    permits: Option<usize>,
    waiting: usize,
    most_waiting: usize,
    /// VMs that exist.
    vms: usize,
    /// What prefetches of one VM are answered with, without being made.
    refused: Option<(u32, Errno)>,
}

/// Stands before a simulated device.
#[derive(Debug)]
pub(super) struct Gate {
    device: Channel,
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    /// From now on every prefetch waits.
    pub(super) fn close(&self) {
        self.state.lock().unwrap().permits = Some(0);
    }

    /// Lets the next `count` through.
    pub(super) fn pass(&self, count: usize) {
        let mut state = self.state.lock().unwrap();
        state.permits = state.permits.map(|permits| permits + count);
        self.changed.notify_all();
    }

    pub(super) fn open(&self) {
        self.state.lock().unwrap().permits = None;
        self.changed.notify_all();
    }

    /// Waits until `count` prefetches wait at the gate.
    pub(super) fn wait_for_waiting(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let (state, late) =
            self.changed.wait_timeout_while(state, HANG, |state| state.waiting < count).unwrap();
        assert!(!late.timed_out(), "{} of {count} arrived", state.waiting);
    }

    /// Waits until `count` prefetches have arrived in all.
    pub(super) fn wait_for_arrivals(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let few = |state: &mut State| state.calls.len() < count;
        let (state, late) = self.changed.wait_timeout_while(state, HANG, few).unwrap();
        assert!(!late.timed_out(), "{} of {count} arrived", state.calls.len());
    }

    /// From now on prefetches of this VM fail, or those of none.
    pub(super) fn refuse(&self, refused: Option<(u32, Errno)>) {
        self.state.lock().unwrap().refused = refused;
    }

    pub(super) fn most_waiting(&self) -> usize {
        self.state.lock().unwrap().most_waiting
    }

    /// How many VMs there are on the device.
    pub(super) fn vms(&self) -> usize {
        self.state.lock().unwrap().vms
    }

    /// The prefetches so far, in the order in which they arrived.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }

    fn arrive(&self, call: Call) -> Result<(), Errno> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(call);
        state.waiting += 1;
        state.most_waiting = state.most_waiting.max(state.waiting);
        self.changed.notify_all();
        let (mut state, late) =
            self.changed.wait_timeout_while(state, HANG, |state| state.permits == Some(0)).unwrap();
        assert!(!late.timed_out(), "nobody opened the gate");
        state.permits = state.permits.map(|permits| permits - 1);
        state.waiting -= 1;
        self.changed.notify_all();
        match state.refused {
            Some((vm, errno)) if vm == call.vm => Err(errno),
            _ => Ok(()),
        }
    }
}

// SAFETY: every call is passed on to a simulated device, or answered with an errno.
unsafe impl VirtualNode for Gate {
    unsafe fn ioctl(&self, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
        if request == VmBind::REQUEST {
            let bind: VmBind = bytemuck::pod_read_unaligned(arg);
            let op = bind.binds.as_inline();
            if bind.num_binds == 1 && op.op == DRM_XE_VM_BIND_OP_PREFETCH {
                let range = PageRange::new(op.addr, op.range).expect("whole pages");
                self.arrive(Call { vm: bind.vm_id, range, region: op.prefetch_mem_region_instance })?;
            }
        }
        // SAFETY: the argument is passed on as it came, and the caller answers for the addresses in it.
        let answer = unsafe { self.device.call_sized("gate", request, arg, Retry::Never) };
        let answer = answer.map_err(|error| error.errno().expect("a driver's answer"));
        let mut state = self.state.lock().unwrap();
        match request {
            VmCreate::REQUEST if answer.is_ok() => state.vms += 1,
            VmDestroy::REQUEST if answer.is_ok() => state.vms -= 1,
            _ => {}
        }
        answer
    }

    fn name(&self) -> String {
        self.device.name()
    }
}

/// A device, its gate, and a mirror.
pub(super) struct Stage {
    pub(super) device: Arc<XeGpu>,
    pub(super) gate: Arc<Gate>,
    pub(super) gpu: Gpu,
    pub(super) mirror: Arc<Mirror>,
}

impl Stage {
    pub(super) fn new() -> Self {
        let device = XeGpu::new(XeConfig::new(Platform::Battlemage).vram(64 << 20)).unwrap();
        let gate = Arc::new(Gate {
            device: device.open().unwrap(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let xe = xe::Device::from_channel(Channel::to_virtual(gate.clone())).unwrap();
        let gpu = Gpu::of_device(Device::Xe(xe)).unwrap();
        let mirror = Arc::new(gpu.mirror().unwrap());
        // The first prefetch to VRAM asks the driver, by others, what it can do.
        let data = filled(2 << 20);
        assert!(mirror.prefetch(&data).to(gpu.vram()).run().unwrap().is_complete());
        gate.state.lock().unwrap().calls.clear();
        Self { device, gate, gpu, mirror }
    }

    /// One thread, chunks of 4 MiB, and a request in its hand that waits at the gate: what is submitted now is queued.
    pub(super) fn busy(&self) -> (Prefetcher, Buffer<u8>) {
        let prefetcher = Prefetcher::builder(self.mirror.clone()).chunk(4 << 20).build().unwrap();
        let plug = filled(2 << 20);
        self.gate.close();
        drop(prefetcher.prefetch(&plug).to(self.gpu.vram()).submit().unwrap());
        self.gate.wait_for_waiting(1);
        (prefetcher, plug)
    }

    /// The ranges that were prefetched after the first `skip`.
    pub(super) fn ranges_after(&self, skip: usize) -> Vec<PageRange> {
        self.gate.calls()[skip..].iter().map(|call| call.range).collect()
    }
}

/// Memory in which every byte tells its place.
pub(super) fn filled(bytes: usize) -> Buffer<u8> {
    let mut data = Buffer::zeroed(bytes).unwrap();
    for (index, byte) in data.iter_mut().enumerate() {
        *byte = byte_at(index);
    }
    data
}

pub(super) fn assert_intact(data: &[u8]) {
    let wrong = data.iter().enumerate().find(|&(index, &byte)| byte != byte_at(index));
    assert_eq!(wrong, None, "first wrong byte");
}

fn byte_at(index: usize) -> u8 {
    (index ^ (index >> 8) ^ (index >> 16)) as u8
}

/// `len` bytes of the buffer from `start` on.
pub(super) fn part(data: &Buffer<u8>, start: u64, len: u64) -> PageRange {
    PageRange::new(data.range().start() + start, len).unwrap()
}
