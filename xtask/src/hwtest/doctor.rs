//! The doctor's word on this machine, before anything is tested.

use crate::child::Guarded;
use crate::lab::{Kind, Workspace};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A hang guard: the doctor opens devices, which a broken driver may not answer.
const LIMIT: Duration = Duration::from_secs(120);

/// What the doctor found.
#[derive(Debug)]
pub(crate) struct Examination {
    /// What stands in the way, for people.
    pub(crate) brief: String,
    /// Every check, for people.
    pub(crate) text: String,
    /// The same for programs.
    pub(crate) json: Value,
}

/// Builds the example `doctor` and runs it.
pub(crate) fn examine(workspace: &Workspace, release: bool) -> Result<Examination> {
    let program = workspace.build_for_host(workspace.find_kind(Kind::Example, "doctor")?, release)?;
    let json = output(&program, Some("--json"))?;
    Ok(Examination {
        brief: output(&program, None)?,
        text: output(&program, Some("--all"))?,
        json: serde_json::from_str(&json).context("cannot understand the doctor's report")?,
    })
}

fn output(program: &Path, form: Option<&str>) -> Result<String> {
    let folder = tempfile::tempdir().context("cannot make a folder for the doctor's report")?;
    let path = folder.path().join("report");
    let mut command = Command::new(program);
    command.args(form).stdin(Stdio::null()).stdout(File::create(&path)?);
    let mut child = Guarded::spawn("the doctor", &mut command)?;
    match child.wait(LIMIT)?.map(|status| status.code()) {
        Some(Some(0 | 1)) => fs::read_to_string(&path).context("cannot read the doctor's report"),
        Some(_) => bail!("the doctor could not look at this machine"),
        None => bail!("the doctor has not ended after {} s: a driver does not answer", LIMIT.as_secs()),
    }
}
