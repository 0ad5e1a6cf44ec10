//! One process of the suite under supervision: progress, silence, death, and what is left to do after it.

use super::contract::{Collector, NOTHING_TO_TEST, Outcome, TestResult};
use super::summary::Run;
use crate::child::{Guarded, Interrupted, interrupted};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// How often results are looked for.
const LOOK: Duration = Duration::from_millis(50);

/// After so many deaths of the suite the rest is given up.
const MOST_DEATHS: usize = 5;

/// Lines of output that belong to a death's message.
const LAST_LINES: usize = 12;

/// Limits that keep a broken driver from holding the machine. None is a measure of anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For one test. The suite has a watchdog of its own, which is a little less patient and knows the test's stack.
    pub(crate) silence: Duration,
    /// For a process to end that was told to.
    pub(crate) dying: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silence: Duration::from_secs(360), dying: Duration::from_secs(10) }
    }
}

/// A suite to run on one device.
#[derive(Debug)]
pub(crate) struct Suite<'a> {
    pub(crate) binary: &'a Path,
    /// Of the run.
    pub(crate) title: &'a str,
    pub(crate) arguments: Vec<String>,
    /// How many tests there are, for the display of progress.
    pub(crate) total: usize,
    pub(crate) patience: Patience,
}

/// How a process of the suite came to its end.
enum End {
    Status(ExitStatus),
    /// It was killed because nothing was heard of it.
    Silent,
    /// It was killed and is still there.
    Stuck,
}

impl Suite<'_> {
    /// Runs the suite; where a test takes the process down, that test has failed, and a new process does the rest.
    pub(crate) fn run(&self) -> Result<Run> {
        let folder = tempfile::tempdir().context("cannot make a folder for results")?;
        let mut run = Run { title: self.title.to_owned(), ..Run::default() };
        for death in 1.. {
            let (end, collector, output) = self.process(folder.path(), &run.results)?;
            let reported = collector.results.iter().any(|result| result.outcome == Outcome::Failed);
            let died_in = collector.running.clone();
            run.take(collector);
            run.output.push_str(&output);
            let story = match end {
                End::Status(status) if in_order(status, reported) => return Ok(run),
                End::Status(status) => format!("the suite's process ended with {status}"),
                End::Silent => {
                    format!("nothing was heard for {} s, so it was killed", self.patience.silence.as_secs())
                }
                End::Stuck => {
                    "nothing was heard, and the process cannot be killed: a driver holds it in the kernel"
                        .into()
                }
            };
            let Some(test) = died_in else {
                run.trouble.push(format!("{story}, in no test\n{}", last_lines(&output)));
                return Ok(run);
            };
            let reason = format!("{story}\n{}", last_lines(&output));
            let result = TestResult { name: test, outcome: Outcome::Failed, reason, ms: 0 };
            self.show(run.results.len() + 1, &result);
            run.results.push(result);
            if matches!(end, End::Stuck) {
                run.trouble.push("the rest was not run: only a reboot frees the device".into());
                return Ok(run);
            }
            if death == MOST_DEATHS {
                run.trouble.push(format!("the rest was not run: {MOST_DEATHS} tests took the suite down"));
                return Ok(run);
            }
        }
        Ok(run)
    }

    /// One process, for what is not done yet.
    fn process(&self, folder: &Path, done: &[TestResult]) -> Result<(End, Collector, String)> {
        let [results, output, without] = ["results", "output", "without"].map(|name| folder.join(name));
        fs::write(&results, "")?;
        fs::write(&without, done.iter().map(|result| format!("{}\n", result.name)).collect::<String>())?;
        let log = File::create(&output)?;
        let mut command = Command::new(self.binary);
        command.args(&self.arguments).env("HW_RESULTS", &results).stdin(std::process::Stdio::null());
        if !done.is_empty() {
            command.arg("--without").arg(&without);
        }
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = Guarded::spawn("the suite", &mut command)?;
        let mut collector = Collector::default();
        let end = self.watch(&mut child, &results, done.len(), &mut collector)?;
        collector.finish();
        Ok((end, collector, String::from_utf8_lossy(&fs::read(&output)?).into_owned()))
    }

    fn watch(
        &self,
        child: &mut Guarded,
        results: &PathBuf,
        done: usize,
        collector: &mut Collector,
    ) -> Result<End> {
        let mut file = File::open(results)?;
        let mut heard = Instant::now();
        let mut bytes = Vec::new();
        loop {
            if interrupted() {
                return Err(Interrupted.into());
            }
            // Before looking: what a process wrote before it ended is then seen.
            let status = child.wait(LOOK)?;
            bytes.clear();
            if file.read_to_end(&mut bytes)? > 0 {
                heard = Instant::now();
                let known = collector.results.len();
                for (index, result) in collector.push(&bytes).iter().enumerate() {
                    self.show(done + known + index + 1, result);
                }
            }
            if let Some(status) = status {
                return Ok(End::Status(status));
            }
            if heard.elapsed() > self.patience.silence {
                eprintln!("hwtest: process {} is silent; killing it", child.id());
                return Ok(if child.kill(self.patience.dying)?.is_some() { End::Silent } else { End::Stuck });
            }
        }
    }

    fn show(&self, number: usize, result: &TestResult) {
        let word = match result.outcome {
            Outcome::Passed => "passed ",
            Outcome::Failed => "FAILED ",
            Outcome::Skipped => "skipped",
        };
        let total = self.total.max(number);
        let why = match result.reason.lines().next() {
            Some(line) if result.outcome != Outcome::Passed => format!(": {line}"),
            _ => format!(" ({} ms)", result.ms),
        };
        eprintln!("hwtest: [{number:3}/{total}] {word} {}{why}", result.name);
    }
}

