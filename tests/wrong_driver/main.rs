//! A machine where a driver that is not for this crate has a render node: what the library makes of it is so, and helps.
//! For the lab, with the kernel's virtual GEM driver, without a GPU and beside one:
//!
//! ```text
//! cargo xtask lab run --gpus 0 --module vgem -- wrong_driver
//! cargo xtask lab run --module vgem -- wrong_driver
//! ```
//!
//! Elsewhere, where vgem is not loaded, there is nothing to look at.

use std::fs;
use std::path::{Path, PathBuf};

use drm_pagemap::channel::Channel;
use drm_pagemap::doctor::{self, Report, Status, Verdict};
use drm_pagemap::{Driver, ErrorKind, Gpu, drm, xe};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

const WRONG: &str = "vgem";

/// By the number of usable GPUs beside it and kernel series; made in the lab by this very test, which shows what it found where
/// it differs. `RELEASE` and `VERSION` stand for the kernel's.
const SNAPSHOTS: &[(usize, &[&str], &str)] = &[
    (0, &["7.3", "7.2", "6.18"], include_str!("snapshots/alone.txt")),
    (0, &["6.17", "6.16"], include_str!("snapshots/alone_6_17.txt")),
    (1, &["7.3", "7.2", "6.18"], include_str!("snapshots/beside_xe.txt")),
    (1, &["6.16"], include_str!("snapshots/beside_xe_6_16.txt")),
    (1, &["6.17"], include_str!("snapshots/beside_xe_6_17.txt")),
];

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let trial = |name: &str, run: fn(&Machine) -> Result<Completion, Failed>| {
        Trial::ignorable_test(name, move || match Machine::here() {
            Some(machine) => run(&machine),
            None if is_lab() => {
                Err(format!("no render node is {WRONG}'s: `lab run` needs --module {WRONG}").into())
            }
            None => Ok(Completion::ignored_with(format!("no render node is {WRONG}'s"))),
        })
    };
    let trials = vec![
        trial("the_verdict_is_so", the_verdict_is_so),
        trial("discovery_passes_it_over_and_says_why", discovery_passes_it_over),
        trial("it_is_refused_by_name", it_is_refused_by_name),
        trial("the_report_is_as_written_down", the_report_is_as_written_down),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Whether this is a guest of the lab, which is told by this file what to do.
fn is_lab() -> bool {
    Path::new("/job.json").exists()
}

/// This machine, and the render node of the wrong driver.
struct Machine {
    node: PathBuf,
    report: Report,
}

impl Machine {
    fn here() -> Option<Self> {
        let nodes = fs::read_dir("/dev/dri").into_iter().flatten().flatten().map(|entry| entry.path());
        let mut render = nodes.filter(|path| path.to_string_lossy().contains("renderD"));
        let wrong = |path: &PathBuf| {
            Channel::open(path).and_then(|channel| drm::driver_name(&channel)).is_ok_and(|name| name == WRONG)
        };
        Some(Self { node: render.find(wrong)?, report: doctor::examine() })
    }

    fn node(&self) -> &str {
        self.node.to_str().expect("its name is plain")
    }
}

fn the_verdict_is_so(machine: &Machine) -> Result<Completion, Failed> {
    let report = &machine.report;
    let wrong = report.devices.iter().find(|device| device.node.as_deref() == Some(machine.node()));
    let wrong = wrong.unwrap_or_else(|| panic!("{} is in the report:\n{report:#}", machine.node()));
    assert_eq!((wrong.driver.as_deref(), wrong.verdict), (Some(WRONG), Verdict::No), "{report:#}");
    let driver = wrong.findings.iter().find(|finding| finding.check().id == "device.driver");
    let driver = driver.unwrap_or_else(|| panic!("its driver is looked at:\n{report:#}"));
    assert_eq!(driver.status(), Status::Problem, "{driver:?}");
    assert!(driver.cure().is_some(), "{driver:?}");
    // The machine as a whole works exactly if a GPU is there that does.
    let usable = Gpu::discover()?.into_iter().filter(|gpu| gpu.mirror().is_ok()).count();
    let promised =
        report.devices.iter().filter(|device| matches!(device.verdict, Verdict::Yes | Verdict::Degraded));
    assert_eq!(promised.count(), usable, "{report:#}");
    Ok(Completion::Completed)
}

fn discovery_passes_it_over(machine: &Machine) -> Result<Completion, Failed> {
    let found = Gpu::discover()?;
    assert!(found.gpus().iter().all(|gpu| gpu.device().node() != machine.node()), "{found:?}");
    let passed_over = found.passed_over().iter().find(|passed| passed.node == machine.node());
    let passed_over = passed_over.unwrap_or_else(|| panic!("it is mentioned: {found:?}"));
    assert!(passed_over.why.reason.contains(WRONG), "{passed_over}");
    Ok(Completion::Completed)
}

/// The driver's own answer to the first call of another driver must not be taken for an answer of xe.
fn it_is_refused_by_name(machine: &Machine) -> Result<Completion, Failed> {
    let error = xe::Device::open(&machine.node).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.reason().contains(WRONG), "{error}");
    Ok(Completion::Completed)
}

fn the_report_is_as_written_down(machine: &Machine) -> Result<Completion, Failed> {
    if !is_lab() {
        return Ok(Completion::ignored_with("the machine is not one of the lab's"));
    }
    let report = &machine.report;
    let release = report.kernel.clone().unwrap_or_default();
    let series = release.split('.').take(2).collect::<Vec<_>>().join(".");
    let gpus = Gpu::discover()?.gpus().iter().filter(|gpu| gpu.driver() == Driver::Xe).count();
    let known =
        SNAPSHOTS.iter().find(|(beside, kernels, _)| *beside == gpus && kernels.contains(&series.as_str()));
    let version = release.split(['+', '-']).next().unwrap_or(&release);
    let found = report.to_string();
    // Where lines end depends on how long the versions are.
    let words = |text: &str| {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        words.replace(&release, "RELEASE").replace(&format!("Linux {version}"), "Linux VERSION")
    };
    let Some((_, _, expected)) = known else {
        println!("Found:\n{found}");
        let what = format!("nothing is written down for Linux {series} and {gpus} GPUs of xe");
        return Ok(Completion::ignored_with(what));
    };
    assert!(words(&found) == words(expected), "Expected:\n{expected}\nFound:\n{found}");
    Ok(Completion::Completed)
}
