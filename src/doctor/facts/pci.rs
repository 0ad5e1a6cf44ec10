//! The PCI bus, from sysfs.

use std::fmt;

use super::files::{base_name, hex, text};
use crate::doctor::system::System;
use crate::error::Errno;

const DEVICES: &str = "/sys/bus/pci/devices";

/// Where a function is on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::doctor) struct PciAddress {
    pub(in crate::doctor) domain: u32,
    pub(in crate::doctor) bus: u32,
    pub(in crate::doctor) device: u32,
    pub(in crate::doctor) function: u32,
}

impl PciAddress {
    /// From sysfs' form, `0000:03:00.0`.
    pub(in crate::doctor) fn parse(name: &str) -> Option<Self> {
        let (domain, rest) = name.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (device, function) = rest.split_once('.')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        Some(Self {
            domain: number(domain)?,
            bus: number(bus)?,
            device: number(device)?,
            function: number(function)?,
        })
    }

    /// As KFD's `location_id` has bus, device and function.
    pub(in crate::doctor) const fn location(self) -> u32 {
        self.bus << 8 | self.device << 3 | self.function
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.domain, self.bus, self.device, self.function)
    }
}

/// One function on the bus.
#[derive(Clone, Debug)]
pub(in crate::doctor) struct PciFunction {
    pub(in crate::doctor) address: PciAddress,
    pub(in crate::doctor) vendor: u16,
    pub(in crate::doctor) device: u16,
    /// Base class, subclass and programming interface.
    pub(in crate::doctor) class: u32,
    /// The driver that is bound, or `None`.
    pub(in crate::doctor) driver: Option<String>,
    /// It is a virtual function of another (SR-IOV).
    pub(in crate::doctor) is_virtual_function: bool,
    /// Size of the largest prefetchable window into memory, in bytes; `None` when there is none or it cannot be read.
    pub(in crate::doctor) largest_window: Option<u64>,
    /// The number of the group of devices that the IOMMU cannot tell apart.
    pub(in crate::doctor) iommu_group: Option<String>,
    /// The PCI bridges and ports above it, the nearest to the CPU first.
    pub(in crate::doctor) upstream: Vec<PciAddress>,
}

impl PciFunction {
    pub(in crate::doctor) const INTEL: u16 = 0x8086;
    pub(in crate::doctor) const AMD: u16 = 0x1002;

    pub(in crate::doctor) fn path(&self) -> String {
        format!("{DEVICES}/{}", self.address)
    }

    /// A display controller, or a processing accelerator as AMD's Instincts are.
    pub(in crate::doctor) fn is_gpu(&self) -> bool {
        self.class >> 16 == 0x03 || self.class >> 8 == 0x12_00
    }
}

/// All functions, by address.
pub(super) fn functions(system: &dyn System) -> Result<Vec<PciFunction>, Errno> {
    let mut addresses: Vec<PciAddress> =
        system.list(DEVICES)?.iter().filter_map(|name| PciAddress::parse(name)).collect();
    addresses.sort();
    Ok(addresses.into_iter().filter_map(|address| function(system, address)).collect())
}

/// `None` when it has vanished since it was listed.
fn function(system: &dyn System, address: PciAddress) -> Option<PciFunction> {
    let path = |file: &str| format!("{DEVICES}/{address}/{file}");
    let value = |file: &str| hex(&text(system, &path(file)).ok()?);
    let target = |file: &str| system.link(&path(file)).ok();
    Some(PciFunction {
        address,
        vendor: value("vendor")? as u16,
        device: value("device")? as u16,
        class: value("class")? as u32,
        driver: target("driver").map(|link| base_name(&link).to_owned()),
        is_virtual_function: target("physfn").is_some(),
        largest_window: text(system, &path("resource")).ok().and_then(|text| largest_window(&text)),
        iommu_group: target("iommu_group").map(|link| base_name(&link).to_owned()),
        // The entry itself is a link to where the device is in the tree of buses.
        upstream: system
            .link(&format!("{DEVICES}/{address}"))
            .map(|link| upstream(&link))
            .unwrap_or_default(),
    })
}

/// Lines of start, end and flags; `IORESOURCE_MEM` is 0x200 and `IORESOURCE_PREFETCH` 0x2000 (`linux/ioport.h`).
fn largest_window(resource: &str) -> Option<u64> {
    const MEMORY: u64 = 0x200;
    const PREFETCH: u64 = 0x2000;
    let window = |line: &str| {
        let mut words = line.split_ascii_whitespace().map(hex);
        let (start, end, flags) = (words.next()??, words.next()??, words.next()??);
        (flags & MEMORY != 0 && flags & PREFETCH != 0 && end > start).then(|| end - start + 1)
    };
    // The first six are the function's own; later ones are the ROM and windows of virtual functions.
    resource.lines().take(6).filter_map(window).max()
}

fn upstream(link: &str) -> Vec<PciAddress> {
    let mut path: Vec<PciAddress> = link.split('/').filter_map(PciAddress::parse).collect();
    path.pop();
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        let address = PciAddress::parse("0000:c3:00.1").unwrap();
        assert_eq!(address.to_string(), "0000:c3:00.1");
        assert_eq!(address.location(), 0xc301);
        for not_one in ["pci0000:00", "0000:03:00", "0000-03:00.0", "version"] {
            assert_eq!(PciAddress::parse(not_one), None, "{not_one}");
        }
    }

    #[test]
    fn the_largest_prefetchable_window_of_the_function_itself() {
        let resource = "0x00000000a0000000 0x00000000a0ffffff 0x0000000000140204\n\
                        0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                        0x0000006000000000 0x00000060ffffffff 0x000000000014220c\n\
                        0x0 0x0 0x0\n0x0 0x0 0x0\n0x0 0x0 0x0\n\
                        0x00000000a1000000 0x00000000a11fffff 0x0000000000046200\n\
                        0x0000006100000000 0x00000071ffffffff 0x000000000014220c\n";
        assert_eq!(largest_window(resource), Some(4 << 30));
        assert_eq!(largest_window("0x0 0x0 0x0\n"), None);
        assert_eq!(largest_window("0x1000 0x1fff 0x2100\n"), None, "ports are no memory");
        assert_eq!(largest_window("0x1000 0x1fff 0x0200\n"), None, "registers are not prefetchable");
    }

    #[test]
    fn bridges_above_a_device() {
        let path = upstream("../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:03:00.0");
        assert_eq!(
            path.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["0000:00:01.0", "0000:01:00.0"]
        );
    }
}
