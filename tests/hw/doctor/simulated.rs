//! This machine, with a simulated device in the place of its GPUs.

use std::collections::BTreeMap;

use drm_pagemap::channel::Channel;
use drm_pagemap::doctor::{FileStatus, PagemapAccess, System, ThisMachine, UserfaultfdAccess};
use drm_pagemap::kfd::TopologySource;
use drm_pagemap::sim;
use drm_pagemap::sim::kfd::{GpuConfig, Kfd, KfdConfig};
use drm_pagemap::{Device, Errno, Gpu, Result};

const MINOR: u32 = 128;

/// Where the simulated device takes the place of what this machine has.
const REPLACED: &[&str] = &[
    "/sys/bus/pci",
    "/sys/class/drm",
    "/sys/class/kfd",
    "/dev/dri",
    "/dev/kfd",
    // How the kernel was built says nothing of a driver that is not in it.
    "/proc/config.gz",
    "/boot/",
    "/lib/modules/",
    "/usr/lib/",
];

#[derive(Debug)]
enum Entry {
    Text(String),
    Link(String),
    Node(Channel, (u32, u32)),
}

/// Files of the device; everything else is this machine's.
#[derive(Debug)]
pub(super) struct Machine {
    base: ThisMachine,
    entries: BTreeMap<String, Entry>,
}

/// A machine with a simulated device like `gpu`, and that device. `None` for a real one.
pub(super) fn like(gpu: &Gpu) -> Result<Option<(Machine, Gpu)>> {
    if !gpu.is_simulated() {
        return Ok(None);
    }
    let mut machine = Machine { base: ThisMachine::new(), entries: BTreeMap::new() };
    match gpu.device() {
        Device::Xe(device) => {
            machine.pci("0000:03:00.0", 0x8086, device.config().device_id, "xe");
            machine.render("0000:03:00.0", "xe", device.channel().try_clone()?);
            Ok(Some((machine, gpu.clone())))
        }
        Device::Kfd(old) => {
            let kfd = Kfd::new(KfdConfig::with_gpus(vec![GpuConfig::mi200(0x4a3f, 64 << 20)]))?;
            let found = sim::Machine::new().with_kfd(kfd.clone());
            let gpu = Gpu::discover_in(&found).into_iter().next().expect("one GPU");
            if let Device::Kfd(new) = gpu.device() {
                new.process().set_xnack(old.process().xnack()?)?;
            }
            // Where the simulated topology says it is.
            machine.pci("0000:01:00.0", 0x1002, 0x7408, "amdgpu");
            machine.render("0000:01:00.0", "amdgpu", kfd.open_render_node(0)?);
            machine.add("/dev/kfd", Entry::Node(kfd.open()?, (240, 0)));
            let TopologySource::Tree(files) = kfd.topology() else { unreachable!("a tree in memory") };
            for (path, text) in files.iter() {
                machine.add(&format!("{}/{path}", TopologySource::SYSFS), Entry::Text(text.clone()));
            }
            Ok(Some((machine, gpu)))
        }
        _ => Ok(None),
    }
}

impl Machine {
    /// The path of the device's render node.
    pub(super) fn node(&self) -> String {
        format!("/dev/dri/renderD{MINOR}")
    }

    fn add(&mut self, path: &str, entry: Entry) {
        self.entries.insert(path.to_owned(), entry);
    }

    fn pci(&mut self, address: &str, vendor: u16, device: u16, driver: &str) {
        let base = format!("/sys/bus/pci/devices/{address}");
        self.add(&base, Entry::Link(format!("../../../devices/pci0000:00/{address}")));
        self.add(&format!("{base}/vendor"), Entry::Text(format!("0x{vendor:04x}\n")));
        self.add(&format!("{base}/device"), Entry::Text(format!("0x{device:04x}\n")));
        self.add(&format!("{base}/class"), Entry::Text("0x030000\n".into()));
        self.add(&format!("{base}/driver"), Entry::Link(format!("../../../../bus/pci/drivers/{driver}")));
        self.add(&format!("{base}/resource"), Entry::Text("0x6000000000 0x600fffffff 0x14220c\n".into()));
    }

    fn render(&mut self, address: &str, driver: &str, channel: Channel) {
        let base = format!("/sys/class/drm/renderD{MINOR}");
        self.add(&format!("{base}/dev"), Entry::Text(format!("226:{MINOR}\n")));
        self.add(&format!("{base}/device"), Entry::Link(format!("../../../{address}")));
        let link = format!("../../../bus/pci/drivers/{driver}");
        self.add(&format!("{base}/device/driver"), Entry::Link(link));
        self.add(&self.node(), Entry::Node(channel, (226, MINOR)));
    }

    /// Whether a path is answered here and not by this machine.
    fn replaces(&self, path: &str) -> bool {
        REPLACED.iter().any(|prefix| path.starts_with(prefix))
    }
}

impl System for Machine {
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        match self.entries.get(path) {
            Some(Entry::Text(text)) => Ok(text.clone().into_bytes()),
            _ if self.replaces(path) => Err(Errno::ENOENT),
            _ => self.base.read(path),
        }
    }

    fn list(&self, directory: &str) -> Result<Vec<String>, Errno> {
        if !self.replaces(directory) {
            return self.base.list(directory);
        }
        let prefix = format!("{directory}/");
        let below = self.entries.range(prefix.clone()..).map_while(|(path, _)| path.strip_prefix(&prefix));
        let mut names: Vec<String> =
            below.filter_map(|rest| rest.split('/').next().map(str::to_owned)).collect();
        names.dedup();
        if names.is_empty() { Err(Errno::ENOENT) } else { Ok(names) }
    }

    fn link(&self, path: &str) -> Result<String, Errno> {
        match self.entries.get(path) {
            Some(Entry::Link(target)) => Ok(target.clone()),
            Some(_) => Err(Errno::EINVAL),
            None if self.replaces(path) => Err(Errno::ENOENT),
            None => self.base.link(path),
        }
    }

    fn status(&self, path: &str) -> Result<FileStatus, Errno> {
        match self.entries.get(path) {
            Some(Entry::Node(_, device)) => {
                Ok(FileStatus { mode: 0o020_666, uid: 0, gid: 0, device: Some(*device) })
            }
            Some(_) => Ok(FileStatus { mode: 0o100_644, uid: 0, gid: 0, device: None }),
            None if !self.replaces(path) => self.base.status(path),
            None => self.list(path).map(|_| FileStatus { mode: 0o040_755, uid: 0, gid: 0, device: None }),
        }
    }

    fn acl(&self, path: &str) -> Result<Vec<u8>, Errno> {
        if self.replaces(path) { Err(Errno::ENODATA) } else { self.base.acl(path) }
    }

    fn open(&self, path: &str) -> Result<Channel, Errno> {
        match self.entries.get(path) {
            Some(Entry::Node(channel, _)) => {
                channel.try_clone().map_err(|error| error.errno().unwrap_or(Errno::EIO))
            }
            _ if self.replaces(path) => Err(Errno::ENOENT),
            _ => self.base.open(path),
        }
    }

    fn page_size(&self) -> u64 {
        self.base.page_size()
    }

    fn pagemap(&self) -> Result<PagemapAccess> {
        self.base.pagemap()
    }

    fn userfaultfd(&self) -> Result<UserfaultfdAccess, Errno> {
        self.base.userfaultfd()
    }
}
