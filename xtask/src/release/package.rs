//! The package that would be published.

use super::{Verdict, target};
use crate::command;
use crate::lab::{Workspace, cargo};
use anyhow::Result;
use std::fs;

pub(super) fn check(workspace: &Workspace) -> Result<Verdict> {
    let mut package = cargo();
    // It is unpacked and built from there; what is not in it cannot help.
    package.args(["package", "--quiet", "--locked", "--allow-dirty", "--package", "drm-pagemap"]);
    package.arg("--target-dir").arg(target(workspace)).current_dir(workspace.folder());
    command::run(&mut package)?;
    let file = target(workspace).join(format!("package/drm-pagemap-{}.crate", workspace.version));
    Ok(Verdict::Holds(format!("builds from its package of {} KiB", fs::metadata(file)?.len() >> 10)))
}
