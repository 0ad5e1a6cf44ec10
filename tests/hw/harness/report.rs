//! Results for programs: one JSON object a line, to the file that `HW_RESULTS` names.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drm_pagemap::Driver;
use serde_json::json;

use super::ground::Ground;

/// How a case ended.
#[derive(Debug)]
pub(crate) enum Verdict {
    Passed,
    Skipped(String),
    Failed(String),
}

/// Where results go, besides the terminal.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    file: Option<Arc<Mutex<File>>>,
}

impl Report {
    /// The file named by `HW_RESULTS`, if any.
    pub(crate) fn from_environment() -> Self {
        let file = std::env::var_os("HW_RESULTS").map(|path| {
            let file = File::options().append(true).create(true).open(&path);
            Arc::new(Mutex::new(file.unwrap_or_else(|error| panic!("HW_RESULTS {path:?}: {error}"))))
        });
        Self { file }
    }

    pub(crate) fn write(
        &self,
        name: &str,
        ground: Ground,
        driver: Driver,
        verdict: &Verdict,
        took: Duration,
    ) {
        let (outcome, reason) = match verdict {
            Verdict::Passed => ("passed", ""),
            Verdict::Skipped(reason) => ("skipped", reason.as_str()),
            Verdict::Failed(reason) => ("failed", reason.as_str()),
        };
        self.line(&json!({
            "name": name,
            "ground": ground.to_string(),
            "driver": driver.name(),
            "outcome": outcome,
            "reason": reason,
            "ms": took.as_millis() as u64,
        }));
    }

    /// Tells that a line of the kernel's log with this text is meant to come.
    pub(crate) fn expect_log(&self, part: &str) {
        self.line(&json!({ "expect_log": part }));
    }

    /// Whether anybody reads it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.file.is_some()
    }

    /// Tells which test comes now, so that a process that dies is known to have died in it.
    pub(crate) fn begin(&self, name: &str) {
        self.line(&json!({ "begin": name }));
    }

    /// Hands over a picture that belongs to a test.
    pub(crate) fn picture(&self, test: &str, what: &str, svg: &str) {
        self.line(&json!({ "picture": { "test": test, "what": what, "svg": svg } }));
    }

    fn line(&self, line: &serde_json::Value) {
        let Some(file) = &self.file else { return };
        let mut file = file.lock().expect("no writer panicked");
        writeln!(file, "{line}").expect("the results file takes a line");
    }
}
