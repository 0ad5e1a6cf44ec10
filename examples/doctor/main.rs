//! Says for each GPU whether it can share memory with processes, and if not, why not and what helps.
//!
//! `cargo run --example doctor -- [--all | --json]`

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use drm_pagemap::doctor::{self, Report, Verdict};

mod json;

const USAGE: &str = "\
Usage: cargo run --example doctor -- [--all | --json]

Looks at every precondition of GPU shared virtual memory and says what stands in the way, with a cure.

  --all    every check: what was observed, and where the rule comes from
  --json   the same for programs

Exits with 0 when shared virtual memory works on some GPU, with 1 when it does not, and with 2 when it could not look.";

enum Form {
    Brief,
    All,
    Json,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        // Whoever reads the report has seen enough of it (`| head`).
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("doctor: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let Some(form) = parse()? else {
        println!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    };
    let report = doctor::examine();
    let mut out = std::io::stdout().lock();
    match form {
        Form::Brief => write!(out, "{report}")?,
        Form::All => write!(out, "{report:#}")?,
        Form::Json => writeln!(out, "{:#}", json::of(&report))?,
    }
    Ok(if works_anywhere(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn works_anywhere(report: &Report) -> bool {
    report.devices.iter().any(|device| matches!(device.verdict, Verdict::Yes | Verdict::Degraded))
}

fn parse() -> Result<Option<Form>> {
    use lexopt::prelude::*;
    let mut form = Form::Brief;
    let mut options = lexopt::Parser::from_env();
    while let Some(option) = options.next()? {
        match option {
            Long("all") => form = Form::All,
            Long("json") => form = Form::Json,
            Short('h') | Long("help") => return Ok(None),
            other => bail!("{}\n\n{USAGE}", other.unexpected()),
        }
    }
    Ok(Some(form))
}
