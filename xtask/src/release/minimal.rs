//! The oldest dependencies that the manifest allows.

use super::{Verdict, manifest, target};
use crate::command;
use crate::lab::{Workspace, cargo};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;

pub(super) fn check(workspace: &Workspace) -> Result<Verdict> {
    let folder = tempfile::tempdir().context("cannot make a folder for the build")?;
    let text = fs::read_to_string(manifest(workspace))?;
    fs::write(folder.path().join("Cargo.toml"), library_only(&text))?;
    for name in ["src", "docs", "README.md"] {
        symlink(workspace.folder().join(name), folder.path().join(name))?;
    }
    // Resolving so is unstable in cargo; building what was resolved is not.
    let mut update = cargo();
    update.args(["update", "--quiet", "-Z", "direct-minimal-versions"]).current_dir(folder.path());
    update.env("RUSTC_BOOTSTRAP", "1");
    command::run(&mut update)?;
    let mut check = cargo();
    check.args(["check", "--quiet", "--locked", "--lib", "--all-features"]).current_dir(folder.path());
    check.arg("--target-dir").arg(target(workspace).join("minimal"));
    command::run(&mut check)?;
    Ok(Verdict::Holds("builds with the oldest direct dependencies".into()))
}

/// The manifest without what belongs to the workspace and to tests, whose dependencies would be made old as well.
fn library_only(manifest: &str) -> String {
    let mut kept = String::new();
    let mut keep = true;
    for line in manifest.lines() {
        if line.starts_with('[') {
            let test_only = ["[dev-dependencies", "[[test]]", "[[bench]]", "[[example]]", "[profile"];
            keep = !test_only.iter().any(|start| line.starts_with(start));
        }
        if keep && !line.starts_with("members") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_members_go() {
        let text = "[workspace]\nmembers = [\"x\"]\n\n[package]\nname = \"a\"\n\n[dev-dependencies]\nb = \"1\"\n\n[[test]]\nname = \"t\"\n\n[features]\nc = []\n";
        assert_eq!(library_only(text), "[workspace]\n\n[package]\nname = \"a\"\n\n[features]\nc = []\n");
    }
}
