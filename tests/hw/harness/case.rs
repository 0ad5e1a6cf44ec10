//! One test on one device.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use drm_pagemap::Gpu;
use libtest_mimic::{Completion, Failed, Trial};

use super::ground::{Ground, Subject};
use super::needs::Need;
use super::report::{Report, Verdict};
use super::watchdog::Watchdog;

/// A test of the suite.
#[derive(Debug)]
pub(crate) struct Test {
    /// `subject/what_it_shows`.
    pub(crate) name: &'static str,
    /// What the device must have.
    pub(crate) needs: &'static [Need],
    /// The test itself; failures are panics, so that the assertion macros serve.
    pub(crate) run: fn(&Context) -> TestResult,
}

/// What a test gets.
#[derive(Debug)]
pub(crate) struct Context {
    gpus: Vec<Gpu>,
}

impl Context {
    /// The device under test.
    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpus[0]
    }

    /// A second device, for tests that need one.
    pub(crate) fn peer(&self) -> &Gpu {
        &self.gpus[1]
    }
}

/// Why a test stopped without having shown anything.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A need that only the test itself could find lacking.
    Skip(String),
    /// An operation failed that the test takes for granted.
    Fail(String),
}

impl From<drm_pagemap::Error> for Stop {
    fn from(error: drm_pagemap::Error) -> Self {
        Self::Fail(error.to_string())
    }
}

impl From<drm_pagemap::range::RangeError> for Stop {
    fn from(error: drm_pagemap::range::RangeError) -> Self {
        Self::Fail(error.to_string())
    }
}

/// `Ok` when everything the test asserts held.
pub(crate) type TestResult = Result<(), Stop>;

pub(crate) fn trial(ground: Ground, subject: Subject, test: &'static Test, report: Report) -> Trial {
    let name = format!("{}/{}", subject.label, test.name);
    Trial::ignorable_test(name.clone(), move || {
        let started = Instant::now();
        let verdict = verdict(&subject, test, &name);
        report.write(&name, ground, subject.driver, &verdict, started.elapsed());
        match verdict {
            Verdict::Passed => Ok(Completion::Completed),
            Verdict::Skipped(reason) => Ok(Completion::ignored_with(reason)),
            Verdict::Failed(reason) => Err(Failed::from(reason)),
        }
    })
}

fn verdict(subject: &Subject, test: &Test, name: &str) -> Verdict {
    let gpus = match (subject.gpus)() {
        Ok(gpus) => gpus,
        Err(reason) => return Verdict::Failed(format!("the device cannot be had: {reason}")),
    };
    if gpus.is_empty() {
        return Verdict::Failed("the device has gone".to_owned());
    }
    if let Some(reason) = test.needs.iter().find_map(|need| need.lacking(&gpus)) {
        return Verdict::Skipped(reason);
    }
    let _watchdog = Watchdog::start(name);
    let context = Context { gpus };
    match catch_unwind(AssertUnwindSafe(|| (test.run)(&context))) {
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(Stop::Skip(reason))) => Verdict::Skipped(reason),
        Ok(Err(Stop::Fail(reason))) => Verdict::Failed(reason),
        Err(panic) => Verdict::Failed(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                .unwrap_or_else(|| "panicked".to_owned()),
        ),
    }
}
