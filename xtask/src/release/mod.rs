//! `cargo xtask release-check`: what must hold before a version of the library is published.

mod api;
mod features;
mod licences;
mod minimal;
mod package;

use crate::lab::{Workspace, unexpected};
use anyhow::{Result, bail};
use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use std::path::Path;

const HELP: &str = "\
cargo xtask release-check [OPTIONS] [PART...]

Checks what must hold before a version of the library is published. Without PART, everything:

  api                the public API is that of xtask/public-api.txt
  licences           every dependency of the library may be used under MIT or Apache-2.0 terms
  advisories         no dependency has a known vulnerability (by cargo-deny or cargo-audit, where installed)
  features           every combination of features builds without a warning
  minimal-versions   it builds with the oldest dependencies that Cargo.toml allows
  package            it builds from the package that would be published

  --update           write xtask/public-api.txt anew

What cannot be checked here is printed as SKIPPED with the reason. Exit code 1: something does not hold.
";

/// How a part went, if it did not fail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It holds; what was looked at.
    Holds(String),
    /// It could not be looked at, because.
    Skipped(String),
}

type Part = (&'static str, fn(&Workspace) -> Result<Verdict>);

const PARTS: &[Part] = &[
    ("api", api::check),
    ("licences", licences::check),
    ("advisories", licences::advisories),
    ("features", features::check),
    ("minimal-versions", minimal::check),
    ("package", package::check),
];

/// Runs the task; the result is its exit code.
pub(crate) fn main(mut parser: Parser) -> Result<i32> {
    let (mut chosen, mut update) = (Vec::new(), false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(0);
            }
            Long("update") => update = true,
            Value(name) => chosen.push(part(&name.string()?)?),
            arg => return Err(unexpected(arg, "release-check")),
        }
    }
    let workspace = Workspace::load()?;
    if update {
        api::update(&workspace)?;
        return Ok(0);
    }
    let mut failed = 0;
    for (name, check) in if chosen.is_empty() { PARTS } else { &chosen } {
        match check(&workspace) {
            Ok(Verdict::Holds(what)) => println!("release-check: {name}: {what}"),
            Ok(Verdict::Skipped(why)) => println!("release-check: SKIPPED: {name}: {why}"),
            Err(error) => {
                failed += 1;
                println!("release-check: FAILED: {name}: {error:#}");
            }
        }
    }
    Ok(i32::from(failed > 0))
}

fn part(name: &str) -> Result<Part> {
    match PARTS.iter().find(|(known, _)| *known == name) {
        Some(part) => Ok(*part),
        None => {
            let known: Vec<&str> = PARTS.iter().map(|(known, _)| *known).collect();
            bail!("no part called {name:?}: {}", known.join(", "))
        }
    }
}

/// A target folder of its own: these builds have other flags than everybody's.
fn target(workspace: &Workspace) -> std::path::PathBuf {
    workspace.output().join("release-check")
}

/// The library's manifest.
fn manifest(workspace: &Workspace) -> std::path::PathBuf {
    Path::new(workspace.folder()).join("Cargo.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_names() {
        assert_eq!(part("api").unwrap().0, "api");
        assert!(part("luck").unwrap_err().to_string().contains("minimal-versions"));
    }
}
