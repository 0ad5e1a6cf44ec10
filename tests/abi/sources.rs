//! The table is complete, and its requests are distinct.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

use libtest_mimic::Failed;

use crate::tables;

/// Each source file of the floor that defines ABI items has its table in `uapi::TABLES`, once.
pub(crate) fn every_module_is_in_the_table() -> Result<(), Failed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/uapi");
    let mut defining = BTreeSet::new();
    visit(&root, "drm_pagemap::uapi", &mut defining)?;
    let listed: Vec<_> = tables().map(|table| table.module.to_owned()).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    if defining.is_empty() || unique != defining || unique.len() != listed.len() {
        return Err(format!("defining: {defining:?}\nlisted: {listed:?}").into());
    }
    Ok(())
}

/// A request number leads to one type.
pub(crate) fn requests_are_distinct() -> Result<(), Failed> {
    let mut names = BTreeMap::new();
    for request in tables().flat_map(|table| table.requests) {
        if let Some(other) = names.insert(request.value, request.c_name) {
            return Err(format!("{other} and {} are both {:#x}", request.c_name, request.value).into());
        }
    }
    if names.is_empty() { Err("there are no requests".into()) } else { Ok(()) }
}

fn visit(directory: &Path, module: &str, defining: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let child = if name == "mod" { module.to_owned() } else { format!("{module}::{name}") };
        if path.is_dir() {
            visit(&path, &child, defining)?;
        } else if fs::read_to_string(&path)?.lines().any(|line| line.starts_with("abi! {")) {
            defining.insert(child);
        }
    }
    Ok(())
}
