//! A user queue of a copy engine: the shortest way to let a GPU touch memory.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use crate::channel::{DeviceMapping, Retry};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::kfd::failure::foreign;
use crate::kfd::{GpuId, MemoryKind, MemoryObject, Process, SdmaPackets};
use crate::range::page_size;
use crate::uapi::IoctlArg;
use crate::uapi::kfd as abi;

/// Bytes of the doorbells of a process on one GPU; they are mapped as a whole.
const DOORBELL_SLICE: u64 = 8192;
/// Where the pointers are in their page. The kernel keeps a counter behind the read pointer.
const READ_POINTER: usize = 0;
const WRITE_POINTER: usize = 0x100;
const SMALLEST_RING: usize = 1024;
const NOP: u32 = 0;

/// A user queue of a copy engine (SDMA): its ring, its pointers and its doorbell. Destroyed on drop.
///
/// Submitting makes no system call.
#[derive(Debug)]
pub struct SdmaQueue {
    process: Process,
    gpu: GpuId,
    id: u32,
    ring: MemoryObject,
    pointers: MemoryObject,
    doorbell: usize,
    /// Bytes ever written to the ring.
    written: u64,
}

impl Process {
    /// Makes a queue with a ring of `ring_bytes`, rounded up to a power of two and whole pages.
    ///
    /// The process cannot change its XNACK mode while it has queues.
    ///
    /// # Errors
    ///
    /// As [`allocate`](Self::allocate), and:
    ///
    /// | errno | kind | meaning |
    /// |---|---|---|
    /// | `EINVAL` | [`InvalidArgument`](ErrorKind::InvalidArgument) | the kernel refuses the buffers |
    /// | `ESRCH` | [`NotFound`](ErrorKind::NotFound) | the GPU's address space is not acquired |
    /// | `ENOMEM`, `ENOSPC`, `EPERM` | [`Busy`](ErrorKind::Busy) | no engine, doorbell or queue number is left |
    /// | `ENOTSUPP` | [`Unsupported`](ErrorKind::Unsupported) | the kernel knows no such queue |
    #[doc(alias = "AMDKFD_IOC_CREATE_QUEUE")]
    pub fn create_sdma_queue(&self, gpu: GpuId, ring_bytes: usize) -> Result<SdmaQueue> {
        const CALL: &str = abi::CreateQueue::NAME;
        let ring_bytes = ring_bytes.max(SMALLEST_RING).max(page_size() as usize).checked_next_power_of_two();
        let ring_bytes = ring_bytes.filter(|&bytes| u32::try_from(bytes).is_ok()).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, CALL).because("a ring has less than 4 GiB")
        })?;
        let ring = self.allocate(gpu, ring_bytes, MemoryKind::System)?;
        let pointers = self.allocate(gpu, page_size() as usize, MemoryKind::System)?;
        let page = pointers.gpu_range().start();
        let mut arg = abi::CreateQueue {
            ring_base_address: ring.gpu_range().start(),
            ring_size: ring_bytes as u32,
            read_pointer_address: page + READ_POINTER as u64,
            write_pointer_address: page + WRITE_POINTER as u64,
            gpu_id: gpu.raw(),
            queue_type: abi::KFD_IOC_QUEUE_TYPE_SDMA,
            queue_percentage: abi::KFD_MAX_QUEUE_PERCENTAGE,
            queue_priority: 7,
            ..Default::default()
        };
        // SAFETY: the addresses are those of the two objects, which the queue keeps until it is destroyed.
        unsafe { self.channel().call(&mut arg, Retry::Always) }.map_err(|error| explain(error, gpu))?;
        // From here on a failure destroys the queue.
        let mut queue = SdmaQueue {
            process: self.clone(),
            gpu,
            id: arg.queue_id,
            ring,
            pointers,
            doorbell: 0,
            written: 0,
        };
        // A multiple of 8, whatever was answered, since it is accessed as eight bytes.
        queue.doorbell = ((arg.doorbell_offset % DOORBELL_SLICE) & !7) as usize;
        self.doorbells(gpu, arg.doorbell_offset - arg.doorbell_offset % DOORBELL_SLICE)?;
        Ok(queue)
    }

    /// The doorbells of a GPU, mapped once for all queues.
    fn doorbells(&self, gpu: GpuId, offset: u64) -> Result<&DeviceMapping> {
        let known = self.gpu("mmap", gpu)?;
        if known.doorbells.get().is_none() {
            let mapping = self.channel().map("doorbells", offset, DOORBELL_SLICE as usize)?;
            // Another thread may have been faster; either mapping is as good.
            let _ = known.doorbells.set(mapping);
        }
        known.doorbells.get().ok_or_else(|| Error::new(ErrorKind::Other, "mmap").because("no doorbells"))
    }
}

impl SdmaQueue {
    /// The GPU.
    #[must_use]
    pub fn gpu(&self) -> GpuId {
        self.gpu
    }

