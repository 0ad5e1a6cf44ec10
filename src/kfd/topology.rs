//! What GPUs there are: KFD's topology in sysfs.
//!
//! ```no_run
//! use drm_pagemap::kfd::{Topology, TopologySource};
//!
//! for gpu in Topology::read(&TopologySource::system())?.svm_gpus() {
//!     println!("{:?} {} {} MiB", gpu.gpu_id(), gpu.name(), gpu.vram_bytes() >> 20);
//! }
//! # Ok::<(), drm_pagemap::Error>(())
//! ```

use crate::error::{Errno, Error, ErrorKind, Result};
use crate::kfd::GpuId;

#[cfg(test)]
mod fuzz;
mod node;
mod source;

pub use node::{Capability, GfxVersion, HeapType, IoLink, LinkType, MemoryBank, Node, Properties};
pub use source::TopologySource;

use source::Files;

const CALL: &str = "KFD topology";

/// The nodes that KFD knows: CPUs, and GPUs or their partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    generation: u64,
    nodes: Vec<Node>,
    denied: Vec<u32>,
}

impl Topology {
    /// How often a topology that changes while it is read is read again.
    const ATTEMPTS: u32 = 16;

    /// Reads the whole topology, again if a GPU comes or goes meanwhile (`generation_id`).
    ///
    /// GPU nodes that the device cgroup denies to this process are listed in [`denied_nodes`](Self::denied_nodes).
    ///
    /// # Errors
    ///
    /// | kind | when |
    /// |---|---|
    /// | [`Unsupported`](ErrorKind::Unsupported) | there is no topology: amdgpu is not loaded, or was built without `CONFIG_HSA_AMD` |
    /// | [`PermissionDenied`](ErrorKind::PermissionDenied) | sysfs is not readable |
    /// | [`TryAgain`](ErrorKind::TryAgain) | the topology kept changing |
    pub fn read(source: &TopologySource) -> Result<Self> {
        read(source, &source.name())
    }

    /// The number that changes whenever a node comes or goes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every node that this process may see, ordered by number.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes that are GPUs.
    pub fn gpus(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.gpu_id().is_some())
    }

    /// The GPUs for which the SVM ioctl works.
    pub fn svm_gpus(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_svm_capable())
    }

    /// The node of a GPU.
    #[must_use]
    pub fn gpu(&self, gpu: GpuId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.gpu_id() == Some(gpu))
    }

    /// Numbers of the nodes whose files the kernel refuses to this process (`EPERM`): GPUs whose render node the device
    /// cgroup of a container denies. KFD calls do not know these GPUs either.
    #[must_use]
    pub fn denied_nodes(&self) -> &[u32] {
        &self.denied
    }

    /// Whether the two GPUs reach each other's VRAM: they are one device (or partitions of one), or in one XGMI hive.
    ///
    /// KFD puts memory that both are to access into VRAM only then.
    #[must_use]
    pub fn are_linked(&self, a: GpuId, b: GpuId) -> bool {
        let (Some(a), Some(b)) = (self.gpu(a), self.gpu(b)) else {
            return false;
        };
        let same_device = a.pci_location().is_some() && a.pci_location() == b.pci_location();
        let same_hive = a.hive_id().is_some() && a.hive_id() == b.hive_id();
        a.gpu_id() == b.gpu_id() || same_device || same_hive
    }
}

fn read(files: &impl Files, name: &str) -> Result<Topology> {
    for _ in 0..Topology::ATTEMPTS {
        let before = generation(files, name)?;
        let attempt = read_nodes(files);
        if generation(files, name)? == before {
            let (nodes, denied) = attempt.map_err(|(path, errno)| unreadable(name, &path, errno))?;
            return Ok(Topology { generation: before, nodes, denied });
        }
        std::thread::yield_now();
    }
    Err(Error::new(ErrorKind::TryAgain, CALL)
        .because(format!("{name} changed during each of {} readings", Topology::ATTEMPTS))
        .hint_is("read it again when no GPU is being added or removed"))
}

fn generation(files: &impl Files, name: &str) -> Result<u64> {
    let text = files.read("generation_id").map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => Error::new(ErrorKind::Unsupported, CALL)
            .errno_is(errno)
            .because(format!("{name} does not exist: the amdgpu driver is not loaded or lacks KFD"))
            .hint_is("load amdgpu, built with CONFIG_HSA_AMD; in a container, mount /sys"),
        _ => unreadable(name, "generation_id", errno),
    })?;
    text.trim().parse().map_err(|_| {
        Error::new(ErrorKind::Other, CALL).because(format!("generation_id of {name} is no number: {text:?}"))
    })
}

fn unreadable(name: &str, path: &str, errno: Errno) -> Error {
    Error::from_errno(CALL, errno)
        .because(format!("cannot read {path} of {name}"))
        .hint_is("make sysfs readable to this process")
}

type Unreadable = (String, Errno);

fn read_nodes(files: &impl Files) -> Result<(Vec<Node>, Vec<u32>), Unreadable> {
    let (mut nodes, mut denied) = (Vec::new(), Vec::new());
    let indices = files.numbers("nodes").map_err(|errno| ("nodes".into(), errno))?;
    for index in indices {
        match read_node(files, index) {
            Ok(node) => nodes.push(node),
            Err((_, Errno::EPERM)) => denied.push(index),
            Err(other) => return Err(other),
        }
    }
    Ok((nodes, denied))
}

fn read_node(files: &impl Files, index: u32) -> Result<Node, Unreadable> {
    let read = |file: &str| {
        let path = format!("nodes/{index}/{file}");
        files.read(&path).map_err(|errno| (path, errno))
    };
    let gpu_id = read("gpu_id")?;
    Ok(Node {
        index,
        gpu_id: gpu_id.trim().parse().ok().and_then(GpuId::new),
        name: optional(read("name"))?.unwrap_or_default().trim().to_owned(),
        properties: Properties::parse(&read("properties")?),
        memory_banks: read_list(files, index, "mem_banks", MemoryBank::new)?,
        io_links: read_list(files, index, "io_links", IoLink::new)?,
        p2p_links: read_list(files, index, "p2p_links", IoLink::new)?,
    })
}

/// The entries of `nodes/<index>/<kind>/<i>/properties` that say what they are. Kernels without the directory have none.
fn read_list<T>(
    files: &impl Files,
    index: u32,
    kind: &str,
    parse: impl Fn(Properties) -> Option<T>,
) -> Result<Vec<T>, Unreadable> {
    let directory = format!("nodes/{index}/{kind}");
    let numbers = files.numbers(&directory).map_err(|errno| (directory.clone(), errno))?;
    let mut list = Vec::with_capacity(numbers.len());
    for number in numbers {
        let path = format!("{directory}/{number}/properties");
        let text = optional(files.read(&path).map_err(|errno| (path, errno)))?;
        list.extend(text.as_deref().map(Properties::parse).and_then(&parse));
    }
    Ok(list)
}

fn optional<T>(read: Result<T, Unreadable>) -> Result<Option<T>, Unreadable> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err((_, Errno::ENOENT)) => Ok(None),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests;
