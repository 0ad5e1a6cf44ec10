//! Looking for GPUs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Gpu;
use super::support::Unmet;
use crate::channel::Channel;
use crate::device::{Device, KfdSystem};
use crate::drm::driver_name;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::kfd::{self, GpuId, Topology, TopologySource};
use crate::xe;

/// The GPUs that were found, and what was passed over.
///
/// Iterating gives the GPUs: real ones in the order of their render nodes, xe before amdgpu.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    gpus: Vec<Gpu>,
    passed_over: Vec<PassedOver>,
}

/// A device that was seen and cannot be used, or a place where devices were looked for and none is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PassedOver {
    /// The node or directory.
    pub node: String,
    /// Why, and what helps.
    pub why: Unmet,
}

impl PassedOver {
    fn new(node: impl Into<String>, why: Unmet) -> Self {
        Self { node: node.into(), why }
    }

    fn from_error(node: impl Into<String>, error: &Error) -> Self {
        let reason = match error.errno() {
            Some(errno) => format!("{} ({errno})", error.reason()),
            None => error.reason().to_owned(),
        };
        Self::new(node, Unmet { reason, hint: error.hint().map(str::to_owned) })
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.why)
    }
}

impl Discovery {
    /// The GPUs.
    #[must_use]
    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    /// What was seen and passed over, with reasons.
    #[must_use]
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    pub(super) fn pass_over(&mut self, node: impl Into<String>, error: &Error) {
        self.passed_over.push(PassedOver::from_error(node, error));
    }

    pub(super) fn add(&mut self, device: Device) {
        let node = device.node();
        match Gpu::of_device(device) {
            Ok(gpu) => self.gpus.push(gpu),
            Err(error) => self.pass_over(node, &error),
        }
    }

    /// Adds the GPUs of a KFD whose device file is open.
    pub(super) fn add_kfd(
        &mut self,
        kfd: Channel,
        source: &TopologySource,
        open_render: impl Fn(&kfd::Node) -> Result<Channel>,
    ) {
        let name = kfd.name();
        match kfd_system(self, kfd, source, open_render) {
            Ok(system) => system.gpus().into_iter().for_each(|gpu| self.add(Device::Kfd(gpu))),
            Err(error) => self.pass_over(name, &error),
        }
    }
}

impl IntoIterator for Discovery {
    type Item = Gpu;
    type IntoIter = std::vec::IntoIter<Gpu>;

    fn into_iter(self) -> Self::IntoIter {
        self.gpus.into_iter()
    }
}

const DRI: &str = "/dev/dri";

pub(super) fn system() -> Result<Discovery> {
    let mut found = Discovery::default();
    let mut has_amdgpu = false;
    for node in render_nodes(&mut found)? {
        let label = node.display().to_string();
        let driver = Channel::open(&node).map_err(|error| explain_open(error, &node)).and_then(|channel| {
            let driver = driver_name(&channel)?;
            Ok((channel, driver))
        });
        match driver {
            Ok((channel, driver)) if driver == "xe" => match xe::Device::from_channel(channel) {
                Ok(device) => found.add(Device::Xe(device)),
                Err(error) => found.pass_over(label, &error),
            },
            Ok((_, driver)) if driver == "amdgpu" => has_amdgpu = true,
            Ok((_, driver)) => {
                let why = Unmet::incurable(format!(
                    "its driver {driver} offers no shared virtual memory to this crate"
                ));
                found.passed_over.push(PassedOver::new(label, why));
            }
            Err(error) => found.pass_over(label, &error),
        }
    }
    if has_amdgpu || Path::new(kfd::DEVICE).exists() {
        match kfd::open_device() {
            Ok(channel) => found.add_kfd(channel, &TopologySource::system(), |node| {
                let path = node.render_node().ok_or_else(|| {
                    Error::new(ErrorKind::NotFound, "KFD topology").because("the node names no render node")
                })?;
                Channel::open(&path).map_err(|error| explain_open(error, &path))
            }),
            Err(error) => found.pass_over(kfd::DEVICE, &error),
        }
    }
    Ok(found)
}

