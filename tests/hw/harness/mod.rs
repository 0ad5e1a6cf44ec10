//! The harness of the one suite: which ground it runs on, which devices are there, what a test needs, and what is
//! reported.
//!
//! A test states its needs, not where it runs. Each test is tried on every device of the ground; where the device lacks a
//! need, the case is reported as ignored with the reason, never as passed.

mod case;
mod ground;
mod needs;
mod report;
mod watchdog;

pub(crate) use case::{Context, Stop, Test, TestResult};
pub(crate) use needs::{Need, overcommitted};

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Runs `tests` on the ground chosen by `--ground` or `HW_GROUND` (default: simulated).
pub(crate) fn run(tests: &'static [&'static [Test]]) -> ExitCode {
    let (ground, arguments) = match ground::from_arguments(std::env::args()) {
        Ok(chosen) => chosen,
        Err(reason) => {
            eprintln!("error: {reason}");
            return ExitCode::from(2);
        }
    };
    let mut arguments = Arguments::from_iter(arguments);
    // Devices are shared, and placement is what the tests look at: one at a time.
    arguments.test_threads = Some(1);
    let subjects = ground.subjects();
    let report = report::Report::from_environment();
    let trials: Vec<Trial> = subjects
        .iter()
        .flat_map(|subject| tests.iter().copied().flatten().map(move |test| (subject, test)))
        .map(|(subject, test)| case::trial(ground, subject.clone(), test, report.clone()))
        .collect();
    if trials.is_empty() && !arguments.list {
        println!("nothing to test: the {ground} ground has no device here");
        return ExitCode::from(2);
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Ends a test as skipped, with a reason.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {
        return Err($crate::harness::Stop::Skip(format!($($reason)*)))
    };
}
