//! Results of all runs in one table.

use super::contract::{Collector, Outcome, Picture, TestResult};
use crate::table::Table;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What one run of the suite gave: on a kernel in the lab, or on this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    /// The column's head.
    pub(crate) title: String,
    pub(crate) results: Vec<TestResult>,
    /// What was wrong besides the tests: guest, kernel, the suite itself.
    pub(crate) trouble: Vec<String>,
    pub(crate) pictures: Vec<Picture>,
    /// What the suite printed, where it was kept.
    pub(crate) output: String,
    /// What it ran on, where that is not this machine: one line for each guest.
    pub(crate) guests: Vec<String>,
    /// What the guests' kernels said.
    pub(crate) kernel_log: String,
}

impl Run {
    /// Adds what one process of the suite reported.
    pub(crate) fn take(&mut self, collector: Collector) {
        self.trouble.extend(unreadable(&collector));
        self.results.extend(collector.results);
        self.pictures.extend(collector.pictures);
    }

    /// Puts the results of a further run in place of earlier ones of the same tests.
    pub(crate) fn merge(&mut self, further: Self) {
        for result in further.results {
            match self.results.iter_mut().find(|known| known.name == result.name) {
                Some(known) => *known = result,
                None => self.results.push(result),
            }
        }
        self.trouble.extend(further.trouble);
        self.pictures.extend(further.pictures);
        self.output.push_str(&further.output);
        self.guests.extend(further.guests);
        self.kernel_log.push_str(&further.kernel_log);
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.results.iter().filter(|result| result.outcome == outcome).count()
    }
}

/// Lines of the results that are not as agreed.
fn unreadable(collector: &Collector) -> Vec<String> {
    let shown = |line: &String| format!("the suite reported something unreadable: {line}");
    collector.unreadable.iter().map(shown).collect()
}

/// 0: something passed and nothing failed; 1: something failed; 2: nothing was tested.
pub(crate) fn exit_code(runs: &[Run]) -> i32 {
    let count = |outcome| runs.iter().map(|run| run.count(outcome)).sum::<usize>();
    if count(Outcome::Failed) > 0 || runs.iter().any(|run| !run.trouble.is_empty()) {
        1
    } else if count(Outcome::Passed) == 0 {
        2
    } else {
        0
    }
}

/// The table, then every failure with its reason, then the skipped tests by reason.
pub(crate) fn describe(runs: &[Run]) -> String {
    let mut text = String::new();
    let mut head = vec!["test"];
    head.extend(runs.iter().map(|run| run.title.as_str()));
    let mut table = Table::new(&head);
    // Where each run had one device, its label says nothing that the column's head does not.
    let shown = if runs.iter().all(has_one_device) { without_device } else { whole };
    for name in names(runs, shown) {
        let cell = |run: &Run| match run.results.iter().find(|result| shown(&result.name) == name) {
            Some(result) => match result.outcome {
                Outcome::Passed => "passed".to_owned(),
                Outcome::Failed => "FAILED".to_owned(),
                Outcome::Skipped => "skipped".to_owned(),
            },
            None => "-".to_owned(),
        };
        let mut row = vec![name.to_owned()];
        row.extend(runs.iter().map(cell));
        table.row(row);
    }
    if runs.iter().all(|run| run.results.is_empty()) {
        text.push_str("no test reported a result\n");
    } else {
        let _ = write!(text, "{table}");
    }
    for run in runs {
        for result in run.results.iter().filter(|result| result.outcome == Outcome::Failed) {
            let _ =
                writeln!(text, "\nfailed on {}: {}\n    {}", run.title, result.name, indent(&result.reason));
        }
    }
    for (reason, names) in skipped(runs) {
        let _ = writeln!(text, "\nskipped because {reason}:");
        for (name, titles) in names {
            let _ = writeln!(text, "    {name} ({})", titles.join(", "));
        }
    }
    for run in runs {
        for trouble in &run.trouble {
            let _ = writeln!(text, "\ntrouble on {}: {}", run.title, indent(trouble));
        }
    }
    text.push('\n');
    for run in runs {
        let _ = writeln!(
            text,
            "{}: {} passed, {} failed, {} skipped{}",
            run.title,
            run.count(Outcome::Passed),
            run.count(Outcome::Failed),
            run.count(Outcome::Skipped),
            if run.trouble.is_empty() { "" } else { ", and trouble" }
        );
    }
    text
}

