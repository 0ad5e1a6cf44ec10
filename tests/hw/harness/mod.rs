//! The harness of the one suite: which ground it runs on, which devices are there, what a test needs, and what is
//! reported.
//!
//! A test states its needs, not where it runs. Each test is tried on every device of the ground; where the device lacks a
//! need, the case is reported as ignored with the reason, never as passed.

mod case;
mod driver_counters;
mod ground;
pub(crate) mod mailbox;
mod needs;
mod options;
mod own_guest;
mod own_process;
mod report;
mod slot;
mod watchdog;

pub(crate) use case::{Context, Stop, Test, TestResult};
pub(crate) use driver_counters::{Counts, DriverCounters};
pub(crate) use needs::{Need, available_memory, overcommitted, unmaps_what_loses_access};
pub(crate) use slot::Slot;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use options::{Options, Task};

/// Does what the command line asks: by default, runs `tests` on the ground chosen by `--ground` or `HW_GROUND` (default:
/// simulated).
pub(crate) fn run(tests: &[&'static [Test]]) -> ExitCode {
    match Options::from_arguments(std::env::args()).and_then(|options| perform(&options, tests)) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn perform(options: &Options, tests: &[&'static [Test]]) -> Result<ExitCode, String> {
    let ground = options.ground;
    match options.task {
        Task::Devices => ground.seen().iter().for_each(|device| println!("{device}")),
        Task::Describe => tests.iter().copied().flatten().for_each(|test| println!("{}", test.description())),
        Task::Test => return test(options, tests),
    }
    Ok(ExitCode::SUCCESS)
}

fn test(options: &Options, tests: &[&'static [Test]]) -> Result<ExitCode, String> {
    let ground = options.ground;
    let mut arguments = Arguments::from_iter(&options.rest);
    // Devices are shared, and placement is what the tests look at: one at a time.
    arguments.test_threads = Some(1);
    own_guest::renew_drivers();
    let mut subjects = ground.subjects();
    if let Some(device) = &options.device {
        subjects.retain(|subject| subject.label == *device);
    }
    let left_out = options.left_out()?;
    let report = report::Report::from_environment();
    let trials: Vec<Trial> = subjects
        .iter()
        .flat_map(|subject| tests.iter().copied().flatten().map(move |test| (subject, test)))
        .filter(|(subject, test)| !left_out.contains(&case::name(subject, test)))
        .map(|(subject, test)| case::trial(ground, subject.clone(), test, report.clone()))
        .collect();
    if subjects.is_empty() && !arguments.list {
        println!("nothing to test: the {ground} ground has no such device here");
        for seen in ground.seen() {
            println!("  {seen}");
        }
        return Ok(ExitCode::from(2));
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// Ends a test as skipped, with a reason.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {
        return Err($crate::harness::Stop::Skip(format!($($reason)*)))
    };
}
