//! What a GPU does to the arena, by a copy engine.

use std::time::Duration;

use drm_pagemap::kfd::{Acquired, SdmaPackets};
use drm_pagemap::uapi::kfd as abi;

use super::device::Gpu;
use super::subject::Open;
use super::words::gpu_of;
use crate::frame::{BadStep, Step};
use crate::memory::{Arena, PAGE, address, stamp};

/// A hang guard, for a guest on a busy machine.
const LONGEST: Duration = Duration::from_secs(40);

/// Pages that the GPU reads or writes.
struct Touched {
    at: u64,
    pages: u64,
    write: bool,
}

impl Open {
    /// `gpu op=write|copy|fill|fence at= pages= to= v= gpu= access=grant|fault`: with `grant` (the default) the GPU gets access
    /// first, with `fault` it may have to fault (XNACK). What would be a violation is not done: the driver runs no queue of a
    /// process that committed one.
    pub(super) fn gpu(&mut self, step: &Step) -> Result<String, BadStep> {
        let gpu = gpu_of(step, &self.gpus)?;
        let (at, pages) = (step.number("at", 0)?, step.number("pages", 1)?.max(1));
        let (to, value) = (step.number("to", 0)?, step.number("v", 1)?);
        let touched = match step.text("op").unwrap_or("write") {
            "write" | "fill" | "fence" => vec![Touched { at, pages, write: true }],
            "copy" => vec![Touched { at, pages, write: false }, Touched { at: to, pages, write: true }],
            other => return Err(BadStep(format!("gpu: op={other} means nothing"))),
        };
        for Touched { at, pages, write } in &touched {
            if !Arena::holds(*at, *pages) {
                return Err(BadStep(format!("{step}: outside the arena")));
            }
            if (*at..at + pages).any(|page| self.arena.word(page, 0, *write).is_none()) {
                return Ok("not done: the CPU could not either".to_owned());
            }
        }
        for touched in &touched {
            if let Some(answer) = self.prepare(step, gpu, touched)? {
                return Ok(answer);
            }
        }
        let mut packets = SdmaPackets::new(self.gpus[gpu].gfx);
        let wrong = |error: drm_pagemap::Error| BadStep(error.to_string());
        match step.text("op").unwrap_or("write") {
            "copy" => drop(packets.copy(address(at), address(to), pages * PAGE)),
            "fill" => drop(packets.fill(address(at), value as u32, pages * PAGE).map_err(wrong)?),
            "fence" => drop(packets.fence(address(at) + 8, value as u32).map_err(wrong)?),
            _ => {
                for page in at..at + pages {
                    let word = stamp(page, value);
                    packets.write(address(page), &[word as u32, (word >> 32) as u32]).map_err(wrong)?;
                }
            }
        }
        self.run(gpu, &packets)
    }

    /// Sees to it that the access is none that kills the queue. An answer if it would be.
    fn prepare(&mut self, step: &Step, gpu: usize, touched: &Touched) -> Result<Option<String>, BadStep> {
        let attr = |attr_type, value| abi::SvmAttribute { attr_type, value };
        let id = self.gpus[gpu].id.raw();
        let (start, size) = (address(touched.at), touched.pages * PAGE);
        let make = |op, attrs: &[abi::SvmAttribute]| {
            abi::SvmArgs::new(start, size, op, attrs).map_err(|error| BadStep(error.to_string()))
        };
        if step.text("access").unwrap_or("grant") == "grant" {
            if !self.process.is_acquired(self.gpus[gpu].id).unwrap_or(false) {
                return Ok(Some("not done: no address space".to_owned()));
            }
            let grant = [
                attr(abi::KFD_IOCTL_SVM_ATTR_CLR_FLAGS, abi::KFD_IOCTL_SVM_FLAG_GPU_RO),
                attr(abi::KFD_IOCTL_SVM_ATTR_ACCESS, id),
            ];
            let granted = self.svm(&mut make(abi::KFD_IOCTL_SVM_OP_SET_ATTR, &grant)?);
            self.settle()?;
            return Ok(granted.err().map(|errno| format!("no access: {errno}")));
        }
        let mut mode = abi::SetXnackMode { xnack_enabled: -1 };
        self.call(&mut mode).map_err(BadStep)?;
        let asked = [attr(abi::KFD_IOCTL_SVM_ATTR_ACCESS, id), attr(abi::KFD_IOCTL_SVM_ATTR_CLR_FLAGS, 0)];
        let mut args = make(abi::KFD_IOCTL_SVM_OP_GET_ATTR, &asked)?;
        if let Err(errno) = self.svm(&mut args) {
            return Ok(Some(format!("no access: {errno}")));
        }
        let (access, clear) = (args.attrs()[0].attr_type, args.attrs()[1].value);
        let read_only = clear & abi::KFD_IOCTL_SVM_FLAG_GPU_RO == 0;
        let may = mode.xnack_enabled == 1
            && access != abi::KFD_IOCTL_SVM_ATTR_NO_ACCESS
            && !(touched.write && read_only)
            && self.process.is_acquired(self.gpus[gpu].id).unwrap_or(false);
        Ok((!may).then(|| "not done: would be a violation".to_owned()))
    }

    fn run(&mut self, gpu: usize, packets: &SdmaPackets) -> Result<String, BadStep> {
        if self.queue.as_ref().is_none_or(|(of, _)| *of != gpu) {
            self.queue = None;
            // Rings are mapped through the file that was acquired, whichever of the two it is.
            let Gpu { id, render, second, .. } = &self.gpus[gpu];
            if !matches!(self.process.acquire_vm(render, *id), Ok(Acquired::Now)) {
                let _ = self.process.acquire_vm(second, *id);
            }
            match self.process.create_sdma_queue(self.gpus[gpu].id, 64 << 10) {
                Ok(queue) => self.queue = Some((gpu, queue)),
                Err(error) => return Ok(format!("no queue: {error}")),
            }
        }
        let Some((_, queue)) = &mut self.queue else { return Ok("no queue".to_owned()) };
        // SAFETY: the packets name pages of the arena, which are read and written through atomics only.
        let done = unsafe { queue.submit(packets) }.and_then(|()| queue.wait(LONGEST));
        Ok(done.map_or_else(|error| format!("the GPU stops: {error}"), |()| "ok".to_owned()))
    }

    /// `end-queue`
    pub(super) fn end_queue(&mut self) -> Result<String, BadStep> {
        Ok(if self.queue.take().is_some() { "ok" } else { "there is none" }.to_owned())
    }
}
