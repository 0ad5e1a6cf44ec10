//! Background prefetch, budgets and the allocator as a user of the crate sees them, on simulated xe and KFD devices.
//!
//! One test at a time, because some count what the process has open, and all look where pages are.

#[cfg(feature = "allocator-api2")]
mod allocator;
mod budget;
mod ends;
mod loss;
mod machine;
mod moves;
mod prepare;
mod writers;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use machine::Machine;

/// A test and its name; run on every machine.
type Test = (&'static str, fn(&Machine) -> drm_pagemap::Result<()>);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let mut tests: Vec<Test> = Vec::new();
    for part in [moves::TESTS, ends::TESTS, loss::TESTS, writers::TESTS, budget::TESTS, prepare::TESTS] {
        tests.extend(part);
    }
    #[cfg(feature = "allocator-api2")]
    tests.extend(allocator::TESTS);
    let mut trials = Vec::new();
    type Make = fn() -> drm_pagemap::Result<Machine>;
    for (label, make) in [("xe", Machine::xe as Make), ("kfd", Machine::kfd)] {
        for &(name, test) in &tests {
            let trial = move || {
                let machine = make().map_err(|error| Failed::from(error.to_string()))?;
                test(&machine).map_err(|error| Failed::from(error.to_string()))
            };
            trials.push(Trial::test(format!("{label}/{name}"), trial));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
