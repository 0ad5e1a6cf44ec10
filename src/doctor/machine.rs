//! The checks of the machine and of this process, whatever the GPU.

mod kernel;
mod memory;
mod observing;
mod surroundings;

use super::device::Examined;
use super::facts::{Facts, PciFunction};
use super::finding::Finding;
use crate::device::Driver;

pub(super) fn examine(facts: &Facts<'_>, devices: &[Examined<'_>]) -> Vec<Finding> {
    let wanted = Wanted::of(devices);
    let mut findings = surroundings::check(facts, devices);
    findings.extend(kernel::check(facts, &wanted));
    findings.extend(memory::check(facts));
    findings.extend(observing::check(facts));
    findings
}

/// Which drivers matter here, and for which one the question is settled.
struct Wanted {
    xe: Need,
    kfd: Need,
    /// Access from one GPU to another.
    peers: Need,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// No GPU of that vendor is here, and one of the other is.
    None,
    /// There is such a GPU, or no GPU at all, so that whatever comes may need it.
    Needed,
    /// A GPU works with it, which is more than a configuration can say.
    Works,
}

impl Wanted {
    fn of(devices: &[Examined<'_>]) -> Self {
        let need = |driver: Driver, vendor: u16| {
            let mut of_vendor = devices
                .iter()
                .filter(|d| d.driver == Some(driver) || d.subject.vendor() == Some(vendor))
                .peekable();
            if of_vendor.peek().is_some() {
                if of_vendor.any(|device| device.confirmed) { Need::Works } else { Need::Needed }
            } else if devices.iter().any(|d| d.driver.is_some() || d.subject.vendor().is_some()) {
                Need::None
            } else {
                Need::Needed
            }
        };
        let several = devices.iter().filter(|device| device.confirmed).count() > 1;
        Self {
            peers: if several { Need::Needed } else { Need::None },
            xe: need(Driver::Xe, PciFunction::INTEL),
            kfd: need(Driver::Kfd, PciFunction::AMD),
        }
    }
}
