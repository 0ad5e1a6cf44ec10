//! `set`, `get` and the mode of faults.

use drm_pagemap::channel::Retry;
use drm_pagemap::uapi::kfd as abi;

use super::subject::{Open, named, told};
use super::words;
use crate::frame::{BadStep, Step};
use crate::memory::{PAGE, address};

impl Open {
    pub(super) fn svm(&self, args: &mut abi::SvmArgs) -> Result<(), String> {
        let request = args.request();
        // SAFETY: the range is of the arena or what a step names to be refused; the driver moves its pages and changes no byte.
        unsafe { self.kfd.call_sized("AMDKFD_IOC_SVM", request, args.bytes_mut(), Retry::Always) }
            .map_err(named)
    }

    /// Whether this kernel would crash rather than answer.
    fn would_crash(&self, step: &Step, op: u32, count: usize) -> Result<bool, BadStep> {
        let acquired = |gpu: &super::device::Gpu| self.process.is_acquired(gpu.id).unwrap_or(false);
        let room = step.number("room", count as u64)?;
        let claimed = step.number("nattr", count as u64)?;
        let missing = op != abi::KFD_IOCTL_SVM_OP_GET_ATTR && !self.gpus.iter().all(acquired);
        // A GPU without an address space of its own is trouble on every kernel, once any other has one.
        let partly = missing && self.gpus.iter().any(acquired);
        Ok(partly || (!self.careful && (missing || claimed > room)))
    }

    /// The call of a step: `at= pages= attrs=`, and what may be wrong: `off=`, `plus=`, `addr=`, `len=`, `op=`, `nattr=`, `room=`.
    fn svm_step(&self, step: &Step, op: u32) -> Result<(String, Vec<abi::SvmAttribute>), BadStep> {
        let attrs = words::attributes(step, &self.gpus)?;
        let op = step.number("op", op.into())? as u32;
        if self.would_crash(step, op, attrs.len())? {
            return Ok(("not asked".to_owned(), Vec::new()));
        }
        let start = match step.text("addr") {
            Some(_) => step.number("addr", 0)?,
            None => address(step.number("at", 0)?).wrapping_add(step.number("off", 0)?),
        };
        let size = match step.text("len") {
            Some(_) => step.number("len", 0)?,
            None => step.number("pages", 1)?.wrapping_mul(PAGE).wrapping_add(step.number("plus", 0)?),
        };
        let room = step.number("room", attrs.len() as u64)?.min(64) as usize;
        let claimed = step.number("nattr", attrs.len() as u64)? as u32;
        let mut bytes = vec![0u64; 3 + room.max(attrs.len())];
        bytes[..2].copy_from_slice(&[start, size]);
        bytes[2] = u64::from(claimed) << 32 | u64::from(op);
        for (word, attr) in bytes[3..].iter_mut().zip(&attrs) {
            *word = u64::from(attr.value) << 32 | u64::from(attr.attr_type);
        }
        let request = abi::AMDKFD_IOC_SVM + ((room as u32 * 8) << 16);
        let buffer = &mut bytemuck::cast_slice_mut(&mut bytes)[..24 + 8 * room];
        // SAFETY: as in `svm`; the buffer is as long as the request says.
        let answer = unsafe { self.kfd.call_sized("AMDKFD_IOC_SVM", request, buffer, Retry::Always) };
        let back = bytes[3..].iter().take(room.min(attrs.len()));
        let back = back.map(|word| abi::SvmAttribute { attr_type: *word as u32, value: (word >> 32) as u32 });
        Ok((told(answer.map_err(named)), back.collect()))
    }

    /// `set ...`
    pub(super) fn set(&mut self, step: &Step) -> Result<String, BadStep> {
        Ok(self.svm_step(step, abi::KFD_IOCTL_SVM_OP_SET_ATTR)?.0)
    }

    /// `get ...`: the errno, and the attributes as they came back, also after an error.
    pub(super) fn get(&mut self, step: &Step) -> Result<String, BadStep> {
        let (answer, attrs) = self.svm_step(step, abi::KFD_IOCTL_SVM_OP_GET_ATTR)?;
        let attrs = attrs.into_iter().map(|attr| words::told(attr, &self.gpus));
        Ok([vec![answer], attrs.collect()].concat().join(" "))
    }

    /// `xnack mode=`: -1 asks, given as 4294967295.
    pub(super) fn xnack(&mut self, step: &Step) -> Result<String, BadStep> {
        let mode = step.number("mode", u32::MAX.into())? as u32 as i32;
        let mut arg = abi::SetXnackMode { xnack_enabled: mode };
        let answer = self.call(&mut arg);
        Ok(format!("{} mode {}", told(answer), arg.xnack_enabled))
    }
}
