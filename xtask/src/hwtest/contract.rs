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
//! One that spoils the driver says `needs a guest of its own`. Such tests are run again in a guest where the driver resets a GPU
//! that hangs, each by a run of the suite with `HW_OWN_GUEST=1` in its environment, which has the driver probe anew first.
//!
//! A test that makes the driver complain in the kernel's log, on purpose, announces a part of that line (before or after
//! it happens) with an object that has this one key:
//!
//! ```text
//! {"expect_log":"Engine memory CAT error"}
//! ```
//!
//! Each test says when it begins, and may hand over pictures, both as objects of one key:
//!
//! ```text
//! {"begin":"xe0/placement/plain_vec"}
//! {"picture":{"test":"xe0/placement/plain_vec","what":"after the prefetch","svg":"<svg ...>"}}
//! ```
//!
//! `hw --devices` names the ground's devices, those that cannot be tested with the reason; `hw --describe` names the tests
//! with what they need; `--device LABEL` keeps to one device; `--without FILE` leaves out the tests that the file names.
//!
//! Exit code 0: all that ran passed; 2: there is nothing to test; any other: something failed. A suite that ends
//! otherwise than with 0 or 2 without having reported a failure counts as failed itself.

use serde::{Deserialize, Serialize};

/// The reason for which a test is run again with two GPUs.
pub(crate) const NEEDS_TWO_GPUS: &str = "needs a second device";

/// The reason for which a test is run again in a guest whose driver it may spoil.
pub(crate) const NEEDS_OWN_GUEST: &str = "needs a guest of its own";

/// The environment variable that tells the suite that it is in such a guest.
pub(crate) const OWN_GUEST_VARIABLE: &str = "HW_OWN_GUEST";

/// The suite's exit code for "nothing to test".
pub(crate) const NOTHING_TO_TEST: i32 = 2;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// One test's result.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct TestResult {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) ms: u64,
}

/// A picture that a test handed over.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Picture {
    pub(crate) test: String,
    pub(crate) what: String,
    pub(crate) svg: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Expectation { expect_log: String },
    Begin { begin: String },
    Picture { picture: Picture },
    Result(TestResult),
}

/// Collects what the suite reports, from pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    pending: Vec<u8>,
    pub(crate) results: Vec<TestResult>,
    pub(crate) expected_log: Vec<String>,
    pub(crate) pictures: Vec<Picture>,
    /// The test that has begun and not ended.
    pub(crate) running: Option<String>,
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
            Ok(Line::Result(result)) => {
                self.running = None;
                self.results.push(result);
            }
            Ok(Line::Begin { begin }) => self.running = Some(begin),
            Ok(Line::Picture { picture }) => self.pictures.push(picture),
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

    #[test]
    fn the_running_test_and_pictures_are_known() {
        let mut collector = Collector::default();
        collector.push(
            b"{\"begin\":\"xe0/a\"}\n{\"picture\":{\"test\":\"xe0/a\",\"what\":\"w\",\"svg\":\"<svg/>\"}}\n",
        );
        assert_eq!(collector.running.as_deref(), Some("xe0/a"));
        assert_eq!(collector.pictures[0].svg, "<svg/>");
        collector.push(PASSED.as_bytes());
        collector.push(b"\n");
        assert_eq!((collector.running, collector.unreadable.len()), (None, 0));
    }
}
