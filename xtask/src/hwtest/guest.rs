//! The suite in the lab: every kernel boots, first with one GPU, then with two for the tests that ask for them.

use super::contract::{
    Collector, NEEDS_OWN_GUEST, NEEDS_TWO_GPUS, NOTHING_TO_TEST, OWN_GUEST_VARIABLE, Outcome, TestResult,
};
use super::summary::Run;
use crate::lab::{
    Conditions, End, GuestOptions, Kernel, Message, Tools, Vendor, Wanted, Workspace, accelerator,
    add_program, boot, describe_end, describe_unknown, spec,
};
use anyhow::Result;
use std::collections::BTreeSet;
use std::fs;

/// Lines of the suite's output that are shown when it did not end in order.
const SHOWN_LINES: usize = 30;

/// Memory of each virtual GPU, unless `--profile` says otherwise: little, so that tests can fill it.
const SUITE_VRAM: &str = "256M";

/// Memory of the guest, for half as much again as there is VRAM, beside the kernel and the suite.
const SUITE_MEMORY_MIB: u32 = 1536;

/// One vendor's GPUs on one kernel.
pub(crate) struct Plan<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) workspace: &'a Workspace,
    pub(crate) options: &'a GuestOptions,
    pub(crate) conditions: &'a Conditions,
    /// The suite: a name or a path.
    pub(crate) suite: &'a str,
    pub(crate) filter: Option<&'a str>,
    pub(crate) kernel: &'a Kernel,
    pub(crate) vendor: Vendor,
}

impl Plan<'_> {
    /// All boots.
    pub(crate) fn run(&self) -> Result<Run> {
        let mut all = Vec::from(["--ground".to_owned(), "lab".to_owned()]);
        all.extend(self.filter.map(str::to_owned));
        let gpus = 1.max(self.options.gpus);
        let mut run = self.boot(gpus, &[all], self.conditions, &[])?;
        let exact = |name: &String| ["--ground", "lab", "--exact", name].map(str::to_owned).to_vec();
        let two = again(&run.results, NEEDS_TWO_GPUS);
        if !two.is_empty() && gpus < 2 {
            eprintln!("hwtest: {} tests again with two GPUs", two.len());
            let arguments: Vec<_> = two.iter().map(exact).collect();
            run.merge(self.boot(2, &arguments, self.conditions, &[])?);
        }
        let own = once_each(again(&run.results, NEEDS_OWN_GUEST));
        if !own.is_empty() {
            eprintln!("hwtest: {} tests again in a guest of their own", own.len());
            let mut conditions = self.conditions.clone();
            conditions.env.push((OWN_GUEST_VARIABLE.to_owned(), "1".to_owned()));
            let arguments: Vec<_> = own.iter().map(exact).collect();
            run.merge(self.boot(gpus, &arguments, &conditions, self.vendor.parameters_for_resets())?);
        }
        Ok(run)
    }

    /// One boot that runs the suite once for each set of arguments.
    fn boot(
        &self,
        gpus: usize,
        arguments: &[Vec<String>],
        conditions: &Conditions,
        parameters: &[&str],
    ) -> Result<Run> {
        let accel = accelerator(self.options, self.tools, self.kernel)?;
        let mut gpus = self.options.gpus_of(self.vendor, gpus);
        gpus.prefer("vram", SUITE_VRAM);
        let (count, profile) = (gpus.count, gpus.profile.clone());
        let mut spec = spec(self.options, self.kernel.clone(), accel, vec![gpus]);
        spec.memory_mib.get_or_insert(SUITE_MEMORY_MIB.max(self.vendor.memory_mib()));
        // Of two values of a parameter the later one counts.
        spec.parameters.extend(parameters.iter().map(|parameter| (*parameter).to_owned()));
        // Tests of huge pages need some; the kernel finds them best while its memory is whole.
        spec.append.push("hugepages=8".into());
        for arguments in arguments {
            let wanted = Wanted { program: self.suite.to_owned(), args: arguments.clone() };
            add_program(&mut spec, self.workspace, &wanted, conditions)?;
        }
        let mut collector = Collector::default();
        let guest = format!(
            "Linux {}, {} virtual {} GPU{} ({profile}), {} MiB, {} processors, QEMU with {}",
            self.kernel.release,
            count,
            self.vendor,
            if count > 1 { "s" } else { "" },
            spec.memory_mib.unwrap_or_default(),
            spec.cpus,
            accel.name(),
        );
        let mut output = Vec::new();
        let mut report = boot(self.tools, &spec, &mut |message| match message {
            Message::Results(_, bytes) => collector.push(bytes).iter().for_each(show),
            Message::Stdout(_, bytes) | Message::Stderr(_, bytes) => output.extend_from_slice(bytes),
            _ => {}
        })?;
        collector.finish();
        eprint!("{}", describe_unknown(&report));
        report.forgive(&collector.expected_log);
        let title = format!("{} {}", self.vendor.module(), short(self.kernel.release.as_str()));
        let mut trouble = Vec::new();
        let failed = collector.results.iter().any(|result| result.outcome == Outcome::Failed);
        let disorder: Vec<String> = report.programs.iter().filter_map(|end| disorder(end, failed)).collect();
        if !disorder.is_empty() {
            trouble.extend(disorder);
            trouble.push(format!("last output of the suite:\n{}", last_lines(&output)));
        }
        trouble.extend(report.trouble.iter().cloned());
        trouble.extend(report.complaints.iter().map(|line| format!("the kernel complained: {line}")));
        if !report.is_sound() {
            trouble.push(format!("logs in {}", report.logs.display()));
        }
        let output = format!("== {guest}\n{}\n", String::from_utf8_lossy(&output));
        let log = fs::read(report.logs.join("kernel.log")).unwrap_or_default();
        let kernel_log = format!("== {guest}\n{}\n", String::from_utf8_lossy(&log));
        let mut run = Run { title, trouble, output, kernel_log, guests: vec![guest], ..Run::default() };
        run.take(collector);
        Ok(run)
    }
}

