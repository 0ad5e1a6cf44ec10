//! The suite on this machine: on simulated devices, or on its GPUs.

use super::contract::{Collector, NOTHING_TO_TEST};
use super::summary::Run;
use crate::lab::Vendor;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs the suite's binary and collects its results; its output goes to the terminal.
pub(crate) fn run(binary: &Path, title: &str, arguments: &[String]) -> Result<Run> {
    let folder = tempfile::tempdir().context("cannot make a folder for results")?;
    let results = folder.path().join("results");
    fs::write(&results, "")?;
    let mut command = Command::new(binary);
    command.args(arguments).env("HW_RESULTS", &results);
    let status = command.status().with_context(|| format!("cannot run {}", binary.display()))?;
    let mut collector = Collector::default();
    collector.push(&fs::read(&results)?);
    collector.finish();
    let reported = collector.results.iter().any(|result| result.outcome == super::contract::Outcome::Failed);
    let mut trouble = super::unreadable(&collector);
    if !status.success() && status.code() != Some(NOTHING_TO_TEST) && !reported {
        trouble.push(format!("the suite ended with {status} without having reported a failure"));
    }
    Ok(Run { title: title.to_owned(), results: collector.results, trouble })
}

/// The GPUs of this machine by their driver's name, from the folder that `/sys/class/drm` is.
pub(crate) fn gpus(drm: &Path) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(drm).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b"renderD") {
            let driver = fs::read_link(entry.path().join("device/driver")).unwrap_or_default();
            let name = driver.file_name().unwrap_or_default().to_string_lossy().into_owned();
            *found.entry(name).or_default() += 1;
        }
    }
    found
}

/// Why this machine's GPUs cannot be tested; `None` when they can.
pub(crate) fn lacking(gpus: &BTreeMap<String, usize>, vendors: &[Vendor]) -> Option<String> {
    let drivers: Vec<&str> = vendors.iter().map(|vendor| vendor.module()).collect();
    if drivers.iter().any(|driver| gpus.contains_key(*driver)) {
        return None;
    }
    let there: Vec<&str> = gpus.keys().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let there =
        if there.is_empty() { "no GPU at all".to_owned() } else { format!("only {}", there.join(", ")) };
    Some(format!("this machine has no GPU that {} drives ({there})", drivers.join(" or ")))
}

/// Arguments that leave out the tests on GPUs of other vendors; names of tests begin with driver and number of the
/// GPU; what may follow tells configurations of one GPU apart (`amdgpu0-xnack`).
pub(crate) fn skip_others(gpus: &BTreeMap<String, usize>, vendors: &[Vendor]) -> Vec<String> {
    let all: usize = gpus.values().sum();
    let others = Vendor::ALL.iter().filter(|vendor| !vendors.contains(vendor));
    others
        .flat_map(|vendor| (0..all).map(move |number| format!("{}{number}", vendor.module())))
        .flat_map(|prefix| ["--skip".to_owned(), prefix])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn gpus_are_counted_by_driver() {
        let folder = tempfile::tempdir().unwrap();
        for (node, driver) in
            [("renderD128", "xe"), ("renderD129", "xe"), ("renderD130", "ast"), ("card0", "xe")]
        {
            let device = folder.path().join(node).join("device");
            fs::create_dir_all(&device).unwrap();
            symlink(format!("../../../bus/pci/drivers/{driver}"), device.join("driver")).unwrap();
        }
        let found = gpus(folder.path());
        assert_eq!(found, BTreeMap::from([("xe".to_owned(), 2), ("ast".to_owned(), 1)]));
        assert!(lacking(&found, &[Vendor::Intel]).is_none());
        let reason = lacking(&found, &[Vendor::Amd]).unwrap();
        assert!(reason.contains("amdgpu") && reason.contains("only ast, xe"), "{reason}");
        assert!(skip_others(&found, &Vendor::ALL).is_empty());
        let skipped = skip_others(&found, &[Vendor::Intel]);
        assert_eq!(skipped, ["--skip", "amdgpu0", "--skip", "amdgpu1", "--skip", "amdgpu2"]);
        assert!(lacking(&BTreeMap::new(), &Vendor::ALL).unwrap().contains("no GPU at all"));
    }

    #[test]
    fn a_suite_that_dies_silently_is_trouble() {
        let folder = tempfile::tempdir().unwrap();
        let suite = |text: &str| {
            let path = folder.path().join(format!("suite{}", text.len()));
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            run(&path, "here", &["--ground".to_owned()]).unwrap()
        };
        let failed =
            suite(r#"echo '{"name":"a","outcome":"failed","reason":"no"}' >> "$HW_RESULTS"; exit 101"#);
        assert!(failed.trouble.is_empty() && failed.results.len() == 1);
        assert!(suite("kill -SEGV $$").trouble[0].contains("without having reported"));
        assert!(suite("exit 2").trouble.is_empty());
        assert!(suite(r#"echo nonsense >> "$HW_RESULTS""#).trouble[0].contains("nonsense"));
    }
}
