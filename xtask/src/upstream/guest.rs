//! Subtests in guests.

use super::outcome::{Outcome, SKIPPED};
use super::packages::Packages;
use super::selection::{Group, Test};
use crate::lab::{
    Accel, End, GuestFile, GuestOptions, Kernel, Message, Report, Tools, Vendor, Watch, boot, busybox,
    describe_unknown, spec,
};
use anyhow::{Context, Result};
use guest_init::Program;
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// Memory of the guest, unless `--memory` says otherwise: for tests that overcommit the memory of a small GPU.
const MEMORY_MIB: u32 = 2048;
/// Huge pages for the tests that map them: as many as leave room for the rest.
const HUGE_PAGES: &str = "hugepages=64";

/// What one subtest gave.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) test: Test,
    pub(super) outcome: Outcome,
    /// What the kernel complained of meanwhile.
    pub(super) complaints: Vec<String>,
    pub(super) time: Duration,
    /// All that it printed.
    pub(super) output: String,
}

/// Where subtests run.
pub(super) struct Lab<'a> {
    pub(super) tools: &'a Tools,
    pub(super) options: &'a GuestOptions,
    pub(super) kernel: &'a Kernel,
    pub(super) accel: Accel,
    pub(super) packages: &'a Packages,
    pub(super) timeout: Duration,
}

impl Lab<'_> {
    /// Runs all subtests of a group, in a fresh guest again after each one that ends its guest.
    pub(super) fn run(&self, group: &Group) -> Result<Vec<Record>> {
        let mut results = Vec::new();
        while results.len() < group.tests.len() {
            let left = &group.tests[results.len()..];
            let mut fresh = self.boot(group, left)?;
            if fresh.is_empty() {
                // A guest that runs nothing must not be tried for ever.
                fresh.push(Record {
                    test: left[0].clone(),
                    outcome: Outcome::Failed("the guest did not come up".into()),
                    complaints: Vec::new(),
                    time: Duration::ZERO,
                    output: String::new(),
                });
            }
            results.append(&mut fresh);
        }
        Ok(results)
    }

    /// One guest; the results of the subtests up to the one that ended it.
    fn boot(&self, group: &Group, tests: &[Test]) -> Result<Vec<Record>> {
        let mut gpus = self.options.gpus_of(Vendor::Intel, group.gpus.max(self.options.gpus));
        gpus.prefer("vram", group.vram);
        let mut spec = spec(self.options, self.kernel.clone(), self.accel, vec![gpus]);
        spec.memory_mib.get_or_insert(MEMORY_MIB);
        spec.append.push(HUGE_PAGES.into());
        spec.files =
            self.packages.files(&tests.iter().map(|test| test.program.clone()).collect::<BTreeSet<_>>())?;
        // Some tests give orders to the kernel through a shell.
        spec.files.push(GuestFile { host: busybox(&self.tools.cache)?, guest: "/bin/sh".into() });
        spec.programs = tests.iter().map(|test| self.program(test)).collect();
        let mut outputs = vec![Vec::new(); tests.len()];
        let mut times = vec![Duration::ZERO; tests.len()];
        let mut began = Instant::now();
        let report = boot(self.tools, &spec, &mut |message| match message {
            Message::Started(_) => began = Instant::now(),
            Message::Stdout(index, bytes) | Message::Stderr(index, bytes) => {
                outputs[*index as usize].extend_from_slice(bytes);
            }
            Message::Exited(index, _) | Message::Signaled(index, _) | Message::TimedOut(index, _) => {
                times[*index as usize] = began.elapsed();
                let word = match message {
                    Message::Exited(_, 0) => "passed ",
                    Message::Exited(_, SKIPPED) => "skipped",
                    _ => "FAILED ",
                };
                let seconds = began.elapsed().as_secs_f32();
                eprintln!("upstream: {word} {} ({seconds:.1} s)", tests[*index as usize]);
            }
            _ => {}
        })?;
        eprint!("{}", describe_unknown(&report));
        for trouble in &report.trouble {
            eprintln!("upstream: {trouble} (logs in {})", report.logs.display());
        }
        self.collect(&report, tests, &outputs, &times)
    }

    fn program(&self, test: &Test) -> Program {
        let pairs = [("PATH", "/bin"), ("HOME", "/tmp"), ("TMPDIR", "/tmp")];
        Program {
            path: Packages::guest_path(&test.program),
            args: vec!["--run-subtest".into(), test.subtest.clone()],
            env: pairs.map(|(key, value)| (key.into(), value.into())).to_vec(),
            cwd: "/tmp".into(),
            user: None,
            timeout_ms: self.timeout.as_millis() as u64,
        }
    }

    fn collect(
        &self,
        report: &Report,
        tests: &[Test],
        outputs: &[Vec<u8>],
        times: &[Duration],
    ) -> Result<Vec<Record>> {
        let path = report.logs.join("kernel.log");
        let log = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let log = String::from_utf8_lossy(&log);
        let mut complaints = complaints_by_subtest(&log, tests, &self.options.expected);
        let mut results = Vec::new();
        for (number, (end, test)) in report.programs.iter().zip(tests).enumerate() {
            let output = String::from_utf8_lossy(&outputs[number]).into_owned();
            let outcome = match end {
                // It was running when the guest ended; or nothing had a chance to run.
                End::Unknown if report.prepared_ms.is_none() => break,
                End::Unknown => Outcome::Failed(format!("the guest ended: {}", report.trouble.join("; "))),
                end => Outcome::of(end, &output),
            };
            let complaints = std::mem::take(&mut complaints[number]);
            results.push(Record { test: test.clone(), outcome, complaints, time: times[number], output });
            if *end == End::Unknown {
                break;
            }
        }
        Ok(results)
    }
}

/// What the kernel complained of during each subtest; the tests mark their beginnings in its log.
fn complaints_by_subtest(log: &str, tests: &[Test], expected: &[String]) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new(); tests.len()];
    let mut at = 0;
    let mut watch = Watch::new(expected.to_vec());
    for line in log.lines() {
        if let Some((_, mark)) = line.split_once("[IGT] ") {
            let begun = |test: &Test| {
                mark.trim_end() == format!("{}: starting subtest {}", test.program, test.subtest)
            };
            if let Some(next) = tests.iter().skip(at).position(begun) {
                let before = std::mem::replace(&mut watch, Watch::new(expected.to_vec()));
                found[at].extend(before.into_complaints());
                at += next;
                continue;
            }
        }
        watch.line(line);
    }
    if let Some(last) = found.get_mut(at) {
        last.extend(watch.into_complaints());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_belong_to_the_subtest_that_was_running() {
        let test = |subtest: &str| Test { program: "xe_vm".into(), subtest: subtest.into() };
        let tests = [test("a"), test("skipped"), test("b")];
        let log = "[1] xe_vm: executing\n[1] [IGT] xe_vm: starting subtest a\n[2] WARNING: one\n\
                   [3] [IGT] xe_vm: finished subtest a, SUCCESS\n[4] [IGT] xe_vm: starting subtest b\n\
                   [5] *ERROR* two\n[6] *ERROR* known\n";
        let found = complaints_by_subtest(log, &tests, &["known".to_owned()]);
        assert_eq!(found, [vec!["[2] WARNING: one".to_owned()], vec![], vec!["[5] *ERROR* two".to_owned()]]);
    }
}
