//! `cargo xtask hwtest`: one suite for everything that talks to a GPU, on three grounds.

mod contract;
mod devices;
mod doctor;
mod guest;
mod host;
mod options;
mod report;
mod settings;
mod summary;
mod supervise;
#[cfg(test)]
mod test_files;

pub(crate) use contract::Outcome;
pub(crate) use report::{Facts, Saved};

use crate::lab::{Kernel, OPTIONS_HELP, Target, Workspace, tools};
use anyhow::{Result, bail};
use doctor::Examination;
use host::Tested;
use lexopt::Parser;
use options::{Ground, HELP, Options};
use report::Report;
use std::path::{Path, PathBuf};
use std::process::Command;
use summary::Run;

/// Runs the task; the result is its exit code.
pub(crate) fn main(mut parser: Parser) -> Result<i32> {
    let Some(options) = Options::parse(&mut parser)? else {
        print!("{HELP}\n{OPTIONS_HELP}");
        return Ok(0);
    };
    let workspace = Workspace::load()?;
    if options.list {
        return list(&options, &workspace);
    }
    let examination = match options.ground {
        Ground::Hardware => Some(doctor::examine(&workspace, options.conditions.release)?),
        Ground::Simulated | Ground::Lab => None,
    };
    if let Some(examination) = &examination {
        eprintln!("hwtest: the doctor says: {}", examination.text.lines().next().unwrap_or_default());
    }
    let tested = match options.ground {
        Ground::Hardware | Ground::Simulated => on_host(&options, &workspace)?,
        Ground::Lab => Tested { passed_over: Vec::new(), runs: in_lab(&options, &workspace)? },
    };
    if tested.runs.is_empty() {
        say_nothing_to_test(&tested, examination.as_ref());
    } else {
        print!("{}", summary::describe(&tested.runs));
    }
    let ground = options.ground.name();
    let folder = options.report.clone().unwrap_or_else(|| report::default_folder(workspace.output(), ground));
    let (facts, runs) = (&Facts::read(Path::new("/")), &tested.runs);
    let version = &workspace.version;
    Report {
        version,
        ground,
        facts,
        examination: examination.as_ref(),
        passed_over: &tested.passed_over,
        runs,
    }
    .write(&folder)?;
    println!("\nreport in {}", folder.display());
    Ok(summary::exit_code(runs))
}

fn say_nothing_to_test(tested: &Tested, examination: Option<&Examination>) {
    if let Some(examination) = examination {
        println!("{}", examination.brief);
    }
    println!("Nothing to test: no GPU here has shared virtual memory.");
    for passed_over in &tested.passed_over {
        println!("  {passed_over}");
    }
    println!("Two other grounds need no GPU:");
    println!("  cargo xtask hwtest --ground simulated   the software devices of the library");
    println!("  cargo xtask hwtest --ground lab         the real drivers in QEMU, on virtual GPUs");
}

/// The suite's binary for this machine.
fn binary(options: &Options, workspace: &Workspace) -> Result<PathBuf> {
    if options.suite.contains('/') {
        return Ok(options.suite.clone().into());
    }
    let target: &Target = workspace.find(&options.suite)?;
    workspace.build_for_host(target, options.conditions.release)
}

fn on_host(options: &Options, workspace: &Workspace) -> Result<Tested> {
    let plan = host::Plan {
        binary: &binary(options, workspace)?,
        ground: options.ground.name(),
        vendors: &options.vendors(),
        device: options.device.as_deref(),
        filter: options.filter.as_deref(),
        patience: options.patience,
    };
    plan.run()
}

fn list(options: &Options, workspace: &Workspace) -> Result<i32> {
    let binary = binary(options, workspace)?;
    // The names of the lab's tests begin with the devices of its guests; here those may be none.
    let ground = if options.ground == Ground::Hardware { "hardware" } else { "simulated" };
    for device in devices::of(&binary, ground)? {
        let lacking = device.lacking.map_or(String::new(), |reason| format!(", not testable: {reason}"));
        let label = if device.label.is_empty() { "-" } else { &device.label };
        eprintln!("{label} ({}){lacking}", device.name);
    }
    let mut command = Command::new(binary);
    command.args(["--ground", ground]).args(options.filter.clone()).arg("--list");
    if let Some(device) = &options.device {
        command.args(["--device", device]);
    }
    let status = command.status()?;
    Ok(if status.success() { 0 } else { 1 })
}

fn in_lab(options: &Options, workspace: &Workspace) -> Result<Vec<Run>> {
    let tools = tools(&options.guest, workspace, true)?;
    let kernels: Vec<Kernel> = if options.every_kernel {
        let all = tools.cache.kernels();
        if all.is_empty() {
            bail!("no kernel in {}: run `cargo xtask lab setup --all` first", tools.cache.root().display());
        }
        all
    } else {
        vec![options.guest.kernel(&tools.cache)?]
    };
    let mut runs = Vec::new();
    for kernel in &kernels {
        for vendor in options.vendors() {
            let plan = guest::Plan {
                tools: &tools,
                workspace,
                options: &options.guest,
                conditions: &options.conditions,
                suite: &options.suite,
                filter: options.filter.as_deref(),
                kernel,
                vendor,
            };
            runs.push(plan.run()?);
        }
    }
    Ok(runs)
}
