//! GPU commands of a test's own, on xe.

use std::time::Duration;

use drm_pagemap::xe::{
    Batch, BatchBuffer, EngineClass, ExecQueue, QueueOptions, Syncs, Timeout, UserFence, Vm, VmFlags,
};
use drm_pagemap::{Device, Error, Gpu};

use crate::harness::Stop;

/// A hang guard.
pub(crate) const PATIENCE: Timeout = Timeout::Within(Duration::from_secs(120));

/// A mirrored VM of its own with a queue on the copy engine.
pub(crate) struct Runner {
    vm: Vm,
    queue: ExecQueue,
}

impl Runner {
    pub(crate) fn new(gpu: &Gpu) -> Result<Self, Stop> {
        let Device::Xe(device) = gpu.device() else { skip!("for xe only") };
        let vm = Vm::create(device, VmFlags::SVM)?;
        vm.mirror_all()?;
        let engines = device.engines()?;
        let engine = engines.iter().find(|engine| engine.class == EngineClass::Copy);
        let engine = *engine.expect("every device has a copy engine");
        let queue = ExecQueue::create(&vm, &[engine], QueueOptions::new())?;
        Ok(Self { vm, queue })
    }

    /// Runs commands and waits until they are done or the queue is dead.
    pub(crate) fn run(&self, batch: Batch, patience: Timeout) -> Result<(), Error> {
        let batch = BatchBuffer::new(batch)?;
        let mut fence = UserFence::new()?;
        // SAFETY: the commands write to a buffer of the test that outlives the queue, or nowhere; the batch lives until the
        // wait has ended, and where it ends without the commands, the queue executes no more.
        unsafe { self.queue.submit(batch.address(), Syncs::new().fence(&mut fence)) }?;
        let waited = fence.wait(self.vm.device(), patience, Some(&self.queue));
        if waited.is_err() {
            // The commands may still be read: their memory stays.
            std::mem::forget(batch);
        }
        waited
    }

    /// Has the GPU store a word of the test's own memory.
    pub(crate) fn store_u64(&self, address: u64, value: u64) -> Result<(), Error> {
        self.run(Batch::new().store_u64(address, value), PATIENCE)
    }

    pub(crate) fn queue(&self) -> &ExecQueue {
        &self.queue
    }
}
