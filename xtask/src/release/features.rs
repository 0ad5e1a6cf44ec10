//! Every combination of features.

use super::{Verdict, manifest, target};
use crate::command;
use crate::lab::{Workspace, cargo};
use anyhow::{Context, Result};
use serde_json::Value;

pub(super) fn check(workspace: &Workspace) -> Result<Verdict> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(workspace.folder());
    let metadata: Value = serde_json::from_str(&command::output(&mut metadata)?)?;
    let features = names(&metadata).context("cargo does not know the library")?;
    let sets = powerset(&features);
    for set in &sets {
        let mut check = cargo();
        check.args([
            "check",
            "--quiet",
            "--locked",
            "--lib",
            "--no-default-features",
            "--features",
            &set.join(","),
        ]);
        check.arg("--manifest-path").arg(manifest(workspace)).arg("--target-dir").arg(target(workspace));
        check.env("RUSTFLAGS", "-D warnings");
        command::run(&mut check)?;
    }
    Ok(Verdict::Holds(format!("{} combinations of {}", sets.len(), features.join(", "))))
}

fn names(metadata: &Value) -> Option<Vec<String>> {
    let packages = metadata["packages"].as_array()?;
    let library = packages.iter().find(|package| package["name"] == "drm-pagemap")?;
    let features = library["features"].as_object()?.keys();
    Some(features.filter(|name| *name != "default").cloned().collect())
}

fn powerset(features: &[String]) -> Vec<Vec<String>> {
    let chosen = |set: usize| features.iter().enumerate().filter(move |(index, _)| set >> index & 1 == 1);
    (0..1 << features.len()).map(|set| chosen(set).map(|(_, name)| name.clone()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_there_once() {
        let sets = powerset(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(
            sets,
            [vec![], vec!["a".to_owned()], vec!["b".to_owned()], vec!["a".to_owned(), "b".to_owned()]]
        );
        let metadata: Value = serde_json::from_str(
            r#"{"packages":[{"name":"drm-pagemap","features":{"default":["sim"],"sim":[]}}]}"#,
        )
        .unwrap();
        assert_eq!(names(&metadata).unwrap(), ["sim"]);
    }
}
