//! The list of unsafe code in SAFETY.md is complete, and names nothing that is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Source files of the library, without those that are tests only.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap();
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Whether the code before the file's own tests has the keyword outside comments and strings.
fn has_unsafe(text: &str) -> bool {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().any(|line| {
        let line = line.split("//").next().unwrap().split('"').next().unwrap();
        line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe")
    })
}

#[test]
fn every_file_with_unsafe_code_is_listed() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let with_unsafe: BTreeSet<String> = files
        .iter()
        .filter(|path| has_unsafe(&std::fs::read_to_string(path).unwrap()))
        .map(|path| path.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    let text = std::fs::read_to_string(root().join("SAFETY.md")).unwrap();
    let table = text.split("| file | for |").nth(1).expect("the table of files");
    let listed: BTreeSet<String> =
        table.split('`').filter(|name| name.ends_with(".rs")).map(str::to_owned).collect();
    assert!(with_unsafe.len() > 30, "the search for unsafe code is broken");
    let missing: Vec<_> = with_unsafe.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&with_unsafe).collect();
    assert!(missing.is_empty() && stale.is_empty(), "to be listed: {missing:?}; no unsafe code: {stale:?}");
}
