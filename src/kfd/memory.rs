//! Memory objects: memory that GPUs reach through their own page tables, apart from shared virtual memory.

use std::ptr::NonNull;

use crate::buffer::Buffer;
use crate::channel::{DeviceMapping, Retry};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::kfd::failure::foreign;
use crate::kfd::{GpuId, Process};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::uapi::kfd as abi;

/// What a memory object is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryKind {
    /// System memory that stays where it is.
    #[doc(alias = "KFD_IOC_ALLOC_MEM_FLAGS_GTT")]
    System,
    /// VRAM that stays where it is. The CPU reaches it only where the GPU has a large BAR.
    #[doc(alias = "KFD_IOC_ALLOC_MEM_FLAGS_VRAM")]
    Vram,
}

/// A memory object: mapped on one GPU and, at another address, for the CPU. Unmapped and freed on drop.
///
/// Queues need these for their rings and pointers, which cannot be shared virtual memory. They take their GPU addresses from
/// the process's own, so that no range of shared virtual memory can be there: setting attributes over them is refused
/// ([`ErrorKind::AddressInUse`]).
#[derive(Debug)]
pub struct MemoryObject {
    process: Process,
    gpu: GpuId,
    handle: u64,
    mapped: bool,
    cpu: Option<DeviceMapping>,
    /// Keeps the GPU's addresses from being used for anything else. Never touched.
    addresses: Buffer<u8>,
}

impl Process {
    /// Allocates a memory object and maps it on the GPU and for the CPU. The length is rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// | errno | kind | meaning |
    /// |---|---|---|
    /// | – | [`NotFound`](ErrorKind::NotFound) | the GPU is not one of the process |
    /// | – | [`Unsupported`](ErrorKind::Unsupported) | the GPU's address space was acquired by other code, whose render node would be needed |
    /// | `EINVAL` | [`InvalidArgument`](ErrorKind::InvalidArgument) | no byte, or VRAM that the CPU cannot reach |
    /// | `EADDRINUSE` | [`AddressInUse`](ErrorKind::AddressInUse) | shared virtual memory has these addresses |
    /// | `ENODEV` | [`NotFound`](ErrorKind::NotFound) | the GPU's address space is not acquired |
    /// | `ENOMEM` | [`OutOfMemory`](ErrorKind::OutOfMemory), [`OutOfVram`](ErrorKind::OutOfVram) | none left of that kind |
    /// | `EBADF` | [`ForeignProcess`](ErrorKind::ForeignProcess) | in a forked child |
    #[doc(alias = "AMDKFD_IOC_ALLOC_MEMORY_OF_GPU")]
    #[doc(alias = "AMDKFD_IOC_MAP_MEMORY_TO_GPU")]
    pub fn allocate(&self, gpu: GpuId, bytes: usize, kind: MemoryKind) -> Result<MemoryObject> {
        const CALL: &str = abi::AllocMemoryOfGpu::NAME;
        self.inner().guard.check(CALL)?;
        let known = self.gpu(CALL, gpu)?;
        if bytes == 0 {
            return Err(Error::new(ErrorKind::InvalidArgument, CALL).because("an object of no byte"));
        }
        if !self.is_acquired(gpu)? {
            return Err(Error::new(ErrorKind::NotFound, CALL)
                .because(format!("the address space of {gpu} is not acquired"))
                .hint_is("call acquire_vm first"));
        }
        let render = known.render.get().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, CALL)
                .because(format!(
                    "other code of this process acquired {gpu}, and only its render node maps objects"
                ))
                .hint_is("acquire the GPU before other runtimes are initialised, or use their allocations")
        })?;
        let addresses = Buffer::<u8>::zeroed(bytes)?;
        let range = addresses.range();
        let mut arg = abi::AllocMemoryOfGpu {
            va_addr: range.start(),
            size: range.len(),
            gpu_id: gpu.raw(),
            flags: flags(kind),
            ..Default::default()
        };
        // SAFETY: the kernel allocates memory of its own and touches none of ours: `va_addr` is an address for the GPU.
        unsafe { self.channel().call(&mut arg, Retry::Always) }
            .map_err(|error| explain(error.over(range), gpu, kind))?;
        // From here on a failure frees what is there.
        let mut object = MemoryObject {
            process: self.clone(),
            gpu,
            handle: arg.handle,
            mapped: false,
            cpu: None,
            addresses,
        };
        object.cpu = Some(render.map("memory object", arg.mmap_offset, range.len() as usize)?);
        object.map_on_gpu()?;
        Ok(object)
    }
}

