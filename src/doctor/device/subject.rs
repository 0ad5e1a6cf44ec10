//! The GPUs to be examined: what the PCI bus, the render nodes and KFD's topology say, joined.

use crate::doctor::facts::{Facts, PciFunction, RenderNode, intel_family};
use crate::kfd::{Node, Topology};

/// One GPU, or one partition of one.
#[derive(Clone, Debug)]
pub(in crate::doctor) struct Subject<'a> {
    pub(in crate::doctor) pci: Option<&'a PciFunction>,
    pub(in crate::doctor) render: Option<&'a RenderNode>,
    /// KFD's node.
    pub(in crate::doctor) kfd: Option<Node>,
}

impl Subject<'_> {
    /// PCI vendor, from whatever knows it.
    pub(in crate::doctor) fn vendor(&self) -> Option<u16> {
        let by_kfd = || self.kfd.as_ref()?.vendor_id()?.try_into().ok();
        self.pci.map(|pci| pci.vendor).or_else(by_kfd)
    }

    pub(in crate::doctor) fn device_id(&self) -> Option<u16> {
        let by_kfd = || self.kfd.as_ref()?.device_id()?.try_into().ok();
        self.pci.map(|pci| pci.device).or_else(by_kfd)
    }

    /// The driver as sysfs names it.
    pub(in crate::doctor) fn driver_name(&self) -> Option<&str> {
        let by_pci = self.pci.and_then(|pci| pci.driver.as_deref());
        by_pci.or_else(|| self.render?.driver.as_deref())
    }

    /// What a container must be given for the GPU to work in it.
    pub(in crate::doctor) fn device_files(&self) -> &'static [&'static str] {
        if self.vendor() == Some(PciFunction::AMD) || self.driver_name() == Some("amdgpu") {
            &["/dev/kfd", "/dev/dri"]
        } else {
            &["/dev/dri"]
        }
    }

    /// A name for people. `driver` and `device_id` (of vendor Intel) are what the driver itself said, for where sysfs says nothing.
    pub(super) fn name(&self, driver: Option<&str>, device_id: Option<u16>) -> String {
        let vendor = self.vendor().or(device_id.map(|_| PciFunction::INTEL));
        let mut name = match (vendor, self.device_id().or(device_id)) {
            (Some(PciFunction::INTEL), Some(device)) => match intel_family(device) {
                Some(family) => format!("Intel {} 8086:{device:04x}", family.name),
                None => format!("Intel GPU 8086:{device:04x}"),
            },
            (Some(PciFunction::AMD), Some(device)) => match self.kfd.as_ref().and_then(Node::gfx_version) {
                Some(gfx) => format!("AMD GPU {gfx} 1002:{device:04x}"),
                None => format!("AMD GPU 1002:{device:04x}"),
            },
            (Some(vendor), Some(device)) => format!("GPU {vendor:04x}:{device:04x}"),
            _ => match self.driver_name().or(driver) {
                Some(driver) => format!("Device of {driver}"),
                None => "Device of a driver that is not shown".to_owned(),
            },
        };
        if let Some(pci) = self.pci {
            let virtual_function = if pci.is_virtual_function { " (virtual function)" } else { "" };
            name.push_str(&format!("{virtual_function} at {}", pci.address));
        }
        if let Some(node) = &self.kfd {
            name.push_str(&format!(", KFD node {}", node.index()));
        }
        name
    }
}

/// Intel's and AMD's GPUs by address, then render nodes and KFD nodes that belong to none of these.
pub(super) fn subjects<'a>(facts: &'a Facts<'a>, topology: Option<&Topology>) -> Vec<Subject<'a>> {
    let mut kfd: Vec<&Node> = topology.into_iter().flat_map(Topology::gpus).collect();
    let mut renders: Vec<&RenderNode> = facts.render_nodes.iter().collect();
    let mut subjects = Vec::new();
    let ours =
        |pci: &&PciFunction| pci.is_gpu() && matches!(pci.vendor, PciFunction::INTEL | PciFunction::AMD);
    for pci in facts.pci.iter().flatten().filter(ours) {
        let here = (pci.address.domain, pci.address.location());
        let nodes = take(&mut kfd, |node| node.pci_location() == Some(here));
        if nodes.is_empty() {
            let render = take(&mut renders, |render| render.pci == Some(pci.address)).into_iter().next();
            subjects.push(Subject { pci: Some(pci), render, kfd: None });
        }
        for node in nodes {
            // Partitions of a GPU have one address and a render node each.
            let render =
                take(&mut renders, |render| Some(render.minor) == node.drm_render_minor()).into_iter().next();
            subjects.push(Subject { pci: Some(pci), render, kfd: Some(node.clone()) });
        }
    }
    for node in kfd {
        let render =
            take(&mut renders, |render| Some(render.minor) == node.drm_render_minor()).into_iter().next();
        subjects.push(Subject { pci: None, render, kfd: Some(node.clone()) });
    }
    for render in renders {
        let pci = facts.pci.iter().flatten().find(|pci| Some(pci.address) == render.pci);
        subjects.push(Subject { pci, render: Some(render), kfd: None });
    }
    subjects
}

fn take<'a, T>(from: &mut Vec<&'a T>, matches: impl Fn(&T) -> bool) -> Vec<&'a T> {
    let (taken, left) = from.drain(..).partition(|item| matches(item));
    *from = left;
    taken
}
