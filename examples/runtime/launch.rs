//! The smallest GPU program: it adds 1 to the first word.

use std::time::Duration;

use anyhow::{Context, Result};
use drm_pagemap::Mirror;
use drm_pagemap::xe::{Batch, BatchBuffer, EngineClass, ExecQueue, QueueOptions, Syncs, Timeout, UserFence};

const PATIENCE: Timeout = Timeout::Within(Duration::from_secs(60));

pub(crate) fn increment(mirror: &Mirror, data: &mut [u32]) -> Result<()> {
    let Some(vm) = mirror.vm() else {
        // A runtime on KFD has queues of its own; here the CPU stands in, and its touch brings the pages back.
        data[0] += 1;
        return Ok(());
    };
    let engines = vm.device().engines()?;
    let engine = engines.iter().find(|engine| engine.class == EngineClass::Copy).context("no copy engine")?;
    let queue = ExecQueue::create(vm, &[*engine], QueueOptions::new())?;
    let batch = BatchBuffer::new(Batch::new().atomic_increment(data.as_ptr() as u64))?;
    let mut fence = UserFence::new()?;
    // SAFETY: the command writes to the first word of `data`, to which `&mut` is the only access until the wait has ended; batch
    // and fence outlive the wait.
    unsafe { queue.submit(batch.address(), Syncs::new().fence(&mut fence)) }?;
    fence.wait(vm.device(), PATIENCE, Some(&queue))?;
    Ok(())
}
