//! One test on one device.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use drm_pagemap::{Gpu, PageRange, residency};
use libtest_mimic::{Completion, Failed, Trial};
use serde_json::{Value, json};

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

impl Test {
    /// Name and needs, for programs.
    pub(crate) fn description(&self) -> Value {
        let needs: Vec<String> = self.needs.iter().map(|need| format!("{need:?}")).collect();
        json!({ "name": self.name, "needs": needs })
    }
}

/// What a test gets.
#[derive(Debug)]
pub(crate) struct Context {
    name: String,
    gpus: Vec<Gpu>,
    report: Report,
    /// First part of the name of the case.
    pub(super) label: String,
    pub(super) ground: Ground,
}

impl Context {
    /// The device under test.
    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpus[0]
    }

    /// Whether the machine is one of the lab's, which are all alike.
    pub(crate) fn is_lab(&self) -> bool {
        self.ground == Ground::Lab
    }

    /// A second device, for tests that need one.
    pub(crate) fn peer(&self) -> &Gpu {
        &self.gpus[1]
    }

    /// Announces a part of a line that the kernel will write to its log because of this test; the lab fails on lines
    /// that nobody announced.
    pub(crate) fn expect_log(&self, part: &str) {
        self.report.expect_log(part);
    }

    /// The same, for what only kernels before `fixed` say.
    pub(crate) fn expect_log_before(&self, fixed: (u32, u32), part: &str) {
        if self.kernel_is_before(fixed) {
            self.expect_log(part);
        }
    }

    /// Whether the running kernel is older than this.
    pub(crate) fn kernel_is_before(&self, release: (u32, u32)) -> bool {
        kernel_series() < release
    }

    /// Adds a picture of where the pages of a range are now to the report.
    pub(crate) fn picture(&self, what: &str, range: PageRange) -> TestResult {
        if self.report.is_wanted() {
            self.report.picture(&self.name, what, &residency::of_range(range)?.to_svg());
        }
        Ok(())
    }
}

/// The running kernel's major and minor number.
fn kernel_series() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel says its release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    (numbers.next().expect("a major number"), numbers.next().expect("a minor number"))
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

/// The whole name of a test on a device.
pub(crate) fn name(subject: &Subject, test: &Test) -> String {
    format!("{}/{}", subject.label, test.name)
}

pub(crate) fn trial(ground: Ground, subject: Subject, test: &'static Test, report: Report) -> Trial {
    let name = name(&subject, test);
    Trial::ignorable_test(name.clone(), move || {
        let started = Instant::now();
        report.begin(&name);
        let verdict = verdict(ground, &subject, test, &name, &report);
        report.write(&name, ground, subject.driver, &verdict, started.elapsed());
        match verdict {
            Verdict::Passed => Ok(Completion::Completed),
            Verdict::Skipped(reason) => Ok(Completion::ignored_with(reason)),
            Verdict::Failed(reason) => Err(Failed::from(reason)),
        }
    })
}

fn verdict(ground: Ground, subject: &Subject, test: &Test, name: &str, report: &Report) -> Verdict {
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
    let (label, report) = (subject.label.clone(), report.clone());
    let context = Context { name: name.to_owned(), gpus, report, label, ground };
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