/// What is wrong with the way the suite ended.
fn disorder(end: &End, failures_reported: bool) -> Option<String> {
    match end {
        End::Exited(0 | NOTHING_TO_TEST) => None,
        End::Exited(_) if failures_reported => None,
        End::Exited(code) => {
            Some(format!("the suite ended with exit code {code} without having reported a failure"))
        }
        end => describe_end(end).map(|text| format!("the suite {text}")),
    }
}

/// The tests that were skipped for this reason alone.
fn again(results: &[TestResult], reason: &str) -> Vec<String> {
    let lacking = |result: &&TestResult| result.outcome == Outcome::Skipped && result.reason == reason;
    results.iter().filter(lacking).map(|result| result.name.clone()).collect()
}

/// Each test for one configuration of one GPU: such a run takes long, and shows the same for all of them.
fn once_each(names: Vec<String>) -> Vec<String> {
    let test = |name: &String| name.split_once('/').map_or(name.clone(), |(_, test)| test.to_owned());
    let mut seen = BTreeSet::new();
    names.into_iter().filter(|name| seen.insert(test(name))).collect()
}

fn show(result: &TestResult) {
    let word = match result.outcome {
        Outcome::Passed => "passed ",
        Outcome::Failed => "FAILED ",
        Outcome::Skipped => "skipped",
    };
    eprintln!("hwtest: {word} {} ({} ms)", result.name, result.ms);
}

fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

/// `7.3.4+deb13-amd64` → `7.3.4`.
fn short(release: &str) -> &str {
    release.split(['+', '-']).next().unwrap_or(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_that_lacked_a_gpu_are_run_again() {
        let result = |name: &str, outcome, reason: &str| TestResult {
            name: name.into(),
            outcome,
            reason: reason.into(),
            ms: 0,
        };
        let results = [
            result("a", Outcome::Passed, ""),
            result("b", Outcome::Skipped, NEEDS_TWO_GPUS),
            result("c", Outcome::Skipped, "for amdgpu only"),
            result("d", Outcome::Failed, NEEDS_TWO_GPUS),
        ];
        assert_eq!(again(&results, NEEDS_TWO_GPUS), ["b"]);
    }

    #[test]
    fn tests_that_spoil_the_driver_are_run_for_one_configuration() {
        let names = ["amdgpu0/reset/a", "amdgpu0/reset/b", "amdgpu0-xnack/reset/a"].map(str::to_owned);
        assert_eq!(once_each(names.to_vec()), names[..2]);
    }

    #[test]
    fn ends_without_a_reported_failure_are_disorder() {
        assert_eq!(disorder(&End::Exited(0), false), None);
        assert_eq!(disorder(&End::Exited(2), false), None);
        assert_eq!(disorder(&End::Exited(101), true), None);
        assert!(disorder(&End::Exited(101), false).unwrap().contains("101"));
        assert!(disorder(&End::Signaled(11), true).unwrap().contains("SIGSEGV"));
        assert!(disorder(&End::Unknown, true).is_some());
    }

    #[test]
    fn the_last_lines_of_the_output_are_kept() {
        let output: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let text = last_lines(output.as_bytes());
        assert!(text.ends_with("line 99") && text.lines().count() == SHOWN_LINES, "{text}");
        assert_eq!(short("7.3.4+deb13-amd64"), "7.3.4");
    }
}
