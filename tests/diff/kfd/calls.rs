//! The calls around shared virtual memory.

use std::os::fd::AsRawFd;

use drm_pagemap::channel::Retry;
use drm_pagemap::uapi::IoctlArg;
use drm_pagemap::uapi::kfd as abi;

use super::subject::{Open, named, told};
use super::words::{gpu_of, value};
use crate::frame::{BadStep, Step};
use crate::memory::{PAGE, address};

impl Open {
    /// A GPU's number as a step writes it, also one that none has: `gpu=g0|0|7|...`.
    fn id(&self, step: &Step) -> Result<u32, BadStep> {
        let text = step.text("gpu").unwrap_or("g0");
        value(text, &self.gpus).ok_or_else(|| BadStep(format!("{}: gpu={text} is none", step.verb)))
    }

    /// `acquire gpu= fd=render|second|null|closed of=`: `of` is the GPU whose file it is, by default the same.
    pub(super) fn acquire(&mut self, step: &Step) -> Result<String, BadStep> {
        let of = match step.text("of") {
            Some(_) => gpu_of(&Step::new("acquire").with("gpu", step.required("of")?), &self.gpus)?,
            None => gpu_of(step, &self.gpus).unwrap_or(0),
        };
        let null = std::fs::File::open("/dev/null").map_err(|error| BadStep(error.to_string()))?;
        let number = |channel: &drm_pagemap::channel::Channel| channel.descriptor().map(|fd| fd.as_raw_fd());
        let drm_fd = match step.text("fd").unwrap_or("render") {
            "render" => number(&self.gpus[of].render),
            "second" => number(&self.gpus[of].second),
            "null" => Some(null.as_raw_fd()),
            "closed" => Some(-1),
            other => return Err(BadStep(format!("acquire: fd={other} means nothing"))),
        };
        let drm_fd = drm_fd.ok_or_else(|| BadStep("a render node without a number".to_owned()))? as u32;
        Ok(told(self.call(&mut abi::AcquireVm { drm_fd, gpu_id: self.id(step)? })))
    }

    /// `apertures room=`: how many there are, and what the first say.
    pub(super) fn apertures(&mut self, step: &Step) -> Result<String, BadStep> {
        let room = step.number("room", 0)?;
        let mut entries = vec![abi::ProcessDeviceApertures::default(); room.min(64) as usize];
        let mut arg = abi::GetProcessAperturesNew {
            kfd_process_device_apertures_ptr: entries.as_mut_ptr() as u64,
            num_of_nodes: room as u32,
            pad: 0,
        };
        let answer = self.call(&mut arg);
        let shown = entries.iter().filter(|entry| entry.gpu_id != 0).map(|entry| {
            let (vm, lds) = ((entry.gpuvm_base, entry.gpuvm_limit), (entry.lds_base, entry.lds_limit));
            let scratch = (entry.scratch_base, entry.scratch_limit);
            format!("{} {vm:x?} {lds:x?} {scratch:x?}", super::words::place(entry.gpu_id, &self.gpus))
        });
        Ok([vec![told(answer), arg.num_of_nodes.to_string()], shown.collect()].concat().join(" "))
    }

    /// `smi gpu=`: only with a number that no GPU has; others are open already.
    pub(super) fn smi(&mut self, step: &Step) -> Result<String, BadStep> {
        let gpuid = self.id(step)?;
        if self.gpus.iter().any(|gpu| gpu.id.raw() == gpuid) {
            return Ok("open already".to_owned());
        }
        Ok(told(self.call(&mut abi::SmiEvents { gpuid, anon_fd: 0 })))
    }

    /// `number nr= size=`: a call that is none.
    pub(super) fn number(&mut self, step: &Step) -> Result<String, BadStep> {
        let nr = step.number("nr", 0)? as u32 & 0xff;
        if (1..=0x28).contains(&nr) {
            return Err(BadStep(format!("{step}: that is a call")));
        }
        let mut bytes = vec![0; step.number("size", 8)?.min(256) as usize];
        let request = 3 << 30 | (bytes.len() as u32) << 16 | 0x4b << 8 | nr;
        // SAFETY: no kernel assigns this number to a call, and the buffer is as long as the request says.
        let answer = unsafe { self.kfd.call_sized("a number", request, &mut bytes, Retry::Never) };
        Ok(told(answer.map_err(named)))
    }

