//! `cargo xtask hwtest`: one suite for everything that talks to a GPU, on three grounds.

mod contract;
mod guest;
mod host;
mod summary;

use crate::lab::{
    Conditions, GuestOptions, Kernel, OPTIONS_HELP, Target, Vendor, Workspace, seconds, text, tools,
    unexpected,
};
use anyhow::{Result, bail};
use contract::Collector;
use lexopt::Arg::{Long, Short};
use lexopt::Parser;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use summary::Run;

const HELP: &str = "\
cargo xtask hwtest [OPTIONS]

Runs the test suite of everything that talks to a GPU.

  --ground hardware     on the GPUs of this machine (default)
  --ground lab, --lab   in QEMU: real kernels and drivers, virtual GPUs; needs `cargo xtask lab setup`
  --ground simulated    on the software devices of the library
  --gpu intel|amd|all   whose GPUs (default: all)
  --kernel V|all        in the lab: which kernel, or every one that is here (default: the newest)
  --filter TEXT         only tests with this text in their name
  --list                name the tests
  --suite PROGRAM       a test of this workspace, or a file (default: hw)
  --timeout S           in the lab: for one run of the suite (default: 1800)
  --release             build with optimizations

Exit code 0: tests passed and none failed; 1: a test failed, or a guest, kernel or the suite did; 2: nothing was
tested.
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ground {
    Simulated,
    Lab,
    Hardware,
}

impl Ground {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "simulated" => Self::Simulated,
            "lab" => Self::Lab,
            "hardware" => Self::Hardware,
            _ => bail!("no ground called {text:?}: simulated, lab or hardware"),
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Lab => "lab",
            Self::Hardware => "hardware",
        }
    }
}

#[derive(Debug)]
struct Options {
    ground: Ground,
    guest: GuestOptions,
    gpu_chosen: bool,
    every_kernel: bool,
    filter: Option<String>,
    list: bool,
    suite: String,
    conditions: Conditions,
}

impl Options {
    fn vendors(&self) -> Vec<Vendor> {
        if self.gpu_chosen { self.guest.vendors.clone() } else { Vendor::ALL.to_vec() }
    }
}

/// Runs the task; the result is its exit code.
pub(crate) fn main(mut parser: Parser) -> Result<i32> {
    let Some(options) = parse(&mut parser)? else {
        print!("{HELP}\n{OPTIONS_HELP}");
        return Ok(0);
    };
    let workspace = Workspace::load()?;
    if options.list {
        return list(&options, &workspace);
    }
    let runs = match options.ground {
        Ground::Hardware => {
            let vendors = options.vendors();
            let gpus = host::gpus(Path::new("/sys/class/drm"));
            if let Some(reason) = host::lacking(&gpus, &vendors) {
                eprintln!("hwtest: {reason}; nothing to test");
                eprintln!(
                    "hwtest: `cargo xtask hwtest --lab` runs the suite with the real drivers on virtual GPUs"
                );
                return Ok(2);
            }
            vec![on_host(&options, &workspace, host::skip_others(&gpus, &vendors))?]
        }
        Ground::Simulated => vec![on_host(&options, &workspace, Vec::new())?],
        Ground::Lab => in_lab(&options, &workspace)?,
    };
    print!("{}", summary::describe(&runs));
    Ok(summary::exit_code(&runs))
}

fn parse(parser: &mut Parser) -> Result<Option<Options>> {
    let mut options = Options {
        ground: Ground::Hardware,
        guest: GuestOptions::default(),
        gpu_chosen: false,
        every_kernel: false,
        filter: None,
        list: false,
        suite: "hw".into(),
        conditions: Conditions { timeout: Duration::from_secs(1800), ..Conditions::default() },
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(None),
            Long("lab") => options.ground = Ground::Lab,
            Long("ground") => options.ground = Ground::parse(&text(parser)?)?,
            Long("filter") => options.filter = Some(text(parser)?),
            Long("list") => options.list = true,
            Long("suite") => options.suite = text(parser)?,
            Long("timeout") => options.conditions.timeout = seconds(parser)?,
            Long("release") => options.conditions.release = true,
            Long(name) => {
                let name = name.to_owned();
                options.gpu_chosen |= name == "gpu";
                if !options.guest.take(&name, parser)? {
                    return Err(unexpected(Long(&name), "hwtest"));
                }
            }
            arg => return Err(unexpected(arg, "hwtest")),
        }
    }
    if options.guest.kernel.as_deref() == Some("all") {
        options.guest.kernel = None;
        options.every_kernel = true;
    }
    if options.guest.gpus == 0 {
        bail!("--gpus 0 leaves nothing to test");
    }
    Ok(Some(options))
}

/// The suite's binary for this machine.
fn binary(options: &Options, workspace: &Workspace) -> Result<PathBuf> {
    if options.suite.contains('/') {
        return Ok(options.suite.clone().into());
    }
    let target: &Target = workspace.find(&options.suite)?;
    workspace.build_for_host(target, options.conditions.release)
}

fn arguments(options: &Options) -> Vec<String> {
    let mut words = vec!["--ground".to_owned(), options.ground.name().to_owned()];
    words.extend(options.filter.clone());
    words
}

fn on_host(options: &Options, workspace: &Workspace, more: Vec<String>) -> Result<Run> {
    let mut words = arguments(options);
    words.extend(more);
    host::run(&binary(options, workspace)?, options.ground.name(), &words)
}

fn list(options: &Options, workspace: &Workspace) -> Result<i32> {
    let mut command = Command::new(binary(options, workspace)?);
    // The names of the lab's and the hardware's tests begin with the devices that are there; here those may be none.
    if options.ground != Ground::Hardware {
        command.args(["--ground", "simulated"]);
    } else {
        command.args(["--ground", "hardware"]);
    }
    command.args(options.filter.clone()).arg("--list");
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

/// Lines of the results that are not as agreed.
fn unreadable(collector: &Collector) -> Vec<String> {
    collector
        .unreadable
        .iter()
        .map(|line| format!("the suite reported something unreadable: {line}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Options> {
        parse(&mut Parser::from_args(words)).map(|options| options.expect("no --help"))
    }

    #[test]
    fn options_choose_ground_kernels_and_tests() {
        let options = parsed(&["--lab", "--kernel", "all", "--gpu", "all", "--filter", "placement"]).unwrap();
        assert_eq!(options.ground, Ground::Lab);
        assert!(options.every_kernel && options.guest.kernel.is_none());
        assert_eq!(options.vendors(), Vendor::ALL);
        assert_eq!(arguments(&options), ["--ground", "lab", "placement"]);
        assert_eq!(parsed(&["--lab"]).unwrap().vendors(), Vendor::ALL);
        assert_eq!(parsed(&["--lab", "--gpu", "amd"]).unwrap().vendors(), [Vendor::Amd]);
        let options = parsed(&["--ground", "simulated"]).unwrap();
        assert_eq!((options.ground, options.suite.as_str()), (Ground::Simulated, "hw"));
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [&["--ground", "moon"][..], &["--gpus", "0"], &["--nope"], &["word"]] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
