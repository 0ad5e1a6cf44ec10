//! The report for programs.

use super::super::contract::{Outcome, TestResult};
use super::super::summary::Run;
use super::Report;
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

/// What of a report is read again, by the matrix.
#[derive(Debug, Deserialize)]
pub(crate) struct Saved {
    pub(crate) ground: String,
    pub(crate) runs: Vec<SavedRun>,
}

/// One run of a saved report.
#[derive(Debug, Deserialize)]
pub(crate) struct SavedRun {
    pub(crate) title: String,
    pub(crate) results: Vec<TestResult>,
}

impl Saved {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).context("not a report of hwtest")
    }
}

pub(super) fn of(report: &Report<'_>) -> Result<String> {
    let value = json!({
        "package": "drm-pagemap",
        "version": report.version,
        "ground": report.ground,
        "machine": report.facts.to_json(),
        "doctor": report.examination.map(|examination| &examination.json),
        "passed_over": report.passed_over,
        "runs": report.runs.iter().map(run).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn run(run: &Run) -> Value {
    let count = |outcome| run.results.iter().filter(|result| result.outcome == outcome).count();
    json!({
        "title": run.title,
        "guests": run.guests,
        "passed": count(Outcome::Passed),
        "failed": count(Outcome::Failed),
        "skipped": count(Outcome::Skipped),
        "results": run.results,
        "trouble": run.trouble,
    })
}
