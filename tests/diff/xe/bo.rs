//! Buffer objects.

use std::sync::atomic::AtomicU64;

use drm_pagemap::uapi::drm::GemClose;
use drm_pagemap::uapi::xe::*;

use super::subject::{Open, told};
use super::words::rubbish;
use crate::frame::{BadStep, Step};
use crate::memory::{PAGE, load, store};

impl Open {
    /// `bo pages= place=MASK cache=wb|wc|N flags= vm=`
    pub(super) fn bo(&mut self, step: &Step) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let cache = match step.text("cache").unwrap_or("wb") {
            "wb" => DRM_XE_GEM_CPU_CACHING_WB,
            "wc" => DRM_XE_GEM_CPU_CACHING_WC,
            _ => step.number("cache", 0)? as u16,
        };
        let mut arg = GemCreate {
            extensions: rubbish.extensions,
            size: (step.number("pages", 1)? * PAGE).wrapping_add(step.number("plus", 0)?),
            placement: step.number("place", 1)? as u32,
            flags: step.number("flags", 0)? as u32,
            vm_id: step.number("vm", 0)? as u32,
            handle: step.number("handle", 0)? as u32,
            cpu_caching: cache,
            pad: [rubbish.pad as u16, 0, 0],
            reserved: rubbish.reserved,
        };
        Ok(match self.call(&mut arg) {
            Ok(()) => format!("ok bo={}", arg.handle),
            Err(errno) => errno,
        })
    }

    /// `close-bo bo=`
    pub(super) fn close_bo(&mut self, step: &Step) -> Result<String, BadStep> {
        let mut arg = GemClose { handle: step.number("bo", 1)? as u32, pad: rubbish(step)?.pad };
        Ok(told(self.call(&mut arg)))
    }

    /// `bo-word bo= page= v=`: the first word of a page of an object, written first if `v` is given. `skip=` leaves pages out of the
    /// mapping.
    pub(super) fn bo_word(&mut self, step: &Step) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let mut arg = GemMmapOffset {
            extensions: rubbish.extensions,
            handle: step.number("bo", 1)? as u32,
            flags: step.number("flags", 0)? as u32,
            reserved: rubbish.reserved,
            ..Default::default()
        };
        if let Err(errno) = self.call(&mut arg) {
            return Ok(errno);
        }
        let page = step.number("page", 0)?;
        let at = arg.offset.wrapping_add(step.number("skip", 0)? * PAGE);
        let mapping = match self.channel.map("mmap", at, ((page + 1) * PAGE) as usize) {
            Ok(mapping) => mapping,
            Err(error) => {
                return Ok(format!("mmap: {}", error.errno().map_or_else(String::new, |e| e.to_string())));
            }
        };
        // SAFETY: the first word of a page that is mapped for reading and writing as long as `mapping` is; whoever else writes to
        // it, GPU or another mapping, does so atomically as far as this test can tell.
        let word =
            unsafe { AtomicU64::from_ptr(mapping.as_ptr().as_ptr().add((page * PAGE) as usize).cast()) };
        if step.text("v").is_some() {
            store(word, step.number("v", 0)?);
        }
        Ok(format!("ok {:#x}", load(word)))
    }
}
