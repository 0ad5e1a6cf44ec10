//! The GPU at work, as far as the drivers themselves can say it: storing numbers. A real runtime would run kernels.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use drm_pagemap::kfd::{GfxVersion, SdmaPackets, SdmaQueue, SvmAttribute};
use drm_pagemap::xe::{
    Batch, BatchBuffer, EngineClass, ExecQueue, QueueOptions, Syncs, Timeout, UserFence, Vm, VmFlags,
};
use drm_pagemap::{Device, Gpu, PageRange};

/// A hang guard, not a measure.
const LIMIT: Duration = Duration::from_secs(60);

/// A queue on a GPU that sees this process's memory.
pub(crate) enum Worker {
    /// Any engine of an xe GPU runs stores.
    Xe(Vm, Option<ExecQueue>),
    /// A copy engine of an AMD GPU.
    Kfd(Gpu, GfxVersion, Option<Box<SdmaQueue>>),
}

impl Worker {
    pub(crate) fn new(gpu: &Gpu) -> Result<Self> {
        match gpu.device() {
            Device::Xe(device) => {
                let vm = Vm::create(device, VmFlags::SVM)?;
                vm.mirror_all()?;
                let engines = device.engines()?;
                let engine = engines.iter().find(|engine| engine.class == EngineClass::Copy);
                let queue =
                    ExecQueue::create(&vm, &[*engine.context("no copy engine")?], QueueOptions::new())?;
                Ok(Self::Xe(vm, Some(queue)))
            }
            Device::Kfd(kfd) => {
                kfd.acquire()?;
                let gfx = kfd.node()?.gfx_version().context("the topology tells no generation")?;
                let queue = kfd.process().create_sdma_queue(kfd.id(), 64 << 10)?;
                Ok(Self::Kfd(gpu.clone(), gfx, Some(Box::new(queue))))
            }
            other => bail!("no way to make {other:?} work"),
        }
    }

    /// Has the GPU store `value` in every `step`-th number of `data`, from the first, and waits until it is done.
    pub(crate) fn store(&mut self, data: &mut [u32], step: usize, value: u32) -> Result<()> {
        let addresses = data.iter().step_by(step).map(|word| std::ptr::from_ref(word) as u64);
        match self {
            Self::Xe(vm, queue) => {
                let batch = addresses.fold(Batch::new(), |batch, address| batch.store_u32(address, value));
                let batch = BatchBuffer::new(batch)?;
                let mut fence = UserFence::new()?;
                let busy = queue.as_ref().context("the queue is dead")?;
                // SAFETY: the stores go to `data`, which is borrowed exclusively until this function returns, and it returns
                // when they are done or the queue that they are in is destroyed. Batch and fence live as long.
                let done = unsafe { busy.submit(batch.address(), Syncs::new().fence(&mut fence)) }
                    .and_then(|()| fence.wait(vm.device(), Timeout::Within(LIMIT), Some(busy)));
                if done.is_err() {
                    *queue = None;
                }
                Ok(done?)
            }
            Self::Kfd(gpu, gfx, queue) => {
                let Device::Kfd(kfd) = gpu.device() else { bail!("not a GPU of KFD") };
                // The GPU needs leave to touch a range, and without XNACK its pages are mapped for it now.
                kfd.process().set_attributes(PageRange::covering(data), &[SvmAttribute::Access(kfd.id())])?;
                let addresses: Vec<u64> = addresses.collect();
                // As many packets as the ring takes.
                for part in addresses.chunks(1024) {
                    let mut packets = SdmaPackets::new(*gfx);
                    for &address in part {
                        packets.write(address, &[value])?;
                    }
                    let busy = queue.as_mut().context("the queue is dead")?;
                    // SAFETY: as above.
                    let done = unsafe { busy.submit(&packets) }.and_then(|()| busy.wait(LIMIT));
                    if done.is_err() {
                        *queue = None;
                    }
                    done?;
                }
                Ok(())
            }
        }
    }
}
