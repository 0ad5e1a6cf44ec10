//! AMD's library for KFD and what it needs, out of Debian's packages, without installing them.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;

const PACKAGES: [&str; 4] = ["libhsakmt1", "libdrm-amdgpu1", "libdrm2", "libnuma1"];

/// Fetches the packages and gives the folder with the libraries.
pub(super) fn fetch(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    command::output(Command::new("apt-get").args(["-q", "download"]).args(PACKAGES).current_dir(folder))?;
    let tree = folder.join("tree");
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            command::run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&tree))?;
        }
    }
    let libraries = tree.join("usr/lib");
    let mut found = fs::read_dir(&libraries)?.filter_map(|entry| Some(entry.ok()?.path()));
    found.find(|path| path.join("libhsakmt.so.1").exists()).context("the packages hold no libhsakmt.so.1")
}