/// Every test, in the order of the first run that has it.
fn names(runs: &[Run], shown: fn(&str) -> &str) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for result in runs.iter().flat_map(|run| &run.results) {
        let name = shown(&result.name);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn has_one_device(run: &Run) -> bool {
    let mut devices = run.results.iter().map(|result| result.name.split('/').next());
    let first = devices.next();
    devices.all(|device| Some(device) == first)
}

fn whole(name: &str) -> &str {
    name
}

/// `xe0/placement/plain_vec` → `placement/plain_vec`.
fn without_device(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, rest)| rest)
}

/// By reason, then by test, where it was skipped.
fn skipped(runs: &[Run]) -> BTreeMap<&str, BTreeMap<&str, Vec<&str>>> {
    let mut reasons: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for run in runs {
        for result in run.results.iter().filter(|result| result.outcome == Outcome::Skipped) {
            let reason = if result.reason.is_empty() { "(no reason given)" } else { &result.reason };
            reasons.entry(reason).or_default().entry(&result.name).or_default().push(&run.title);
        }
    }
    reasons
}

fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(name: &str, outcome: Outcome, reason: &str) -> TestResult {
        TestResult { name: name.into(), outcome, reason: reason.into(), ms: 1 }
    }

    fn run(title: &str, results: Vec<TestResult>) -> Run {
        Run { title: title.into(), results, ..Run::default() }
    }

    #[test]
    fn a_further_run_replaces_what_was_skipped() {
        let mut first = run(
            "xe 7.3",
            vec![result("a", Outcome::Passed, ""), result("two", Outcome::Skipped, "needs a second device")],
        );
        let mut second =
            run("xe 7.3", vec![result("two", Outcome::Failed, "lost"), result("new", Outcome::Passed, "")]);
        second.trouble.push("log".into());
        first.merge(second);
        assert_eq!(first.results.len(), 3);
        assert_eq!(first.results[1], result("two", Outcome::Failed, "lost"));
        assert_eq!(first.trouble, ["log"]);
    }

    #[test]
    fn exit_codes_tell_failure_from_nothing() {
        let passed = run("a", vec![result("t", Outcome::Passed, "")]);
        let skipped = run("a", vec![result("t", Outcome::Skipped, "why")]);
        let failed = run("a", vec![result("t", Outcome::Failed, "why")]);
        let mut troubled = passed.clone();
        troubled.trouble.push("kernel complained".into());
        assert_eq!(exit_code(&[passed.clone(), skipped.clone()]), 0);
        assert_eq!(exit_code(&[skipped]), 2);
        assert_eq!(exit_code(&[]), 2);
        assert_eq!(exit_code(&[passed, failed]), 1);
        assert_eq!(exit_code(&[troubled]), 1);
    }

    #[test]
    fn devices_of_one_kind_share_rows() {
        let runs = [
            run("hardware xe0", vec![result("xe0/a/b", Outcome::Passed, "")]),
            run("hardware xe1", vec![result("xe1/a/b", Outcome::Failed, "no")]),
        ];
        assert!(describe(&runs).contains("\na/b   passed        FAILED\n"), "{}", describe(&runs));
        let both = [run(
            "lab",
            vec![result("xe0/a/b", Outcome::Passed, ""), result("xe1/a/b", Outcome::Failed, "no")],
        )];
        assert!(describe(&both).contains("xe1/a/b  FAILED"), "{}", describe(&both));
    }

    #[test]
    fn the_table_has_a_column_for_each_run_and_reasons_below() {
        let runs = [
            run("xe 6.16", vec![result("b", Outcome::Skipped, "no advice")]),
            run(
                "xe 6.17",
                vec![result("a", Outcome::Passed, ""), result("b", Outcome::Skipped, "no advice")],
            ),
            run("xe 7.3", vec![result("b", Outcome::Failed, "left: 1\nright: 2")]),
        ];
        let text = describe(&runs);
        assert!(
            text.contains(
                "test  xe 6.16  xe 6.17  xe 7.3\nb     skipped  skipped  FAILED\na     -        passed   -\n"
            ),
            "{text}"
        );
        assert!(text.contains("failed on xe 7.3: b\n    left: 1\n    right: 2\n"), "{text}");
        assert!(text.contains("skipped because no advice:\n    b (xe 6.16, xe 6.17)\n"), "{text}");
        assert!(text.contains("xe 7.3: 0 passed, 1 failed, 0 skipped\n"), "{text}");
    }
}
