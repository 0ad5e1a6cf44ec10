//! The GPU writes a word of the process's memory, through an address space on xe.

use std::time::Duration;

use drm_pagemap::Error;
use drm_pagemap::xe::{
    Batch, BatchBuffer, EngineClass, ExecQueue, QueueOptions, Syncs, Timeout, UserFence, Vm,
};

/// A hang guard.
const PATIENCE: Timeout = Timeout::Within(Duration::from_secs(120));

/// Stores `value` at `address`, waiting until that is done or the queue is dead.
pub(crate) fn store_u32(vm: &Vm, address: u64, value: u32) -> Result<(), Error> {
    let engines = vm.device().engines()?;
    let engine = engines.iter().find(|engine| engine.class == EngineClass::Copy);
    let queue = ExecQueue::create(vm, &[*engine.expect("a copy engine")], QueueOptions::new())?;
    let batch = BatchBuffer::new(Batch::new().store_u32(address, value))?;
    let mut fence = UserFence::new()?;
    // SAFETY: the command writes to memory of the test, or nowhere; batch and fence outlive the wait.
    unsafe { queue.submit(batch.address(), Syncs::new().fence(&mut fence)) }?;
    fence.wait(vm.device(), PATIENCE, Some(&queue))
}
