//! VMs, binds and advice.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU32;

use drm_pagemap::uapi::xe::*;

use super::subject::{Open, told};
use super::words::{self, bits, rubbish};
use crate::frame::{BadStep, Step};
use crate::memory::{CONTROL, PAGE, address, store};

/// Where binds signal: the page behind those of GPU commands.
const FENCE_PAGE: u64 = CONTROL + 2;

/// `at=`/`pages=` in pages, moved by `off=` and `plus=` bytes; or `addr=` and `len=` as they are.
fn span(step: &Step) -> Result<(u64, u64), BadStep> {
    let start = address(step.number("at", 0)?).wrapping_add(step.number("off", 0)?);
    let len = step.number("pages", 1)?.wrapping_mul(PAGE).wrapping_add(step.number("plus", 0)?);
    Ok((step.number("addr", start)?, step.number("len", len)?))
}

/// The VM of a step.
pub(super) fn vm_id(step: &Step) -> Result<u32, BadStep> {
    Ok(step.number("vm", 1)? as u32)
}

impl Open {
    /// `vm flags=`
    pub(super) fn vm(&mut self, step: &Step) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let mut arg = VmCreate {
            extensions: rubbish.extensions,
            flags: bits(
                step,
                "flags",
                words::VM_FLAGS,
                DRM_XE_VM_CREATE_FLAG_LR_MODE | DRM_XE_VM_CREATE_FLAG_FAULT_MODE,
            )?,
            reserved: rubbish.reserved,
            ..Default::default()
        };
        Ok(match self.call(&mut arg) {
            Ok(()) => format!("ok vm={}", arg.vm_id),
            Err(errno) => errno,
        })
    }

    /// `destroy-vm vm=`
    pub(super) fn destroy_vm(&mut self, step: &Step) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let mut arg = VmDestroy { vm_id: vm_id(step)?, pad: rubbish.pad, reserved: rubbish.reserved };
        Ok(told(self.call(&mut arg)))
    }

    fn operation(step: &Step) -> Result<VmBindOp, BadStep> {
        let (addr, range) = span(step)?;
        let userptr = match step.text("from") {
            Some(_) => address(step.number("from", 0)?),
            None => 0,
        };
        let op = bits(step, "op", words::BIND_OPS, DRM_XE_VM_BIND_OP_MAP)?;
        Ok(VmBindOp {
            obj: step.number("bo", 0)? as u32,
            pat_index: step.number("pat", 2)? as u16,
            obj_offset: step.number("offset", userptr)?,
            range,
            addr,
            op,
            flags: bits(step, "flags", words::BIND_FLAGS, 0)?,
            prefetch_mem_region_instance: bits(step, "region", words::REGIONS, 0)?,
            ..Default::default()
        })
    }

    /// `bind op= at= pages= flags= pat= bo= offset= from= region= fence= queue=`: one operation. `fence=1` has the completion
    /// told, and waits for it.
    pub(super) fn bind(&mut self, step: &Step) -> Result<String, BadStep> {
        let op = Self::operation(step)?;
        self.submit(step, 1, VmBindOps::inline(op))
    }

    /// `op ...`: as `bind`, but waits for `binds`.
    pub(super) fn op(&mut self, step: &Step) -> Result<String, BadStep> {
        self.ops.push(Self::operation(step)?);
        Ok("noted".to_owned())
    }

    /// `binds fence= queue=`: all operations noted, in one call. `count=` claims another number.
    pub(super) fn binds(&mut self, step: &Step) -> Result<String, BadStep> {
        let ops = std::mem::take(&mut self.ops);
        let count = ops.len() as u64;
        let count = step.number("count", count)?.min(count) as u32;
        let argument = match count {
            0 => VmBindOps::default(),
            1 => VmBindOps::inline(ops[0]),
            _ => VmBindOps::vector(step.number("vector", ops.as_ptr() as u64)?),
        };
        self.submit(step, count, argument)
    }

    fn submit(&mut self, step: &Step, count: u32, binds: VmBindOps) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let fences = step.number("fence", 0)?;
        self.fence += 1;
        let value = self.fence;
        let sync = SyncEntry {
            sync_type: step.number("sync-type", DRM_XE_SYNC_TYPE_USER_FENCE.into())? as u32,
            flags: step.number("sync-flags", DRM_XE_SYNC_FLAG_SIGNAL.into())? as u32,
            addr: address(FENCE_PAGE).wrapping_add(step.number("sync-off", 0)?),
            timeline_value: value,
            ..Default::default()
        };
        let syncs = vec![sync; fences as usize];
        let mut arg = VmBind {
            extensions: rubbish.extensions,
            vm_id: vm_id(step)?,
            exec_queue_id: step.number("queue", 0)? as u32,
            pad: rubbish.pad,
            num_binds: count,
            binds,
            pad2: step.number("pad2", 0)? as u32,
            num_syncs: syncs.len() as u32,
            syncs: if syncs.is_empty() { 0 } else { syncs.as_ptr() as u64 },
            reserved: rubbish.reserved,
        };
        if let Some(word) = self.arena.word(FENCE_PAGE, 0, true) {
            store(word, 0);
        }
        let answer = self.call(&mut arg);
        let done = answer.is_ok() && fences == 1;
        let answer = told(answer);
        Ok(if done { format!("{answer} fence={}", self.wait_for(FENCE_PAGE, 0, value, 0)) } else { answer })
    }

    /// `madvise type= at= pages= ...`; `loc`: `fd=default|system|own|second|closed|other|-N region= policy=`; `atomic`, `pat`, `purge`:
    /// `value=`; `purge`: `retained=1` to ask, with `retained-is=` put there before.
    pub(super) fn madvise(&mut self, step: &Step) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let (start, range) = span(step)?;
        let attribute = bits(step, "type", words::ADVICE, DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC)?;
        let value = step.number("value", 0)? as u32;
        let pad = step.number("value-pad", 0)? as u32;
        let reserved = step.number("value-reserved", 0)?;
        let retained = AtomicU32::new(step.number("retained-is", 0)? as u32);
        let ask = step.number("retained", 0)? != 0;
        let value: MadviseValue = match attribute {
            DRM_XE_MEM_RANGE_ATTR_ATOMIC => MadviseAtomic { val: value, pad, reserved }.into(),
            DRM_XE_MEM_RANGE_ATTR_PAT => MadvisePat { val: value, pad, reserved }.into(),
            DRM_XE_VMA_ATTR_PURGEABLE_STATE => {
                let retained_ptr = if ask { retained.as_ptr() as u64 } else { reserved };
                MadvisePurgeable { val: value, pad, retained_ptr }.into()
            }
            _ => MadvisePreferredLoc {
                devmem_fd: self.file_number(step)? as u32,
                migration_policy: step.number("policy", 0)? as u16,
                region_instance: step.number("region", 0)? as u16,
                reserved,
            }
            .into(),
        };
        let mut arg = Madvise {
            extensions: rubbish.extensions,
            start,
            range,
            vm_id: vm_id(step)?,
            attribute,
            value,
            reserved: rubbish.reserved,
        };
        let answer = told(self.call(&mut arg));
        let retained = retained.load(std::sync::atomic::Ordering::Relaxed);
        Ok(if ask { format!("{answer} retained={retained}") } else { answer })
    }

    fn file_number(&self, step: &Step) -> Result<i32, BadStep> {
        let number =
            |descriptor: Option<BorrowedFd<'_>>| descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd());
        Ok(match step.text("fd").unwrap_or("default") {
            "default" => 0,
            "system" => -1,
            "minus2" => -2,
            "own" => number(self.channel.descriptor()),
            "second" => number(self.second.as_ref().map(AsFd::as_fd)),
            // Standard error: open, and no device.
            "other" => 2,
            "closed" => 1000,
            other => return Err(BadStep(format!("fd={other} means nothing"))),
        })
    }

    /// The name of a file number that attributes tell.
    pub(super) fn file_name(&self, number: i32) -> String {
        let is = |descriptor: Option<BorrowedFd<'_>>| {
            descriptor.is_some_and(|descriptor| descriptor.as_raw_fd() == number)
        };
        match number {
            0 => "default".to_owned(),
            -1 => "system".to_owned(),
            _ if is(self.channel.descriptor()) => "own".to_owned(),
            _ if is(self.second.as_ref().map(AsFd::as_fd)) => "second".to_owned(),
            number => number.to_string(),
        }
    }
}
