//! Licences and advisories of the dependencies, without the network.

use super::Verdict;
use crate::command;
use crate::lab::{Workspace, cargo};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

/// What a program under MIT or Apache-2.0 may contain without further duties.
const FINE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub(super) fn check(workspace: &Workspace) -> Result<Verdict> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked", "--offline", "--all-features"]);
    metadata.args(["--filter-platform", "x86_64-unknown-linux-gnu"]).current_dir(workspace.folder());
    let metadata: Value = serde_json::from_str(&command::output(&mut metadata)?)?;
    let used = dependencies(&metadata)?;
    let bad: Vec<String> = used
        .iter()
        .filter(|(_, licence)| !is_fine(licence))
        .map(|(name, licence)| {
            format!("{name} ({})", if licence.is_empty() { "none given" } else { licence })
        })
        .collect();
    if !bad.is_empty() {
        bail!("licences that nobody has looked at: {}", bad.join(", "));
    }
    Ok(Verdict::Holds(format!("{} dependencies of the library", used.len())))
}

/// Everything that a user of the library compiles: name and licence.
fn dependencies(metadata: &Value) -> Result<BTreeMap<String, String>> {
    let packages: BTreeMap<&str, &Value> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|package| Some((package["id"].as_str()?, package)))
        .collect();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let root = packages.iter().find(|(_, package)| package["name"] == "drm-pagemap");
    let mut queue = vec![*root.context("cargo does not know the library")?.0];
    let mut seen = BTreeSet::new();
    while let Some(id) = queue.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes.get(id).and_then(|node| node["deps"].as_array()).into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            // `null` is a normal dependency.
            if kinds.into_iter().any(|kind| kind["kind"].is_null() || kind["kind"] == "build") {
                queue.extend(dependency["pkg"].as_str());
            }
        }
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let used =
        seen.iter().filter_map(|id| packages.get(id)).filter(|package| package["name"] != "drm-pagemap");
    Ok(used
        .map(|package| {
            (format!("{} {}", text(&package["name"]), text(&package["version"])), text(&package["license"]))
        })
        .collect())
}

/// Whether the expression (SPDX; `/` is an old way to say OR) allows a choice of fine licences alone.
fn is_fine(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<String> = Vec::new();
    for word in spaced.split_whitespace() {
        let joins = words.last().is_some_and(|last| last.ends_with(" WITH"));
        match words.last_mut() {
            Some(last) if joins || word == "WITH" => *last = format!("{last} {word}"),
            _ => words.push(word.to_owned()),
        }
    }
    let mut words = words.iter().map(String::as_str).peekable();
    any(&mut words) == Some(true) && words.next().is_none()
}

type Words<I> = std::iter::Peekable<I>;

// `None`: not an expression.
fn any<'a, I: Iterator<Item = &'a str>>(words: &mut Words<I>) -> Option<bool> {
    let mut result = all(words)?;
    while words.next_if_eq(&"OR").is_some() {
        result |= all(words)?;
    }
    Some(result)
}

fn all<'a, I: Iterator<Item = &'a str>>(words: &mut Words<I>) -> Option<bool> {
    let mut result = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        result &= one(words)?;
    }
    Some(result)
}

fn one<'a, I: Iterator<Item = &'a str>>(words: &mut Words<I>) -> Option<bool> {
    match words.next()? {
        "(" => {
            let inner = any(words)?;
            words.next_if_eq(&")").map(|_| inner)
        }
        licence => Some(FINE.contains(&licence)),
    }
}

pub(super) fn advisories(workspace: &Workspace) -> Result<Verdict> {
    let has = |tool: &str| {
        let mut command = Command::new(tool);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from).unwrap_or_else(|| {
        std::path::PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo")
    });
    let mut tool = cargo();
    tool.current_dir(workspace.folder());
    if has("cargo-deny") && home.join("advisory-dbs").is_dir() {
        tool.args(["deny", "--offline", "check", "--disable-fetch", "advisories"]);
    } else if has("cargo-audit") && home.join("advisory-db").is_dir() {
        tool.args(["audit", "--no-fetch", "--deny", "warnings"]);
    } else {
        return Ok(Verdict::Skipped(
            "neither cargo-deny nor cargo-audit with a database of advisories is here".into(),
        ));
    }
    command::run(&mut tool)?;
    Ok(Verdict::Holds("no known vulnerability in the database that is here".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_judged() {
        for fine in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/GPL-2.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "GPL-2.0 OR (MIT AND ISC)",
        ] {
            assert!(is_fine(fine), "{fine}");
        }
        for bad in [
            "",
            "GPL-2.0",
            "MIT AND GPL-2.0",
            "MIT OR",
            "(MIT",
            "LGPL-2.1 WITH Linux-syscall-note",
            "MIT MIT",
        ] {
            assert!(!is_fine(bad), "{bad}");
        }
    }

    #[test]
    fn only_what_users_compile_counts() {
        let metadata: Value = serde_json::from_str(
            r#"{"packages":[{"id":"l","name":"drm-pagemap","version":"1","license":"MIT"},{"id":"a","name":"a","version":"2","license":"ISC"},
                {"id":"b","name":"b","version":"3","license":null},{"id":"t","name":"t","version":"4","license":"GPL-2.0"}],
               "resolve":{"nodes":[{"id":"l","deps":[{"pkg":"a","dep_kinds":[{"kind":null}]},{"pkg":"t","dep_kinds":[{"kind":"dev"}]}]},
                {"id":"a","deps":[{"pkg":"b","dep_kinds":[{"kind":"build"}]}]}]}}"#,
        )
        .unwrap();
        let used = dependencies(&metadata).unwrap();
        assert_eq!(
            used,
            BTreeMap::from([("a 2".to_owned(), "ISC".to_owned()), ("b 3".to_owned(), String::new())])
        );
    }
}
