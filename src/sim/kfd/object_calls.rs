//! Calls about memory objects: `ALLOC_MEMORY_OF_GPU` and what follows.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::error::Errno;
use crate::range::{PageRange, page_size};
use crate::sim::kfd::Shared;
use crate::sim::kfd::gpus::Gpus;
use crate::sim::kfd::objects::{Backing, DOORBELL_SLICE, Object};
use crate::sim::kfd::render::RenderFile;
use crate::sim::kfd::state::State;
use crate::uapi::kfd as abi;

impl State {
    /// `ALLOC_MEMORY_OF_GPU`.
    pub(super) fn allocate(&mut self, arg: &mut abi::AllocMemoryOfGpu, secondary: bool) -> Result<(), Errno> {
        let has = |flag| arg.flags & flag != 0;
        let (vram, userptr) =
            (has(abi::KFD_IOC_ALLOC_MEM_FLAGS_VRAM), has(abi::KFD_IOC_ALLOC_MEM_FLAGS_USERPTR));
        let doorbell = has(abi::KFD_IOC_ALLOC_MEM_FLAGS_DOORBELL);
        let mmio = has(abi::KFD_IOC_ALLOC_MEM_FLAGS_MMIO_REMAP);
        if arg.size == 0 {
            return Err(Errno::EINVAL);
        }
        if secondary && userptr {
            return Err(Errno::EOPNOTSUPP);
        }
        let pages = PageRange::rounded_out(arg.va_addr, arg.size).map_err(|_| Errno::EINVAL)?;
        if !(vram && arg.va_addr == 0) && self.ranges.within(pages).next().is_some() {
            return Err(Errno::EADDRINUSE);
        }
        if userptr {
            let cpu = PageRange::rounded_out(arg.mmap_offset, arg.size).map_err(|_| Errno::EINVAL)?;
            if self.ranges.within(cpu).next().is_some() {
                return Err(Errno::EADDRINUSE);
            }
        }
        let gpu = self.known(arg.gpu_id)?;
        let config = &self.devices[gpu].config;
        if vram && has(abi::KFD_IOC_ALLOC_MEM_FLAGS_PUBLIC) && !config.large_bar {
            return Err(Errno::EINVAL);
        }
        if self.devices[gpu].acquired.is_none() {
            return Err(Errno::ENODEV);
        }
        if (doorbell && arg.size != DOORBELL_SLICE) || (mmio && arg.size != page_size()) {
            return Err(Errno::EINVAL);
        }
        if !(vram || userptr || doorbell || mmio || has(abi::KFD_IOC_ALLOC_MEM_FLAGS_GTT)) {
            return Err(Errno::EINVAL);
        }
        if userptr && arg.mmap_offset == 0 {
            return Err(Errno::EINVAL);
        }
        if vram && pages.len() > self.vram_for_ranges(gpu) {
            return Err(Errno::ENOMEM);
        }
        let backing =
            if userptr { Backing::User(arg.mmap_offset) } else { Backing::Own(Arc::new(own_memory(pages)?)) };
        self.objects.last += 1;
        let number = self.objects.last;
        arg.handle = u64::from(arg.gpu_id) << 32 | number;
        arg.mmap_offset = (1 << 32) + (number << 40);
        let object = Object {
            pages,
            gpu,
            device: config.device,
            flags: arg.flags,
            offset: arg.mmap_offset,
            backing,
            mapped: Gpus::NONE,
        };
        self.objects.all.insert(arg.handle, object);
        Ok(())
    }

    /// `FREE_MEMORY_OF_GPU`.
    pub(super) fn free(&mut self, arg: abi::FreeMemoryOfGpu) -> Result<(), Errno> {
        let object = self.objects.all.get(arg.handle).ok_or(Errno::EINVAL)?;
        if !object.mapped.is_empty() {
            return Err(Errno::EBUSY);
        }
        self.objects.all.remove(arg.handle);
        Ok(())
    }

    /// `MAP_MEMORY_TO_GPU`.
    pub(super) fn map_object(&mut self, kfd: &Shared, arg: &mut abi::MapMemoryToGpu) -> Result<(), Errno> {
        let ids = device_ids(kfd, arg.n_devices, arg.n_success, arg.device_ids_array_ptr)?;
        self.check_handle(arg.handle)?;
        for &id in &ids[arg.n_success as usize..] {
            let gpu = self.known(id)?;
            let pages = self.objects.all.get(arg.handle).ok_or(Errno::EINVAL)?.pages;
            let taken = self.objects.all.entries().iter().any(|(handle, other)| {
                *handle != arg.handle && other.mapped.has(gpu) && other.pages.overlaps(pages)
            });
            if taken {
                return Err(Errno::EINVAL);
            }
            if let Some(object) = self.objects.all.get_mut(arg.handle) {
                object.mapped.insert(gpu);
            }
            arg.n_success += 1;
        }
        Ok(())
    }

    /// `UNMAP_MEMORY_FROM_GPU`.
    pub(super) fn unmap_object(
        &mut self,
        kfd: &Shared,
        arg: &mut abi::UnmapMemoryFromGpu,
    ) -> Result<(), Errno> {
        let ids = device_ids(kfd, arg.n_devices, arg.n_success, arg.device_ids_array_ptr)?;
        self.check_handle(arg.handle)?;
        for &id in &ids[arg.n_success as usize..] {
            let gpu = self.known(id)?;
            let object = self.objects.all.get_mut(arg.handle).ok_or(Errno::ENOMEM)?;
            if !object.mapped.has(gpu) {
                return Err(Errno::EINVAL);
            }
            object.mapped.remove(gpu);
            arg.n_success += 1;
        }
        Ok(())
    }

    /// The upper half of a handle is the GPU's number, which is looked at first.
    fn check_handle(&self, handle: u64) -> Result<(), Errno> {
        let gpu = self.known((handle >> 32) as u32)?;
        if self.devices[gpu].acquired.is_none() {
            return Err(Errno::ENODEV);
        }
        if self.objects.all.contains_key(handle) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// The memory behind an offset of the render node, for the file that gave the GPU its address space.
    pub(super) fn object_memory(
        &self,
        file: &Arc<RenderFile>,
        offset: u64,
        len: u64,
    ) -> Result<Arc<OwnedFd>, Errno> {
        let object = self.objects.by_offset(offset, len).ok_or(Errno::EINVAL)?;
        let owner = self.devices[object.gpu].acquired.as_ref();
        match &object.backing {
            _ if !owner.is_some_and(|owner| Arc::ptr_eq(owner, file)) => Err(Errno::EACCES),
            Backing::Own(memory) => Ok(memory.clone()),
            Backing::User(_) => Err(Errno::EPERM),
        }
    }
}

fn own_memory(pages: PageRange) -> Result<OwnedFd, Errno> {
    let memory = memfd_create("simulated memory object", MemfdFlags::CLOEXEC)?;
    ftruncate(&memory, pages.len())?;
    Ok(memory)
}

fn device_ids(kfd: &Shared, count: u32, done: u32, address: u64) -> Result<Vec<u32>, Errno> {
    if count == 0 || done > count {
        return Err(Errno::EINVAL);
    }
    let mut numbers = vec![0u32; count as usize];
    kfd.memory.read(address, bytemuck::cast_slice_mut(&mut numbers))?;
    Ok(numbers)
}
