//! `cargo xtask matrix`: which test was run where, and what came of it, as a table in the repository.
//!
//! Results of the last runs are kept in `tests/hw/results`, a file for each run, and `tests/hw/MATRIX.md` is made of them and
//! of what the suite says about its tests. Neither takes a GPU or the lab; only new results do.

mod page;
mod results;
mod rows;

use crate::command;
use crate::hwtest::Saved;
use crate::lab::{Kind, Workspace, unexpected};
use anyhow::{Context, Result, bail};
use lexopt::Arg::{Long, Short, Value};
use lexopt::Parser;
use results::Results;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HELP: &str = "\
cargo xtask matrix [OPTIONS] [REPORT...]

Writes tests/hw/MATRIX.md: each test of the suite, on each driver and ground. REPORT is a folder that `hwtest` wrote, or
the report.json in it; its results take the place of those that the same run gave before.

  --check    change nothing; fail when the table is not what would be written
";

/// A test, as the suite describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) needs: Vec<String>,
}

/// Runs the task; the result is its exit code.
pub(crate) fn main(mut parser: Parser) -> Result<i32> {
    let mut check = false;
    let mut reports: Vec<PathBuf> = Vec::new();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(0);
            }
            Long("check") => check = true,
            Value(path) => reports.push(path.into()),
            arg => return Err(unexpected(arg, "matrix")),
        }
    }
    if check && !reports.is_empty() {
        bail!("--check looks at what is in the repository: give no reports");
    }
    let workspace = Workspace::load()?;
    let folder = workspace.folder().join("tests/hw/results");
    let page = workspace.folder().join("tests/hw/MATRIX.md");
    let tests = describe(&workspace)?;
    let mut results = Results::read(&folder)?;
    for report in &reports {
        results.take(&saved(report)?)?;
    }
    let text = page::render(&tests, &results);
    if check {
        let there = fs::read_to_string(&page).unwrap_or_default();
        if there == text {
            return Ok(0);
        }
        eprintln!("tests/hw/MATRIX.md is stale: run `cargo xtask matrix` and commit what it writes");
        eprintln!("{}", first_difference(&there, &text));
        return Ok(1);
    }
    results.write(&folder)?;
    fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))?;
    Ok(0)
}

fn describe(workspace: &Workspace) -> Result<Vec<Test>> {
    let binary = workspace.build_for_host(workspace.find_kind(Kind::Test, "hw")?, false)?;
    let text = command::output(Command::new(binary).arg("--describe"))?;
    text.lines()
        .map(|line| {
            serde_json::from_str(line).with_context(|| format!("the suite described a test as {line:?}"))
        })
        .collect()
}

fn saved(path: &Path) -> Result<Saved> {
    let file = if path.is_dir() { path.join("report.json") } else { path.to_owned() };
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Saved::parse(&text).with_context(|| file.display().to_string())
}

fn first_difference(there: &str, wanted: &str) -> String {
    let mut lines = there.lines();
    for wanted in wanted.lines() {
        let found = lines.next();
        if found != Some(wanted) {
            return format!(
                "first difference:\n  there  {}\n  wanted {wanted}",
                found.unwrap_or("(nothing)")
            );
        }
    }
    "the file is longer than it should be".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_shown() {
        assert!(first_difference("a\nb\n", "a\nc\n").contains("there  b\n  wanted c"));
        assert!(first_difference("a", "a\nb").contains("(nothing)"));
        assert!(first_difference("a\nb", "a").contains("longer"));
    }
}
