//! Where a topology is read from.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Errno;

/// Where the topology's files are: the kernel's sysfs, a copy of it, or a tree in memory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TopologySource {
    /// A directory with the files of `/sys/class/kfd/kfd/topology`.
    Sysfs(PathBuf),
    /// File contents by path relative to that directory (`nodes/1/gpu_id`), as a simulated machine gives them. A node that is
    /// listed but has no `gpu_id` file stands for one whose files the kernel refuses to this process.
    Tree(Arc<BTreeMap<String, String>>),
}

impl TopologySource {
    /// Where the running kernel keeps its topology.
    pub const SYSFS: &'static str = "/sys/class/kfd/kfd/topology";

    /// The topology of the running kernel.
    #[must_use]
    pub fn system() -> Self {
        Self::Sysfs(PathBuf::from(Self::SYSFS))
    }

    /// What to call the source in messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Sysfs(path) => path.display().to_string(),
            Self::Tree(_) => "the simulated topology".into(),
        }
    }
}

/// The two questions asked of a tree of small text files.
pub(super) trait Files {
    /// The whole content of a file.
    fn read(&self, path: &str) -> Result<String, Errno>;

    /// The names in a directory that are numbers, ascending. A missing directory has none.
    fn numbers(&self, directory: &str) -> Result<Vec<u32>, Errno>;
}

impl Files for TopologySource {
    fn read(&self, path: &str) -> Result<String, Errno> {
        match self {
            Self::Sysfs(root) => {
                let bytes = std::fs::read(root.join(path)).map_err(|error| errno_of(&error))?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Self::Tree(files) => match files.get(path) {
                Some(text) => Ok(text.clone()),
                None if is_gpu_id_of_a_listed_node(files, path) => Err(Errno::EPERM),
                None => Err(Errno::ENOENT),
            },
        }
    }

    fn numbers(&self, directory: &str) -> Result<Vec<u32>, Errno> {
        let mut numbers: Vec<u32> = match self {
            Self::Sysfs(root) => directory_numbers(&root.join(directory))?,
            Self::Tree(files) => {
                let prefix = format!("{directory}/");
                files
                    .range(prefix.clone()..)
                    .map_while(|(path, _)| path.strip_prefix(&prefix))
                    .filter_map(|rest| rest.split('/').next()?.parse().ok())
                    .collect()
            }
        };
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }
}

fn is_gpu_id_of_a_listed_node(files: &BTreeMap<String, String>, path: &str) -> bool {
    path.strip_suffix("gpu_id").is_some_and(|node| {
        files.range(node.to_owned()..).next().is_some_and(|(first, _)| first.starts_with(node))
    })
}

fn directory_numbers(path: &Path) -> Result<Vec<u32>, Errno> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(errno_of(&error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| errno_of(&error))?;
        if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
