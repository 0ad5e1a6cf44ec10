//! Tests after which a process is of no use, or that want several: the same test again, in a process of its own.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::case::{Context, Stop, TestResult};

/// Set in such a process.
const VARIABLE: &str = "HW_OWN_PROCESS";

/// Whether this is such a process.
pub(super) fn is_one() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

impl Context {
    /// Runs `body` in a process of its own. `name` is the test that calls this.
    pub(crate) fn in_own_process(&self, name: &str, body: impl FnOnce(&Self) -> TestResult) -> TestResult {
        self.in_own_processes(1, name, body)
    }

    /// Runs `body` in several processes at once.
    pub(crate) fn in_own_processes(
        &self,
        count: usize,
        name: &str,
        body: impl FnOnce(&Self) -> TestResult,
    ) -> TestResult {
        if is_one() {
            return body(self);
        }
        let name = format!("{}/{name}", self.label);
        let processes: Vec<Process> = (0..count).map(|_| self.start(&name)).collect();
        let results: Vec<TestResult> = processes.into_iter().map(Process::result).collect();
        results.into_iter().collect()
    }

    fn start(&self, name: &str) -> Process {
        let report = tempfile::NamedTempFile::new().expect("a temporary file");
        let child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--ground", &self.ground.to_string(), "--device", &self.label, "--exact", name])
            .env(VARIABLE, "1")
            .env("HW_RESULTS", report.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("this program can be started");
        Process { child, report }
    }
}

/// A run of one test.
struct Process {
    child: Child,
    report: tempfile::NamedTempFile,
}

impl Process {
    /// What the test reported there.
    fn result(mut self) -> TestResult {
        let status =
            self.child.wait().map_err(|error| Stop::Fail(format!("waiting for a process: {error}")))?;
        let lines = std::fs::read_to_string(self.report.path()).unwrap_or_default();
        let mut values = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let report = values.find(|value| value["outcome"].is_string());
        let text = |key: &str| {
            report.as_ref().and_then(|report| report[key].as_str()).unwrap_or_default().to_owned()
        };
        match text("outcome").as_str() {
            "passed" => Ok(()),
            "skipped" => Err(Stop::Skip(text("reason"))),
            "failed" => Err(Stop::Fail(format!("in a process of its own: {}", text("reason")))),
            _ => Err(Stop::Fail(format!("the test's own process ended ({status}) without a result"))),
        }
    }
}
