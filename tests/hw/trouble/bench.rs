//! The device of a test of trouble, and who is told to make it.

use std::sync::Arc;
use std::time::Duration;

use drm_pagemap::pagemap::{Injection, Trigger};
use drm_pagemap::sim::Machine;
use drm_pagemap::sim::xe::{Platform, XeConfig, XeGpu, XeInjection};
use drm_pagemap::{Device, Driver, Gpu, Mirror, Outcome, xe};

use crate::harness::mailbox::{Count, Mailbox, Trouble};
use crate::harness::{Context, Slot, Stop};

/// How long slow things take: long enough to be in the way, and far below any time limit of a driver.
const SLOW: Duration = Duration::from_millis(100);

/// A device with trouble. The device comes first, to be closed before it is recovered.
pub(super) struct Bench {
    pub(super) gpu: Gpu,
    pub(super) source: Source,
}

/// Who makes the trouble.
pub(super) enum Source {
    /// The virtual device; the driver is real.
    Virtual { mailbox: Mailbox, slot: Slot },
    /// The simulated device.
    Simulated(Arc<XeGpu>),
}

impl Bench {
    /// The device under test; a simulated one is made afresh, because the test needs its other end.
    pub(super) fn new(context: &Context) -> Result<Self, Stop> {
        if !context.gpu().is_simulated() {
            let mailbox = Mailbox::of(context.gpu()).map_err(Stop::Skip)?;
            let slot = Slot::of(context.gpu()).map_err(Stop::Skip)?;
            // An open file of its own, so that the test can close it.
            let node = context.gpu().device().node();
            let mut found = Gpu::discover()?.into_iter().filter(|gpu| gpu.device().node() == node);
            let gpu = found.next().expect("the device is still there");
            // A test that failed may have left orders.
            mailbox.clear();
            return Ok(Self { gpu, source: Source::Virtual { mailbox, slot } });
        }
        if context.gpu().driver() != Driver::Xe {
            skip!("for xe only");
        }
        let device = XeGpu::new(XeConfig::new(Platform::Battlemage).vram(64 << 20))?;
        let found = Gpu::discover_in(&Machine::new().with_xe(device.clone()));
        let gpu = found.into_iter().next().expect("the simulated device is found");
        Ok(Self { gpu, source: Source::Simulated(device) })
    }

    /// The virtual device's mailbox, or a skip for what a simulated device has no counterpart of.
    pub(super) fn mailbox(&self, what: &str) -> Result<&Mailbox, Stop> {
        match &self.source {
            Source::Virtual { mailbox, .. } => Ok(mailbox),
            Source::Simulated(_) => Err(Stop::Skip(format!("a simulated device has no {what}"))),
        }
    }

    /// Orders `trouble` of the virtual device, once, or of the simulated device what comes nearest to it.
    pub(super) fn order(
        &self,
        trouble: Trouble,
        filter: u32,
        value: u32,
        simulated: XeInjection,
    ) -> Result<(), Stop> {
        match &self.source {
            Source::Virtual { mailbox, .. } => mailbox.arm(trouble, 1, 1, filter, value),
            Source::Simulated(device) => device.inject(simulated)?,
        }
        Ok(())
    }

    /// Checks that the trouble came.
    pub(super) fn assert_struck(&self, trouble: Trouble, before: u64) {
        assert_eq!(self.struck(trouble), before + self.expected(), "{trouble:?} was to strike");
    }

    /// How often a trouble struck so far; 0 on a simulated device, which does not tell.
    pub(super) fn struck(&self, trouble: Trouble) -> u64 {
        match &self.source {
            Source::Virtual { mailbox, .. } => mailbox.fired(trouble),
            Source::Simulated(_) => 0,
        }
    }

    const fn expected(&self) -> u64 {
        matches!(self.source, Source::Virtual { .. }) as u64
    }

    /// How often the driver reset the device's unit so far.
    pub(super) fn unit_resets(&self) -> u64 {
        match &self.source {
            Source::Virtual { mailbox, .. } => mailbox.count(Count::UnitResets),
            Source::Simulated(_) => 0,
        }
    }

    /// Whether the device still takes calls.
    pub(super) fn is_alive(&self) -> bool {
        match self.gpu.device() {
            Device::Xe(device) => device.check_alive().is_ok(),
            _ => true,
        }
    }

    pub(super) fn mirror(&self) -> Result<Mirror, Stop> {
        Ok(self.gpu.mirror()?)
    }

    /// Prefetches into VRAM.
    pub(super) fn to_vram(&self, mirror: &Mirror, data: &[u64]) -> drm_pagemap::Result<Outcome> {
        mirror.prefetch(data).to(self.gpu.vram()).run()
    }
}

/// Whatever came of the trouble, the next test finds a working device.
impl Drop for Source {
    fn drop(&mut self) {
        let Self::Virtual { mailbox, slot } = self else { return };
        mailbox.clear();
        match slot.render_node() {
            None => slot.bind(),
            // Wedged: only a new probe helps.
            Some(node) if xe::Device::open(&node).is_err() => {
                slot.unbind();
                slot.bind();
            }
            Some(_) => {}
        }
    }
}

/// A simulated page that cannot be moved in, once.
pub(super) fn simulated_failure_in() -> XeInjection {
    XeInjection::none().vram(Injection::none().pinned(Trigger::ONCE, 3))
}

/// A simulated block that cannot be moved out, once.
pub(super) fn simulated_failure_out() -> XeInjection {
    XeInjection::none().vram(Injection::none().way_out(Trigger::ONCE))
}

/// Simulated migrations that take their time.
pub(super) fn simulated_slowness() -> XeInjection {
    XeInjection::none().vram(Injection::none().delay(SLOW)).fence_delay(SLOW)
}
