//! User queues of the copy engines: creation, doorbells, and what the engine sees of memory.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::error::Errno;
use crate::range::{PageRange, page_size};
use crate::sim::kfd::Shared;
use crate::sim::kfd::objects::DOORBELL_SLICE;
use crate::sim::kfd::queues::Queue;
use crate::sim::kfd::sdma::{Engine, Stop};
use crate::sim::kfd::smi::Line;
use crate::sim::kfd::state::State;
use crate::sim::user_memory::WriteAccess;
use crate::uapi::kfd as abi;

/// Queues that a process can have.
const MOST_QUEUES: usize = 127;
const SMALLEST_RING: u32 = 1024;
/// Where addresses of user space end.
const USER_SPACE: u64 = 1 << 47;

impl State {
    /// `CREATE_QUEUE`, in the kernel's order of checks. Only copy queues are simulated: a compute queue fails where the kernel
    /// looks at its buffers.
    pub(super) fn create_queue(
        &mut self,
        arg: &mut abi::CreateQueue,
        access: WriteAccess,
    ) -> Result<(), Errno> {
        let is_user = |address: u64| address < USER_SPACE;
        if arg.queue_percentage & 0xff > abi::KFD_MAX_QUEUE_PERCENTAGE
            || arg.queue_priority > abi::KFD_MAX_QUEUE_PRIORITY
        {
            return Err(Errno::EINVAL);
        }
        if arg.ring_base_address != 0 && !is_user(arg.ring_base_address) {
            return Err(Errno::EFAULT);
        }
        if arg.ring_size != 0 && !arg.ring_size.is_power_of_two() {
            return Err(Errno::EINVAL);
        }
        // The caller reads it back, also when a later check fails.
        arg.ring_size = arg.ring_size.max(SMALLEST_RING);
        let ring_bytes = arg.ring_size;
        if arg.metadata_ring_size != 0 && !arg.metadata_ring_size.is_power_of_two() {
            return Err(Errno::EINVAL);
        }
        let pointers = [
            arg.read_pointer_address,
            arg.write_pointer_address,
            arg.eop_buffer_address,
            arg.ctx_save_restore_address,
        ];
        if !pointers.into_iter().all(is_user) {
            return Err(Errno::EFAULT);
        }
        if arg.queue_type > abi::KFD_IOC_QUEUE_TYPE_SDMA_BY_ENG_ID {
            return Err(Errno::ENOTSUPP);
        }
        let gpu = self.known(arg.gpu_id)?;
        if self.devices[gpu].acquired.is_none() {
            return Err(Errno::ESRCH);
        }
        let (engines, queues_each) = self.devices[gpu].config.sdma;
        if arg.queue_type == abi::KFD_IOC_QUEUE_TYPE_SDMA_BY_ENG_ID && arg.sdma_engine_id >= engines {
            return Err(Errno::EINVAL);
        }
        let doorbell = self.queues.free_doorbell(gpu).ok_or(Errno::ENOMEM)?;
        self.check_queue_buffers(gpu, arg, ring_bytes.into())?;
        if self.queues.all.entries().len() >= MOST_QUEUES {
            return Err(Errno::ENOSPC);
        }
        let on_gpu = self.queues.all.values().filter(|queue| queue.gpu == gpu).count();
        if on_gpu >= (engines * queues_each) as usize {
            return Err(Errno::ENOMEM);
        }
        self.doorbells(gpu)?;
        arg.queue_id = self.queues.last;
        arg.doorbell_offset =
            abi::KFD_MMAP_TYPE_DOORBELL | u64::from(arg.gpu_id) << abi::KFD_MMAP_GPU_ID_SHIFT | doorbell;
        self.queues.last += 1;
        let queue = Queue {
            gpu,
            ring: arg.ring_base_address,
            ring_bytes: ring_bytes.into(),
            read_pointer: arg.read_pointer_address,
            doorbell,
            done: 0,
            halted: false,
            access,
        };
        self.queues.all.insert(arg.queue_id, queue);
        Ok(())
    }

