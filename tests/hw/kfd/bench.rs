//! What the tests of KFD share: attributes of ranges, and a copy engine that stands for "the GPU".

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use drm_pagemap::device::KfdGpu;
use drm_pagemap::kfd::{
    GfxVersion, GpuId, Location, MemoryException, MemoryExceptions, Process, RangeAttributes, SdmaPackets,
    SdmaQueue, SvmAttribute, Xnack,
};
use drm_pagemap::{Device, ErrorKind, Gpu, PageRange};

use crate::harness::{Stop, TestResult};
use crate::placement::device_bytes;

/// Only a test that fails waits this long.
pub(crate) const HANG: Duration = Duration::from_secs(30);

/// One GPU, every address space acquired.
pub(crate) struct Kfd<'c> {
    gpu: &'c KfdGpu,
    /// The mode that the process is in.
    pub(crate) xnack: Xnack,
}

impl<'c> Kfd<'c> {
    pub(crate) fn of(gpu: &'c Gpu) -> Result<Self, Stop> {
        let Device::Kfd(gpu) = gpu.device() else { skip!("for amdgpu only") };
        gpu.acquire()?;
        Ok(Self { gpu, xnack: gpu.process().xnack()? })
    }

    pub(crate) fn id(&self) -> GpuId {
        self.gpu.id()
    }

    pub(crate) fn process(&self) -> &'c Process {
        self.gpu.process()
    }

    /// The GPU's VRAM.
    pub(crate) fn here(&self) -> Location {
        Location::Gpu(self.id())
    }

    pub(crate) fn set(&self, range: PageRange, attributes: &[SvmAttribute]) -> TestResult {
        Ok(self.process().set_attributes(range, attributes)?)
    }

    pub(crate) fn attributes(&self, range: PageRange) -> Result<RangeAttributes, Stop> {
        Ok(self.process().get_attributes(range, &[self.id()])?)
    }

    /// Lets the GPU reach a range, which may move for it.
    pub(crate) fn grant(&self, range: PageRange) -> TestResult {
        self.set(range, &[SvmAttribute::Access(self.id())])
    }

    pub(crate) fn prefetch(&self, range: PageRange, to: Location) -> TestResult {
        self.set(range, &[SvmAttribute::Prefetch(to)])
    }

    /// Lets the GPU reach a range and puts all of it into VRAM.
    pub(crate) fn place(&self, range: PageRange) -> TestResult {
        self.set_until_placed(range, SvmAttribute::Access(self.id()))
    }

    /// Sets an attribute together with a prefetch into VRAM, again while the kernel leaves pages behind that it cannot take at the
    /// moment, as those in a batch of another processor.
    pub(crate) fn set_until_placed(&self, range: PageRange, attribute: SvmAttribute) -> TestResult {
        const ATTEMPTS: u32 = 10;
        for _ in 0..ATTEMPTS {
            self.set(range, &[attribute, SvmAttribute::Prefetch(self.here())])?;
            if device_bytes(range)? == range.len() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(device_bytes(range)?, range.len(), "all of {range} is in VRAM");
        Ok(())
    }

    /// The XGMI hive that the GPU belongs to.
    pub(crate) fn hive(&self) -> Result<Option<NonZeroU64>, Stop> {
        Ok(self.gpu.node()?.hive_id())
    }

    /// A copy engine.
    pub(crate) fn engine(&self) -> Result<Engine, Stop> {
        let Some(gfx) = self.gpu.node()?.gfx_version() else { skip!("the topology tells no generation") };
        Ok(Engine { queue: self.process().create_sdma_queue(self.id(), 64 << 10)?, gfx })
    }
}

/// A copy engine with a queue of its own: the GPU that reads and writes memory.
pub(crate) struct Engine {
    queue: SdmaQueue,
    gfx: GfxVersion,
}

impl Engine {
    pub(crate) fn packets(&self) -> SdmaPackets {
        SdmaPackets::new(self.gfx)
    }

    /// Has the engine do these, and waits.
    pub(crate) fn run(&mut self, packets: &SdmaPackets) -> TestResult {
        self.start(packets)?;
        Ok(self.queue.wait(HANG)?)
    }

    /// Has the engine do these, and does not wait.
    pub(crate) fn start(&mut self, packets: &SdmaPackets) -> TestResult {
        // SAFETY: the packets of the tests name memory that the test owns and leaves alone until the engine is done, or memory
        // that the GPU is denied.
        Ok(unsafe { self.queue.submit(packets) }?)
    }

    /// Has the engine do these, and waits for that or for a violation.
    pub(crate) fn run_or_violate(
        &mut self,
        packets: &SdmaPackets,
        violations: &MemoryExceptions,
    ) -> Result<Option<MemoryException>, Stop> {
        self.start(packets)?;
        let end = Instant::now() + HANG;
        loop {
            match self.queue.wait(Duration::from_millis(20)) {
                Ok(()) => return Ok(None),
                Err(error) if error.kind() != ErrorKind::TimedOut || Instant::now() > end => {
                    return Err(error.into());
                }
                Err(_) => {}
            }
            if let Some(violation) = violations.wait(Some(Duration::from_millis(1)))? {
                return Ok(Some(violation));
            }
        }
    }

    pub(crate) fn copy(&mut self, from: u64, to: u64, bytes: u64) -> TestResult {
        let mut packets = self.packets();
        packets.copy(from, to, bytes);
        self.run(&packets)
    }

    pub(crate) fn fill(&mut self, range: PageRange, value: u32) -> TestResult {
        let mut packets = self.packets();
        packets.fill(range.start(), value, range.len())?;
        self.run(&packets)
    }

    pub(crate) fn write(&mut self, to: u64, values: &[u32]) -> TestResult {
        let mut packets = self.packets();
        packets.write(to, values)?;
        self.run(&packets)
    }

    pub(crate) fn fence(&mut self, to: u64, value: u32) -> TestResult {
        let mut packets = self.packets();
        packets.fence(to, value)?;
        self.run(&packets)
    }
}

/// A part of a range, in bytes from its start.
pub(crate) fn part(whole: PageRange, start: u64, len: u64) -> PageRange {
    assert!(start + len <= whole.len());
    PageRange::new(whole.start() + start, len).expect("parts are of whole pages")
}