/// An end that the results explain.
fn in_order(status: ExitStatus, failure_reported: bool) -> bool {
    match status.code() {
        Some(0 | NOTHING_TO_TEST) => true,
        Some(_) => failure_reported,
        None => false,
    }
}

fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn run(script: &str, silence: Duration) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("suite");
        fs::write(&binary, format!("#!/bin/sh\nout() {{ echo \"$1\" >> \"$HW_RESULTS\"; }}\n{script}\n"))
            .unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        let patience = Patience { silence, dying: Duration::from_secs(5) };
        Suite { binary: &binary, title: "here", arguments: vec![], total: 2, patience }.run().unwrap()
    }

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn failures_are_the_tests_and_silence_about_them_is_trouble() {
        let failed = run(r#"out '{"name":"a","outcome":"failed","reason":"no"}'; exit 101"#, LONG);
        assert!(failed.trouble.is_empty() && failed.results.len() == 1);
        assert!(run("exit 2", LONG).trouble.is_empty());
        assert!(run("echo last words; exit 101", LONG).trouble[0].contains("last words"));
        assert!(run("out nonsense", LONG).trouble[0].contains("nonsense"));
        assert!(run("kill -SEGV $$", LONG).trouble[0].contains("in no test"));
    }

    #[test]
    fn a_test_that_kills_the_process_has_failed_and_the_rest_is_run() {
        let script = r#"
case "$*" in
*--without*) grep -q '^xe0/a$' "$2" || exit 3; out '{"name":"xe0/b","outcome":"passed"}';;
*) out '{"begin":"xe0/a"}'; echo about to crash; kill -SEGV $$;;
esac"#;
        let run = run(script, LONG);
        assert_eq!(run.trouble, Vec::<String>::new());
        let outcomes: Vec<_> =
            run.results.iter().map(|result| (result.name.as_str(), result.outcome)).collect();
        assert_eq!(outcomes, [("xe0/a", Outcome::Failed), ("xe0/b", Outcome::Passed)]);
        assert!(
            run.results[0].reason.contains("SIGSEGV") && run.results[0].reason.contains("about to crash")
        );
    }

    #[test]
    fn a_silent_process_is_killed_with_its_children() {
        let script = r#"
case "$*" in
*--without*) exit 0;;
*) out '{"begin":"xe0/hangs"}'; sleep 1000; sleep 1000;;
esac"#;
        let run = run(script, Duration::from_secs(1));
        assert_eq!(run.results.len(), 1);
        assert!(run.results[0].reason.contains("killed"), "{run:?}");
    }

    #[test]
    fn a_suite_that_always_dies_is_given_up() {
        let script = r#"out "{\"begin\":\"xe0/$$\"}"; kill -ABRT $$"#;
        let run = run(script, LONG);
        assert_eq!(run.results.len(), MOST_DEATHS);
        assert!(run.trouble[0].contains("not run"));
    }
}