impl MemoryObject {
    /// Where the GPU sees it.
    #[must_use]
    pub fn gpu_range(&self) -> PageRange {
        self.addresses.range()
    }

    /// Where the CPU sees it. The GPU may read and write it at any time.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.cpu.as_ref().map_or(NonNull::dangling(), DeviceMapping::as_ptr)
    }

    /// Length in bytes: whole pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.gpu_range().len() as usize
    }

    /// Whether it has no byte; never true.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The GPU it is mapped on.
    #[must_use]
    pub fn gpu(&self) -> GpuId {
        self.gpu
    }

    fn map_on_gpu(&mut self) -> Result<()> {
        let ids = [self.gpu.raw()];
        let mut arg = abi::MapMemoryToGpu {
            handle: self.handle,
            device_ids_array_ptr: ids.as_ptr() as u64,
            n_devices: 1,
            n_success: 0,
        };
        // SAFETY: the kernel reads one number from `ids`, which outlives the call, and maps the object's own memory.
        unsafe { self.process.channel().call(&mut arg, Retry::Always) }
            .map_err(|error| foreign(error.over(self.gpu_range())))?;
        self.mapped = true;
        Ok(())
    }
}

impl Drop for MemoryObject {
    fn drop(&mut self) {
        if self.process.inner().guard.check(abi::FreeMemoryOfGpu::NAME).is_err() {
            // The object is the parent's.
            return;
        }
        if self.mapped {
            let ids = [self.gpu.raw()];
            let mut unmap = abi::UnmapMemoryFromGpu {
                handle: self.handle,
                device_ids_array_ptr: ids.as_ptr() as u64,
                n_devices: 1,
                n_success: 0,
            };
            // SAFETY: the kernel reads one number from `ids`, which outlives the call. A failure leaves the object mapped
            // until the process ends.
            let _ = unsafe { self.process.channel().call(&mut unmap, Retry::Always) };
        }
        let mut free = abi::FreeMemoryOfGpu { handle: self.handle };
        // SAFETY: the argument holds no address. A failure leaves the object to the process's end.
        let _ = unsafe { self.process.channel().call(&mut free, Retry::Always) };
    }
}

const fn flags(kind: MemoryKind) -> u32 {
    let place = match kind {
        MemoryKind::System => {
            abi::KFD_IOC_ALLOC_MEM_FLAGS_GTT
                | abi::KFD_IOC_ALLOC_MEM_FLAGS_COHERENT
                | abi::KFD_IOC_ALLOC_MEM_FLAGS_UNCACHED
        }
        MemoryKind::Vram => abi::KFD_IOC_ALLOC_MEM_FLAGS_VRAM | abi::KFD_IOC_ALLOC_MEM_FLAGS_PUBLIC,
    };
    place
        | abi::KFD_IOC_ALLOC_MEM_FLAGS_WRITABLE
        | abi::KFD_IOC_ALLOC_MEM_FLAGS_EXECUTABLE
        | abi::KFD_IOC_ALLOC_MEM_FLAGS_NO_SUBSTITUTE
}

fn explain(error: Error, gpu: GpuId, kind: MemoryKind) -> Error {
    match error.errno() {
        Some(Errno::ENOMEM) if kind == MemoryKind::Vram => {
            error.of_kind(ErrorKind::OutOfVram).because(format!("{gpu} has not that much VRAM left"))
        }
        Some(Errno::EINVAL) => {
            error.because(format!("{gpu} has no VRAM that the CPU can reach, or the kind is refused"))
        }
        Some(Errno::EADDRINUSE) => error.because("shared virtual memory has these addresses"),
        _ => foreign(error),
    }
}
