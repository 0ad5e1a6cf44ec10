//! Queues, GPU commands and waits.

use drm_pagemap::uapi::xe::*;

use super::bind::vm_id;
use super::subject::{Open, told};
use super::words::{self, bits, rubbish};
use crate::frame::{BadStep, Step};
use crate::memory::{CONTROL, address, stamp, store};

/// Where batches are, unless a step says otherwise; the engine may read ahead into the next page.
const BATCH_PAGE: u64 = CONTROL;
const BATCH_OFFSET: u64 = 1024;
/// Where the batch behind an unfenced one is.
const SECOND_BATCH_PAGE: u64 = CONTROL + 6;
/// Where submissions signal, unless a step says otherwise.
const FENCE_PAGE: u64 = CONTROL + 3;
const FENCE_OFFSET: u64 = 512;
/// How long a fence may take; far above what any takes.
const PATIENCE_NS: i64 = 20_000_000_000;
/// Most commands of a step: what fits behind the offset in a page.
const MOST_COMMANDS: u64 = 64;

fn queue_id(step: &Step) -> Result<u32, BadStep> {
    Ok(step.number("queue", 1)? as u32)
}

impl Open {
    /// `queue class= vm=`
    pub(super) fn queue(&mut self, step: &Step) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let class = bits(step, "class", words::CLASSES, DRM_XE_ENGINE_CLASS_COPY.into())?;
        let instance = EngineClassInstance {
            engine_class: class as u16,
            engine_instance: step.number("instance", 0)? as u16,
            gt_id: step.number("gt", 0)? as u16,
            pad: 0,
        };
        let count = step.number("placements", 1)?.min(64) as usize;
        let instances = vec![instance; count * step.number("width", 1)?.min(64) as usize];
        let mut arg = ExecQueueCreate {
            extensions: rubbish.extensions,
            width: step.number("width", 1)? as u16,
            num_placements: count as u16,
            vm_id: vm_id(step)?,
            flags: step.number("flags", 0)? as u32,
            instances: instances.as_ptr() as u64,
            reserved: rubbish.reserved,
            ..Default::default()
        };
        Ok(match self.call(&mut arg) {
            Ok(()) => format!("ok queue={}", arg.exec_queue_id),
            Err(errno) => errno,
        })
    }

    /// `destroy-queue queue=`
    pub(super) fn destroy_queue(&mut self, step: &Step) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let mut arg =
            ExecQueueDestroy { exec_queue_id: queue_id(step)?, pad: rubbish.pad, reserved: rubbish.reserved };
        Ok(told(self.call(&mut arg)))
    }

    /// `banned queue=`
    pub(super) fn banned(&mut self, step: &Step) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let mut arg = ExecQueueGetProperty {
            extensions: rubbish.extensions,
            exec_queue_id: queue_id(step)?,
            property: step.number("property", 0)? as u32,
            reserved: rubbish.reserved,
            ..Default::default()
        };
        Ok(match self.call(&mut arg) {
            Ok(()) => format!("ok banned={}", arg.value),
            Err(errno) => errno,
        })
    }

    /// `gpu op=store|copy|inc|dec|none at= pages= v= from= queue=`: commands on the first word of pages (`inc`, `dec`: on the
    /// second), one after the other, and waits for them. `batch=` and `fence=` put those into pages of the arena.
    pub(super) fn gpu(&mut self, step: &Step) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let (at, pages) = (step.number("at", 0)?, step.number("pages", 1)?.min(MOST_COMMANDS));
        let (value, from) = (step.number("v", 1)?, step.number("from", 0)?);
        let op = step.text("op").unwrap_or("store");
        let mut commands: Vec<u32> = Vec::new();
        let push = |commands: &mut Vec<u32>, head: u32, addresses: &[u64], more: &[u32]| {
            commands.push(head);
            for address in addresses {
                commands.extend([*address as u32, (*address >> 32) as u32]);
            }
            commands.extend(more);
        };
        for page in at..at.saturating_add(pages) {
            let word = address(page);
            match op {
                "store" => push(&mut commands, 0x1000_0002, &[word], &[stamp(page, value) as u32]),
                "copy" => push(&mut commands, 0x1700_0003, &[word, address(from + page - at)], &[]),
                "inc" => push(&mut commands, 0x1780_0501, &[word + 8], &[]),
                "dec" => push(&mut commands, 0x1780_0601, &[word + 8], &[]),
                "none" => {}
                other => return Err(BadStep(format!("op={other} means nothing"))),
            }
        }
        commands.push(0x0500_0000);
        if commands.len() % 2 == 1 {
            commands.push(0);
        }
        let batch = step.number("batch", BATCH_PAGE)?;
        for (number, pair) in commands.chunks(2).enumerate() {
            match self.arena.word(batch, BATCH_OFFSET + 8 * number as u64, true) {
                Some(word) => store(word, u64::from(pair[0]) | u64::from(pair[1]) << 32),
                None => return Ok("SEGV at the batch".to_owned()),
            }
        }
        let fence = step.number("fence", FENCE_PAGE)?;
        match self.arena.word(fence, FENCE_OFFSET, true) {
            Some(word) => store(word, 0),
            None => return Ok("SEGV at the fence".to_owned()),
        }
        self.fence += 1;
        let value = self.fence;
        let sync = SyncEntry {
            sync_type: step.number("sync-type", DRM_XE_SYNC_TYPE_USER_FENCE.into())? as u32,
            flags: step.number("sync-flags", DRM_XE_SYNC_FLAG_SIGNAL.into())? as u32,
            addr: address(fence).wrapping_add(FENCE_OFFSET).wrapping_add(step.number("sync-off", 0)?),
            timeline_value: value,
            ..Default::default()
        };
        let syncs = vec![sync; step.number("syncs", 1)? as usize];
        let buffers = step.number("buffers", 1)? as u16;
        let mut arg = Exec {
            extensions: rubbish.extensions,
            exec_queue_id: queue_id(step)?,
            num_syncs: syncs.len() as u32,
            syncs: syncs.as_ptr() as u64,
            address: step.number("address", address(batch) + BATCH_OFFSET)?,
            num_batch_buffer: buffers,
            pad: [rubbish.pad as u16, 0, 0],
            reserved: rubbish.reserved,
        };
        if let Err(errno) = self.call(&mut arg) {
            return Ok(errno);
        }
        // Without a batch nothing is ever signalled.
        if buffers == 0 {
            return Ok("ok".to_owned());
        }
        if syncs.is_empty() {
            // A queue does its work in order: the end of an empty batch is the end of this one.
            // Its commands lie elsewhere: these may not have been read yet.
            let after = Step::new("gpu").with("op", "none").with("queue", queue_id(step)?);
            let end = self.gpu(&after.with("batch", SECOND_BATCH_PAGE))?;
            // Whether a queue dies before or after it takes the next batch is a matter of time.
            let dead = matches!(end.as_str(), "ECANCELED" | "ok fence=EIO");
            return Ok(format!("ok, then {}", if dead { "dead" } else { &end }));
        }
        Ok(format!("ok fence={}", self.wait_for(fence, FENCE_OFFSET, value, queue_id(step)?)))
    }

    /// Waits until a fence has its value.
    pub(super) fn wait_for(&self, page: u64, offset: u64, value: u64, queue: u32) -> String {
        let mut arg = WaitUserFence {
            addr: address(page) + offset,
            op: DRM_XE_UFENCE_WAIT_OP_EQ,
            value,
            mask: u64::MAX,
            timeout: PATIENCE_NS,
            exec_queue_id: queue,
            ..Default::default()
        };
        told(self.call(&mut arg))
    }

    /// `wait op= value= mask= at= off= flags= queue=`: looks once at a word of the arena.
    pub(super) fn wait(&mut self, step: &Step) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let mut arg = WaitUserFence {
            extensions: rubbish.extensions,
            addr: address(step.number("at", FENCE_PAGE)?).wrapping_add(step.number("off", 0)?),
            op: step.number("op", 0)? as u16,
            flags: step.number("flags", 0)? as u16,
            pad: rubbish.pad,
            value: step.number("value", 0)?,
            mask: step.number("mask", u64::MAX)?,
            timeout: 0,
            exec_queue_id: step.number("queue", 0)? as u32,
            pad2: step.number("pad2", 0)? as u32,
            reserved: rubbish.reserved,
        };
        Ok(told(self.call(&mut arg)))
    }
}