    /// `create-queue gpu= type= ring= percentage= priority= base= pointers= metadata=`: one without buffers, which never succeeds.
    pub(super) fn create_queue(&mut self, step: &Step) -> Result<String, BadStep> {
        let pointers = step.number("pointers", 0)?;
        let mut arg = abi::CreateQueue {
            ring_base_address: step.number("base", 0)?,
            ring_size: step.number("ring", 4096)? as u32,
            read_pointer_address: pointers,
            write_pointer_address: pointers,
            gpu_id: self.id(step)?,
            queue_type: step.number("type", 1)? as u32,
            queue_percentage: step.number("percentage", 100)? as u32,
            queue_priority: step.number("priority", 7)? as u32,
            ..Default::default()
        };
        Ok(told(self.call(&mut arg)))
    }

    /// `destroy-queue id=`: of a number that nothing has.
    pub(super) fn destroy_queue(&mut self, step: &Step) -> Result<String, BadStep> {
        let queue_id = step.number("id", 77)?.max(50) as u32;
        Ok(told(self.call(&mut abi::DestroyQueue { queue_id, pad: 0 })))
    }

    /// `object at= pages= kind=gtt|none|userptr|doorbell gpu= plus= user=`
    pub(super) fn object(&mut self, step: &Step) -> Result<String, BadStep> {
        let kind = match step.text("kind").unwrap_or("gtt") {
            "gtt" => abi::KFD_IOC_ALLOC_MEM_FLAGS_GTT,
            "none" => 0,
            "userptr" => abi::KFD_IOC_ALLOC_MEM_FLAGS_USERPTR,
            "doorbell" => abi::KFD_IOC_ALLOC_MEM_FLAGS_DOORBELL,
            other => return Err(BadStep(format!("object: kind={other} means nothing"))),
        };
        // A user pointer over mapped memory would pin it; only its refusals are compared.
        let user = step.number("user", 0)?;
        if kind == abi::KFD_IOC_ALLOC_MEM_FLAGS_USERPTR && user != 0 {
            return Err(BadStep("object: user pointers are not compared".to_owned()));
        }
        let mut arg = abi::AllocMemoryOfGpu {
            va_addr: address(step.number("at", 0)?),
            size: step.number("pages", 1)? * PAGE,
            mmap_offset: user,
            gpu_id: self.id(step)?,
            flags: kind | abi::KFD_IOC_ALLOC_MEM_FLAGS_WRITABLE,
            ..Default::default()
        };
        let answer = self.call(&mut arg);
        if answer.is_ok() {
            self.objects.push(arg.handle);
        }
        Ok(told(answer))
    }

    /// The handle that `n=` counts to, or one that nothing has.
    fn handle(&self, step: &Step) -> Result<u64, BadStep> {
        let number = step.number("n", 0)? as usize;
        Ok(self.objects.get(number).copied().unwrap_or(u64::from(self.gpus[0].id.raw()) << 32 | 0xfff))
    }

    /// `map-object n= count= done= gpu=`
    pub(super) fn map_object(&mut self, step: &Step) -> Result<String, BadStep> {
        self.change_mapping(step, |handle, device_ids_array_ptr, n_devices, n_success| abi::MapMemoryToGpu {
            handle,
            device_ids_array_ptr,
            n_devices,
            n_success,
        })
    }

    /// `unmap-object n= count= done= gpu=`
    pub(super) fn unmap_object(&mut self, step: &Step) -> Result<String, BadStep> {
        self.change_mapping(step, |handle, device_ids_array_ptr, n_devices, n_success| {
            abi::UnmapMemoryFromGpu { handle, device_ids_array_ptr, n_devices, n_success }
        })
    }

    /// A call with a handle, a list of one GPU at most, its length and how much of it is done, which ends the argument.
    fn change_mapping<A: IoctlArg>(
        &self,
        step: &Step,
        argument: impl FnOnce(u64, u64, u32, u32) -> A,
    ) -> Result<String, BadStep> {
        let ids = [self.id(step)?];
        let (count, done) = (step.number("count", 1)?.min(1) as u32, step.number("done", 0)? as u32);
        let mut arg = argument(self.handle(step)?, ids.as_ptr() as u64, count, done);
        let answer = told(self.call(&mut arg));
        let done: u32 = bytemuck::pod_read_unaligned(&bytemuck::bytes_of(&arg)[size_of::<A>() - 4..]);
        Ok(format!("{answer} {done}"))
    }

    /// `free-object n=`
    pub(super) fn free_object(&mut self, step: &Step) -> Result<String, BadStep> {
        let handle = self.handle(step)?;
        let answer = self.call(&mut abi::FreeMemoryOfGpu { handle });
        if answer.is_ok() {
            self.objects.retain(|&other| other != handle);
        }
        Ok(told(answer))
    }
}
