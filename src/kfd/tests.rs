//! The wrappers against a simulated KFD, against recorded bytes, and against files that are no KFD.

use std::sync::{Arc, Mutex};

use super::*;
use crate::channel::{Channel, VirtualNode};
use crate::range::page_size;
use crate::sim::kfd::{GpuConfig, Kernel, Kfd, KfdConfig};
use crate::uapi::IoctlArg;
use crate::uapi::kfd as abi;
use crate::{Buffer, Errno, ErrorKind, PageRange, Result};

mod bytes;
mod errors;
mod hazards;
mod process;
mod queue;
mod svm;

const GPU: u32 = 0x4a3f;

fn gpu(raw: u32) -> GpuId {
    GpuId::new(raw).unwrap()
}

/// A simulated machine whose GPUs are all acquired.
struct Machine {
    kfd: Arc<Kfd>,
    process: Process,
    renders: Vec<Channel>,
}

impl Machine {
    fn new() -> Self {
        Self::with(KfdConfig::new())
    }

    fn with(config: KfdConfig) -> Self {
        let machine = Self::without_vm(config);
        for (index, render) in machine.renders.iter().enumerate() {
            let id = gpu(machine.kfd.config().gpus[index].gpu_id);
            assert_eq!(machine.process.acquire_vm(render, id).unwrap(), Acquired::Now);
        }
        machine
    }

    fn without_vm(config: KfdConfig) -> Self {
        let kfd = Kfd::new(config).unwrap();
        let process = Process::open(kfd.open().unwrap()).unwrap();
        let renders =
            (0..kfd.config().gpus.len()).map(|index| kfd.open_render_node(index).unwrap()).collect();
        Self { kfd, process, renders }
    }
}

fn memory(pages: u64) -> Buffer<u8> {
    Buffer::zeroed((pages * page_size()) as usize).unwrap()
}

fn pages(buffer: &Buffer<u8>, start: u64, end: u64) -> PageRange {
    PageRange::new(buffer.range().start() + start * page_size(), (end - start) * page_size()).unwrap()
}

fn two_gpus() -> KfdConfig {
    let second = GpuConfig { device: 1, render_minor: 129, ..GpuConfig::mi200(0x1111, 1 << 30) };
    KfdConfig::with_gpus(vec![GpuConfig::mi200(GPU, 1 << 30), second])
}

/// Passes calls on and keeps what was sent; answers some with an errno of its own.
#[derive(Debug)]
struct Recorder {
    to: Channel,
    sent: Mutex<Vec<(u32, Vec<u8>)>>,
    refuse: Mutex<Option<(u8, Errno)>>,
    /// Where each queue's doorbell is said to be, within its process's.
    doorbell: Mutex<u64>,
    /// What was mapped, or would have been.
    mapped: Mutex<Vec<(u64, u64)>>,
}

impl Recorder {
    fn new(to: Channel) -> Arc<Self> {
        Arc::new(Self {
            to,
            sent: Mutex::default(),
            refuse: Mutex::default(),
            doorbell: Mutex::default(),
            mapped: Mutex::default(),
        })
    }

    /// Answers every call of this number with this errno from now on.
    fn refuse(&self, nr: u32, errno: Errno) {
        *self.refuse.lock().unwrap() = Some((crate::uapi::abi::request_nr(nr), errno));
    }

    fn take(&self) -> Vec<(u32, Vec<u8>)> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }
}

// SAFETY: every call is passed on to another node, or answered with an errno.
unsafe impl VirtualNode for Recorder {
    unsafe fn ioctl(&self, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
        self.sent.lock().unwrap().push((request, arg.to_vec()));
        match *self.refuse.lock().unwrap() {
            Some((nr, errno)) if nr == crate::uapi::abi::request_nr(request) => Err(errno),
            // SAFETY: the bytes are those of the caller, who answers for the addresses in them.
            _ => unsafe { self.to.call_sized("recorded", request, arg, crate::channel::Retry::Never) }
                .map_err(|error| error.errno().unwrap_or(Errno::EIO)),
        }?;
        if request == abi::CreateQueue::REQUEST {
            let mut queue: abi::CreateQueue = bytemuck::pod_read_unaligned(arg);
            queue.doorbell_offset += *self.doorbell.lock().unwrap();
            arg.copy_from_slice(bytemuck::bytes_of(&queue));
        }
        Ok(())
    }

    fn map(&self, offset: u64, len: u64) -> Result<(std::os::fd::OwnedFd, u64), Errno> {
        self.mapped.lock().unwrap().push((offset, len));
        Err(Errno::ENODEV)
    }

    fn name(&self) -> String {
        "recorder".into()
    }
}

/// A process whose calls are recorded.
fn recorded(config: KfdConfig) -> (Arc<Recorder>, Process, Machine) {
    let machine = Machine::with(config);
    let recorder = Recorder::new(machine.kfd.open().unwrap());
    let process = Process::open(Channel::to_virtual(recorder.clone())).unwrap();
    (recorder, process, machine)
}