    /// Hands packets to the engine. Does not wait for them.
    ///
    /// # Errors
    ///
    /// [`Busy`](ErrorKind::Busy) when the ring has no room: wait, and submit again; nothing was submitted.
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when the ring is too small for them altogether.
    /// [`ForeignProcess`](ErrorKind::ForeignProcess) in a forked child.
    ///
    /// # Safety
    ///
    /// The engine reads and writes what the packets say, as the process itself would, from now until it is done with them.
    /// That memory must be valid for it, and nothing else may use what is written. Without XNACK, the GPU must have access
    /// to it, otherwise the queue halts.
    pub unsafe fn submit(&mut self, packets: &SdmaPackets) -> Result<()> {
        const CALL: &str = "SdmaQueue::submit";
        self.process.inner().guard.check(CALL)?;
        let needed = self.bytes_with_padding(packets);
        let ring = self.ring.len() as u64;
        if needed >= ring {
            return Err(Error::new(ErrorKind::InvalidArgument, CALL)
                .because(format!("{needed} bytes of packets do not fit into a ring of {ring}")));
        }
        if needed >= ring - self.written.saturating_sub(self.done()) {
            return Err(Error::new(ErrorKind::Busy, CALL)
                .because("the ring is full")
                .hint_is("wait for the queue, then submit again"));
        }
        for packet in packets.packets() {
            for _ in 0..self.padding(self.written, packet.len()) {
                self.push(NOP);
            }
            for &dword in packet {
                self.push(dword);
            }
        }
        self.pointer(WRITE_POINTER).store(self.written, Ordering::Release);
        // The engine must see packets and pointer before the doorbell.
        fence(Ordering::SeqCst);
        if let Some(doorbells) = self.process.gpu(CALL, self.gpu)?.doorbells.get() {
            // SAFETY: `doorbell` is below the length of the mapping, which lives as long as the process.
            let place = unsafe { doorbells.as_ptr().as_ptr().add(self.doorbell) };
            // SAFETY: eight bytes inside the mapping, aligned to 8 (made so in `create_sdma_queue`). The device reads them at any time, so they are accessed
            // atomically.
            let doorbell = unsafe { AtomicU64::from_ptr(place.cast()) };
            doorbell.store(self.written, Ordering::Release);
        }
        Ok(())
    }

    /// Waits until the engine has done everything that was submitted.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut); a queue that met a memory violation never goes on, see
    /// [`Process::memory_exceptions`].
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        const CALL: &str = "SdmaQueue::wait";
        self.process.inner().guard.check(CALL)?;
        let start = Instant::now();
        let mut pause = Duration::ZERO;
        while self.done() < self.written {
            if start.elapsed() >= timeout {
                return Err(Error::new(ErrorKind::TimedOut, CALL)
                    .because(format!("the engine did {} of {} bytes of packets", self.done(), self.written))
                    .hint_is("look for a memory violation (Process::memory_exceptions, the kernel log)"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2 + Duration::from_micros(1)).min(Duration::from_millis(1));
        }
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Bytes of packets that the engine has done.
    fn done(&self) -> u64 {
        self.pointer(READ_POINTER).load(Ordering::Acquire)
    }

    /// Dwords to skip so that a packet does not wrap around the end of the ring.
    fn padding(&self, at: u64, dwords: usize) -> u64 {
        let left = (self.ring.len() as u64 - at % self.ring.len() as u64) / 4;
        if (dwords as u64) > left { left } else { 0 }
    }

    fn bytes_with_padding(&self, packets: &SdmaPackets) -> u64 {
        let mut at = self.written;
        for packet in packets.packets() {
            at += 4 * (self.padding(at, packet.len()) + packet.len() as u64);
        }
        at - self.written
    }

    fn push(&mut self, dword: u32) {
        let offset = (self.written % self.ring.len() as u64) as usize;
        // SAFETY: the offset is below the ring's length and a multiple of 4, and the ring is mapped as long as `self` lives.
        // The engine reads only what lies before the write pointer, which is not moved yet.
        let place = unsafe { self.ring.as_ptr().as_ptr().add(offset) };
        // SAFETY: as above: four bytes inside the mapping, aligned to 4.
        unsafe { place.cast::<u32>().write_volatile(dword) };
        self.written += 4;
    }

    fn pointer(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both pointers are inside the page that `self.pointers` maps as long as `self` lives.
        let place = unsafe { self.pointers.as_ptr().as_ptr().add(offset) };
        // SAFETY: eight bytes inside the page, aligned to 8. The device writes one pointer and reads the other at any time, so
        // they are accessed atomically.
        unsafe { AtomicU64::from_ptr(place.cast()) }
    }
}

impl Drop for SdmaQueue {
    fn drop(&mut self) {
        if self.process.inner().guard.is_owner() {
            let mut arg = abi::DestroyQueue { queue_id: self.id, pad: 0 };
            // SAFETY: the argument holds no address. Ring and pointers are freed after this; a kernel that failed to destroy
            // the queue keeps them.
            let _ = unsafe { self.process.channel().call(&mut arg, Retry::Always) };
        }
    }
}

fn explain(error: Error, gpu: GpuId) -> Error {
    match error.errno() {
        Some(Errno::EINVAL) => error.because("the kernel refuses the queue's ring or pointers"),
        Some(Errno::ESRCH) => error.because(format!("the address space of {gpu} is not acquired")),
        Some(Errno::ENOMEM | Errno::ENOSPC | Errno::EPERM) => error
            .of_kind(ErrorKind::Busy)
            .because(format!("{gpu} has no copy engine, doorbell or queue number left"))
            .hint_is("destroy queues that are not needed"),
        _ => foreign(error),
    }
}
