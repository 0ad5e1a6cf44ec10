//! Render nodes, from sysfs and `/dev/dri`.

use super::files::{base_name, text};
use super::pci::PciAddress;
use crate::doctor::system::System;
use crate::error::Errno;

/// What sysfs calls the driver of all devices without hardware (`drivers/base/faux.c`); those of older drivers, on the platform
/// bus, have none in sysfs.
const FAUX: &str = "faux_driver";

/// A render node that the kernel has, or that `/dev/dri` has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct RenderNode {
    pub(in crate::doctor) minor: u32,
    /// The PCI function behind it; `None` for devices that are on no PCI bus, and where sysfs does not say.
    pub(in crate::doctor) pci: Option<PciAddress>,
    /// The driver, as sysfs names it.
    pub(in crate::doctor) driver: Option<String>,
    /// Major and minor number, as sysfs has them.
    pub(in crate::doctor) numbers: Option<(u32, u32)>,
    /// sysfs lists it.
    pub(in crate::doctor) in_sysfs: bool,
    /// `/dev/dri` has it.
    pub(in crate::doctor) in_dev: bool,
}

impl RenderNode {
    pub(in crate::doctor) fn path(&self) -> String {
        format!("/dev/dri/renderD{}", self.minor)
    }
}

/// All, by minor number.
pub(super) fn read(system: &dyn System) -> Vec<RenderNode> {
    const SYSFS: &str = "/sys/class/drm";
    let minors = |directory: &str| -> Vec<u32> {
        let names = system.list(directory).unwrap_or_default();
        names.iter().filter_map(|name| name.strip_prefix("renderD")?.parse().ok()).collect()
    };
    let (in_sysfs, in_dev) = (minors(SYSFS), minors("/dev/dri"));
    let mut all: Vec<u32> = in_sysfs.iter().chain(&in_dev).copied().collect();
    all.sort_unstable();
    all.dedup();
    let node = |minor: u32| {
        let base = format!("{SYSFS}/renderD{minor}");
        let device = system.link(&format!("{base}/device")).ok();
        let pci = device.as_deref().and_then(|link| PciAddress::parse(base_name(link)));
        // A driver of devices without hardware names them after itself.
        let by_device = || device.as_deref().filter(|_| pci.is_none()).map(|link| base_name(link).to_owned());
        let driver = match system.link(&format!("{base}/device/driver")) {
            Ok(link) if base_name(&link) == FAUX => by_device(),
            Ok(link) => Some(base_name(&link).to_owned()),
            Err(Errno::ENOENT) => by_device(),
            Err(_) => None,
        };
        let numbers = text(system, &format!("{base}/dev")).ok().and_then(|numbers| {
            let (major, minor) = numbers.split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        RenderNode {
            minor,
            pci,
            driver,
            numbers,
            in_sysfs: in_sysfs.contains(&minor),
            in_dev: in_dev.contains(&minor),
        }
    };
    all.into_iter().map(node).collect()
}