/// The render nodes, by minor number.
fn render_nodes(found: &mut Discovery) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(DRI) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let why = Unmet::new(
                "there is no such directory: no GPU driver is loaded, or the container has no GPU",
                "load xe or amdgpu; in a container, pass the devices in (--device /dev/dri --device /dev/kfd)",
            );
            found.passed_over.push(PassedOver::new(DRI, why));
            return Ok(Vec::new());
        }
        Err(error) => {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
            return Err(Error::from_errno("readdir", errno).because(format!("cannot list {DRI}")));
        }
    };
    let minor =
        |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.strip_prefix("renderD")?.parse().ok() };
    let mut nodes: Vec<(u32, PathBuf)> =
        entries.flatten().map(|entry| entry.path()).filter_map(|path| Some((minor(&path)?, path))).collect();
    nodes.sort();
    if nodes.is_empty() {
        let why = Unmet::incurable("it holds no render node: no driver that renders or computes is loaded");
        found.passed_over.push(PassedOver::new(DRI, why));
    }
    Ok(nodes.into_iter().map(|(_, path)| path).collect())
}

fn explain_open(error: Error, node: &Path) -> Error {
    let node = node.display();
    match error.errno() {
        Some(Errno::EACCES) => error
            .because(format!("the mode of {node} does not allow this user"))
            .hint_is("add the user to the group that owns the node (usually render) and log in again"),
        Some(Errno::EPERM) => error
            .because(format!("the device cgroup denies {node}"))
            .hint_is("allow the device in the container's configuration"),
        Some(Errno::ENODEV | Errno::ENXIO) => error
            .because(format!("no driver answers behind {node}"))
            .hint_is("bind the driver, or remove the stale node"),
        _ => error,
    }
}

/// The process's KFD state with the render nodes of the GPUs that have SVM.
fn kfd_system(
    found: &mut Discovery,
    kfd: Channel,
    source: &TopologySource,
    open_render: impl Fn(&kfd::Node) -> Result<Channel>,
) -> Result<Arc<KfdSystem>> {
    let process = kfd::Process::open(kfd)?;
    let topology = Topology::read(source)?;
    let mut renders: Vec<(GpuId, Channel)> = Vec::new();
    for &index in topology.denied_nodes() {
        let why = Unmet::new(
            "the device cgroup denies its render node",
            "allow the device in the container's configuration",
        );
        found.passed_over.push(PassedOver::new(format!("KFD node {index}"), why));
    }
    for node in topology.gpus() {
        let Some(id) = node.gpu_id() else { continue };
        let label = format!("KFD node {} ({id})", node.index());
        if !process.gpus().any(|known| known == id) {
            let why = Unmet::new(
                "KFD does not offer it to this process: it came up after the process first opened KFD, or its render node is denied",
                "start the process again; in a container, allow the render node",
            );
            found.passed_over.push(PassedOver::new(label, why));
            continue;
        }
        match open_render(node) {
            Ok(render) => renders.push((id, render)),
            Err(error) => found.pass_over(label, &error),
        }
    }
    Ok(KfdSystem::new(process, topology, renders))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "sim")]
    mod render_calls;

    #[test]
    fn a_node_that_does_not_open_says_what_helps() {
        for (errno, reason, hint) in [
            (Errno::EACCES, "does not allow this user", "group"),
            (Errno::EPERM, "device cgroup", "container"),
            (Errno::ENODEV, "no driver answers", "bind the driver"),
            (Errno::ENXIO, "no driver answers", "bind the driver"),
        ] {
            let error = explain_open(Error::from_errno("open", errno), Path::new("/dev/dri/renderD128"));
            assert!(error.reason().contains(reason), "{error}");
            assert!(error.hint().is_some_and(|text| text.contains(hint)), "{error}");
        }
        assert_eq!(explain_open(Error::from_errno("open", Errno::EIO), Path::new("x")).hint(), None);
    }
}
