//! Running the benchmark, here or in a guest.

use crate::child::Guarded;
use crate::lab::{
    Conditions, End, GuestOptions, Kind, Message, Wanted, Workspace, accelerator, add_program, boot,
    describe_end, spec, tools,
};
use anyhow::{Context, Result, bail};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

const NAME: &str = "migration";

/// The benchmark's lines.
pub(super) fn on_host(
    workspace: &Workspace,
    ground: &str,
    arguments: &[String],
    timeout: Duration,
) -> Result<String> {
    let program = workspace.build_for_host(workspace.find_kind(Kind::Bench, NAME)?, true)?;
    let folder = tempfile::tempdir().context("cannot make a folder for results")?;
    let results = folder.path().join("results");
    fs::write(&results, "")?;
    let mut command = Command::new(program);
    command.args(["--ground", ground]).args(arguments).env("HW_RESULTS", &results).stdin(Stdio::null());
    let mut child = Guarded::spawn("the benchmark", &mut command)?;
    match child.wait(timeout)? {
        Some(status) if status.success() => Ok(fs::read_to_string(&results)?),
        Some(status) => bail!("the benchmark ended with {status}"),
        None => bail!("the benchmark has not ended after {} s", timeout.as_secs()),
    }
}

/// What the guest is, and the benchmark's lines.
pub(super) fn in_lab(
    options: &GuestOptions,
    workspace: &Workspace,
    arguments: &[String],
    timeout: Duration,
) -> Result<(String, String)> {
    let tools = tools(options, workspace, true)?;
    let kernel = options.kernel(&tools.cache)?;
    let accel = accelerator(options, &tools, &kernel)?;
    let mut spec = spec(options, kernel.clone(), accel, options.gpus());
    let mut args = vec!["--ground".to_owned(), "lab".to_owned()];
    args.extend_from_slice(arguments);
    let conditions = Conditions { timeout, release: true, ..Conditions::default() };
    add_program(&mut spec, workspace, &Wanted { program: NAME.into(), args }, &conditions)?;
    let mut lines = Vec::new();
    let report = boot(&tools, &spec, &mut |message| match message {
        Message::Results(_, bytes) => lines.extend_from_slice(bytes),
        Message::Stderr(_, bytes) => eprint!("{}", String::from_utf8_lossy(bytes)),
        _ => {}
    })?;
    match report.programs.first() {
        Some(End::Exited(0)) => {}
        Some(End::Exited(code)) => bail!("the benchmark ended with exit code {code}"),
        end => {
            bail!("the benchmark {}", end.and_then(describe_end).unwrap_or_else(|| "was not started".into()))
        }
    }
    if !report.is_sound() {
        bail!("the guest or its kernel was in trouble; logs in {}", report.logs.display());
    }
    let conditions = format!(
        "kernel                  {} (guest)\nPCIe link               none: virtual GPU\n",
        kernel.release
    );
    Ok((conditions, String::from_utf8(lines).context("the benchmark wrote something that is not UTF-8")?))
}
