//! What AMD GPUs have in common: KFD's topology, and this process's state in KFD.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::doctor::facts::{Facts, PciFunction, text};
use crate::doctor::system::System;
use crate::error::{Errno, Error, ErrorKind};
use crate::kfd::{self, Process, Topology, TopologySource};

/// Why there is no state of this process in KFD.
pub(super) enum NoProcess {
    /// No AMD GPU is here, so `/dev/kfd` was left alone.
    NotNeeded,
    /// `/dev/kfd` does not open.
    Refused(Errno),
    /// It opens and does not serve.
    Unusable(Error),
}

impl NoProcess {
    /// KFD answers, and says that it has no shared virtual memory.
    pub(super) fn lacks_svm(&self) -> bool {
        matches!(self, Self::Unusable(error) if error.kind() == ErrorKind::Unsupported)
    }
}

pub(super) struct KfdState {
    pub(super) topology: Result<Topology, Error>,
    pub(super) process: Result<Process, NoProcess>,
}

impl KfdState {
    pub(super) fn read(facts: &Facts<'_>) -> Self {
        let topology = Topology::read(&tree(facts.system));
        let on_bus = facts.pci.iter().flatten().any(|pci| pci.vendor == PciFunction::AMD && pci.is_gpu());
        let in_sysfs = facts.render_nodes.iter().any(|render| render.driver.as_deref() == Some("amdgpu"));
        let in_kfd =
            topology.as_ref().is_ok_and(|t| t.gpus().next().is_some() || !t.denied_nodes().is_empty());
        // Where sysfs is hidden, the device file itself is the only sign.
        let unseen = facts.pci.is_err() && facts.system.status(kfd::DEVICE).is_ok();
        let process = if on_bus || in_sysfs || in_kfd || unseen {
            match facts.system.open(kfd::DEVICE) {
                Ok(channel) => Process::open(channel).map_err(NoProcess::Unusable),
                Err(errno) => Err(NoProcess::Refused(errno)),
            }
        } else {
            Err(NoProcess::NotNeeded)
        };
        Self { topology, process }
    }
}

/// A copy of the topology's files.
fn tree(system: &dyn System) -> TopologySource {
    let mut files = BTreeMap::new();
    let copy = |files: &mut BTreeMap<String, String>, path: String| {
        let text = text(system, &format!("{}/{path}", TopologySource::SYSFS))?;
        files.insert(path, text);
        Ok::<(), Errno>(())
    };
    // What cannot be read is missing from the copy; the topology says what that means.
    let _ = copy(&mut files, "generation_id".into());
    for node in numbers(system, &format!("{}/nodes", TopologySource::SYSFS)) {
        if copy(&mut files, format!("nodes/{node}/gpu_id")) == Err(Errno::EPERM) {
            // A node that is listed without its number stands for one whose files are refused.
            files.insert(format!("nodes/{node}/properties"), String::new());
            continue;
        }
        let _ = copy(&mut files, format!("nodes/{node}/name"));
        let _ = copy(&mut files, format!("nodes/{node}/properties"));
        for list in ["mem_banks", "io_links", "p2p_links"] {
            let directory = format!("nodes/{node}/{list}");
            for index in numbers(system, &format!("{}/{directory}", TopologySource::SYSFS)) {
                let _ = copy(&mut files, format!("{directory}/{index}/properties"));
            }
        }
    }
    TopologySource::Tree(Arc::new(files))
}

fn numbers(system: &dyn System, directory: &str) -> Vec<u32> {
    let names = system.list(directory).unwrap_or_default();
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}
