//! What the suite's binary and this task have agreed on.
//!
//! The suite is the integration test `hw` of this workspace, a program of its own (`harness = false`). It is run as
//! `hw --ground simulated|lab|hardware [FILTER] [--exact] [--skip TEXT] [--list]`; `FILTER` and what follows are those of Rust's test
//! runner. The environment variable `HW_RESULTS` names a file, which may be a pipe; the suite opens it for appending and
//! writes one JSON object a line, each when its test has ended:
//!
//! ```text
//! {"name":"xe0/placement/plain_vec","ground":"lab","driver":"xe","outcome":"passed","reason":"","ms":12}
//! ```
//!
//! Names begin with the driver and the number of the GPU, and with `-xnack` for a second pass over an AMD GPU whose processes
//! may choose to have it retry page faults (`amdgpu0/...`, `amdgpu0-xnack/...`). `outcome` is `passed`, `failed` or `skipped`; `reason` is empty for what passed. A test that was skipped because it
//! needs more GPUs than there are says `needs a second device` as its reason, and is run again in a guest with two.
//!
//! A test that makes the driver complain in the kernel's log, on purpose, announces a part of that line (before or after
//! it happens) with an object that has this one key:
//!
//! ```text
//! {"expect_log":"Engine memory CAT error"}
//! ```
//!
//! Exit code 0: all that ran passed; 2: there is nothing to test; any other: something failed. A suite that ends
//! otherwise than with 0 or 2 without having reported a failure counts as failed itself.

use serde::Deserialize;

/// The reason for which a test is run again with two GPUs.
pub(crate) const NEEDS_TWO_GPUS: &str = "needs a second device";

/// The suite's exit code for "nothing to test".
pub(crate) const NOTHING_TO_TEST: i32 = 2;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// One test's result.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct TestResult {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) ms: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Expectation { expect_log: String },
    Result(TestResult),
}

/// Collects what the suite reports, from pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    pending: Vec<u8>,
    pub(crate) results: Vec<TestResult>,
    pub(crate) expected_log: Vec<String>,
    /// Lines that are not as agreed.
    pub(crate) unreadable: Vec<String>,
}

impl Collector {
    /// Takes the next bytes; returns the results they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> &[TestResult] {
        let known = self.results.len();
        self.pending.extend_from_slice(bytes);
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            self.line(&line);
        }
        &self.results[known..]
    }

    /// Takes what is left: a suite that died may have left half a line.
    pub(crate) fn finish(&mut self) {
        let line = std::mem::take(&mut self.pending);
        self.line(&line);
    }

    fn line(&mut self, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        match serde_json::from_slice(line) {
            Ok(Line::Result(result)) => self.results.push(result),
            // An empty text would forgive everything.
            Ok(Line::Expectation { expect_log }) if !expect_log.trim().is_empty() => {
                self.expected_log.push(expect_log)
            }
            _ => self.unreadable.push(String::from_utf8_lossy(line).trim().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: &str =
        r#"{"name":"xe0/a","ground":"lab","driver":"xe","outcome":"passed","reason":"","ms":12}"#;

    #[test]
    fn results_arrive_in_pieces_and_as_soon_as_they_are_whole() {
        let mut collector = Collector::default();
        let text =
            format!("{PASSED}\n{{\"name\":\"xe0/b\",\"outcome\":\"skipped\",\"reason\":\"no VRAM\"}}\n");
        let (first, second) = text.as_bytes().split_at(20);
        assert!(collector.push(first).is_empty());
        let fresh = collector.push(second);
        assert_eq!(fresh.len(), 2);
        assert_eq!((fresh[0].outcome, fresh[0].ms), (Outcome::Passed, 12));
        assert_eq!((fresh[1].outcome, fresh[1].reason.as_str()), (Outcome::Skipped, "no VRAM"));
    }

    #[test]
    fn announced_complaints_are_kept_and_nonsense_is_not_lost() {
        let mut collector = Collector::default();
        collector.push(b"{\"expect_log\":\"CAT error\"}\n\n{\"expect_log\":\" \"}\n{\"name\":\"a\",\"outcome\":\"fine\"}\n{\"na");
        assert!(collector.results.is_empty());
        assert_eq!(collector.expected_log, ["CAT error"]);
        assert_eq!(collector.unreadable.len(), 2);
        collector.finish();
        assert_eq!(collector.unreadable.len(), 3);
    }
}