    /// Pointers lie in mapped objects of one page, the ring is the start of an object of its size.
    fn check_queue_buffers(&self, gpu: usize, arg: &abi::CreateQueue, ring_bytes: u64) -> Result<(), Errno> {
        let is_one_page = |address: u64| {
            self.objects.at(gpu, address).is_some_and(|object| object.pages.len() == page_size())
        };
        let ring = PageRange::rounded_out(arg.ring_base_address, ring_bytes).map_err(|_| Errno::EINVAL)?;
        let ring_fits =
            self.objects.at(gpu, arg.ring_base_address).is_some_and(|object| object.pages == ring);
        let copies = matches!(
            arg.queue_type,
            abi::KFD_IOC_QUEUE_TYPE_SDMA
                | abi::KFD_IOC_QUEUE_TYPE_SDMA_XGMI
                | abi::KFD_IOC_QUEUE_TYPE_SDMA_BY_ENG_ID
        );
        let fits =
            is_one_page(arg.read_pointer_address) && is_one_page(arg.write_pointer_address) && ring_fits;
        if fits && copies { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// `DESTROY_QUEUE`.
    pub(super) fn destroy_queue(&mut self, id: u32) -> Result<(), Errno> {
        let queue = self.queues.all.remove(id).ok_or(Errno::EINVAL)?;
        if let Some(doorbells) = self.queues.doorbells.get(queue.gpu) {
            rustix::io::pwrite(&**doorbells, &[0; 8], queue.doorbell)?;
        }
        Ok(())
    }

    /// The doorbells of a process on a GPU: memory that the process maps and the engine looks at.
    pub(super) fn doorbells(&mut self, gpu: usize) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(doorbells) = self.queues.doorbells.get(gpu) {
            return Ok(doorbells.clone());
        }
        let memory = memfd_create("simulated doorbells", MemfdFlags::CLOEXEC)?;
        ftruncate(&memory, DOORBELL_SLICE)?;
        let doorbells = Arc::new(memory);
        self.queues.doorbells.insert(gpu, doorbells.clone());
        Ok(doorbells)
    }

    fn rung_until(&self, queue: &Queue) -> u64 {
        let mut value = [0; 8];
        let read = self
            .queues
            .doorbells
            .get(queue.gpu)
            .map(|doorbells| rustix::io::pread(&**doorbells, &mut value, queue.doorbell));
        if matches!(read, Some(Ok(8))) { u64::from_ne_bytes(value) } else { 0 }
    }

    /// Whether an engine has something to do.
    pub(super) fn any_doorbell_rang(&self) -> bool {
        self.queues.all.values().any(|queue| !queue.halted && self.rung_until(queue) > queue.done)
    }

    /// Lets every queue whose doorbell rang go on. Whether any did.
    pub(super) fn run_queues(&mut self, kfd: &Shared) -> bool {
        if self.queues_stopped {
            return false;
        }
        let ids: Vec<u32> = self.queues.all.entries().iter().map(|(id, _)| *id).collect();
        let mut ran = false;
        for id in ids {
            ran |= self.run_queue(kfd, id);
        }
        ran
    }

    fn run_queue(&mut self, kfd: &Shared, id: u32) -> bool {
        let Some(mut queue) = self.queues.all.get(id).filter(|queue| !queue.halted).cloned() else {
            return false;
        };
        let until = self.rung_until(&queue);
        if until <= queue.done {
            return false;
        }
        let mut engine = Engine {
            state: self,
            kfd,
            gpu: queue.gpu,
            ring: queue.ring,
            ring_bytes: queue.ring_bytes,
            access: queue.access,
        };
        let stop = engine.run(&mut queue.done, until);
        if stop == Stop::Halted {
            queue.halted = true;
        }
        let done = queue.done.to_ne_bytes();
        // The read pointer is in an object that the kernel keeps while the queue lives.
        let _ = self.gpu_write(kfd, queue.gpu, queue.access, queue.read_pointer, &done);
        let progressed = self.queues.all.get(id).is_some_and(|before| before.done != queue.done);
        self.queues.all.insert(id, queue);
        progressed
    }

    /// Reads memory as a GPU does, page by page: objects, mapped ranges, and after a fault what that mapped.
    pub(super) fn gpu_read(
        &mut self,
        kfd: &Shared,
        gpu: usize,
        address: u64,
        bytes: &mut [u8],
    ) -> Result<(), Errno> {
        let mut at = address;
        for part in split_at_pages(address, bytes.len()).collect::<Vec<_>>() {
            let piece = &mut bytes[part.clone()];
            self.make_accessible(kfd, gpu, at, false)?;
            match self.objects.at(gpu, at) {
                Some(object) => object.read(kfd, at, piece)?,
                None => kfd.memory.read(at, piece)?,
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Writes memory as a GPU does.
    pub(super) fn gpu_write(
        &mut self,
        kfd: &Shared,
        gpu: usize,
        access: WriteAccess,
        address: u64,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let mut at = address;
        for part in split_at_pages(address, bytes.len()) {
            let piece = &bytes[part.clone()];
            self.make_accessible(kfd, gpu, at, true)?;
            match self.objects.at(gpu, at) {
                Some(object) => object.write(kfd, access, at, piece)?,
                None => kfd.memory.write(access, at, piece)?,
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Makes a page accessible to a GPU, by a fault where need be. What cannot be is a memory violation.
    fn make_accessible(&mut self, kfd: &Shared, gpu: usize, address: u64, write: bool) -> Result<(), Errno> {
        let is_mapped = |state: &Self| {
            state.objects.at(gpu, address).is_some()
                || state.devices[gpu].pages.at(address).is_some_and(|writable| writable || !write)
        };
        if is_mapped(self) {
            return Ok(());
        }
        for _ in 0..FAULT_ATTEMPTS {
            match self.serve_gpu_fault(kfd, gpu, address, write) {
                Ok(()) if is_mapped(self) => return Ok(()),
                Ok(()) | Err(Errno::EAGAIN) => std::thread::yield_now(),
                Err(errno) => {
                    self.violation(kfd, gpu, address, write);
                    return Err(errno);
                }
            }
        }
        self.violation(kfd, gpu, address, write);
        Err(Errno::EFAULT)
    }

    fn violation(&mut self, kfd: &Shared, gpu: usize, address: u64, write: bool) {
        let gpu_id = self.devices[gpu].gpu_id;
        let denied = write && self.devices[gpu].pages.at(address) == Some(false);
        kfd.smi.log(&kfd.config.kernel, gpu_id, &Line::VmFault);
        self.events.memory_violation(gpu_id, address & !(page_size() - 1), denied);
    }
}

/// How often a GPU retries a page before it is a violation.
const FAULT_ATTEMPTS: u32 = 100;

/// The parts of `len` bytes from `address` that lie in one page each, as indices.
fn split_at_pages(address: u64, len: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let page = page_size();
    let mut start = 0;
    std::iter::from_fn(move || {
        let at = address.checked_add(start as u64)?;
        let part = ((page - at % page) as usize).min(len - start);
        let range = start..start + part;
        start += part;
        (part > 0).then_some(range)
    })
}
