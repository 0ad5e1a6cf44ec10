//! The results, for people.

use super::known::{Judged, Verdict};
use super::outcome::Outcome;
use crate::table::Table;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

#[derive(Default)]
struct Counts {
    passed: usize,
    skipped: usize,
    known: usize,
    news: usize,
    time: Duration,
}

/// 0: nothing new failed; 1: something did; 2: nothing ran.
pub(super) fn exit_code(judged: &[Judged]) -> i32 {
    if judged.iter().any(|it| it.verdict == Verdict::News) {
        1
    } else if judged.iter().all(|it| matches!(it.record.outcome, Outcome::Skipped(_))) {
        2
    } else {
        0
    }
}

/// A line for each program, then what was skipped and what failed, with the reasons.
pub(super) fn describe(judged: &[Judged], title: &str) -> String {
    let mut programs: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut skips: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let mut known: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let mut news = String::new();
    let mut better = String::new();
    for it in judged {
        let test = &it.record.test;
        let counts = programs.entry(&test.program).or_default();
        counts.time += it.record.time;
        match (it.verdict, &it.record.outcome) {
            (Verdict::News, outcome) => {
                counts.news += 1;
                let why = match outcome {
                    Outcome::Failed(why) => why.as_str(),
                    _ => "it passed, but the kernel complained",
                };
                let _ = writeln!(news, "  {test}\n      {why}");
                for line in it.record.complaints.iter().take(4) {
                    let _ = writeln!(news, "      kernel: {line}");
                }
            }
            (Verdict::Known(why), _) => {
                counts.known += 1;
                known.entry((&test.program, why)).or_default().push(&test.subtest);
            }
            (_, Outcome::Skipped(why)) => {
                counts.skipped += 1;
                skips.entry((&test.program, why)).or_default().push(&test.subtest);
            }
            (verdict, _) => {
                counts.passed += 1;
                if let Verdict::Better(why) = verdict {
                    let _ = writeln!(better, "  {test} (was to fail: {why})");
                }
            }
        }
    }
    let mut table = Table::new(&["program", "passed", "skipped", "known to fail", "FAILED", "seconds"]);
    let mut sum = Counts::default();
    for (program, counts) in &programs {
        table.row(row(program, counts));
        sum.passed += counts.passed;
        sum.skipped += counts.skipped;
        sum.known += counts.known;
        sum.news += counts.news;
        sum.time += counts.time;
    }
    table.row(row("all", &sum));
    let mut text = format!("{title}\n\n{table}");
    section(&mut text, "skipped by their own decision", &skips);
    section(&mut text, "known to fail here", &known);
    if !better.is_empty() {
        let _ = write!(text, "\nno longer fail: take them off the list\n{better}");
    }
    if !news.is_empty() {
        let _ = write!(text, "\nFAILED\n{news}");
    }
    text
}

/// Writes the table, and what each subtest printed that did not do what it was to do.
pub(super) fn write(folder: &Path, judged: &[Judged], text: &str) -> Result<()> {
    let failed = || format!("cannot write the report to {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(failed)?;
    }
    fs::create_dir_all(folder).with_context(failed)?;
    fs::write(folder.join("report.txt"), text).with_context(failed)?;
    for it in judged.iter().filter(|it| matches!(it.verdict, Verdict::News | Verdict::Known(_))) {
        let words = format!("{}\n{}\n", it.record.output, it.record.complaints.join("\n"));
        fs::write(folder.join(format!("{}.txt", it.record.test)), words).with_context(failed)?;
    }
    Ok(())
}

fn row(name: &str, counts: &Counts) -> Vec<String> {
    let number = |count: usize| if count == 0 { "-".to_owned() } else { count.to_string() };
    let Counts { passed, skipped, known, news, time } = counts;
    let mut cells = vec![name.to_owned()];
    cells.extend([*passed, *skipped, *known, *news].map(number));
    cells.push(time.as_secs().to_string());
    cells
}

fn section(text: &mut String, title: &str, entries: &BTreeMap<(&str, &str), Vec<&str>>) {
    const NAMED: usize = 6;
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for ((program, why), names) in entries {
        let more = match names.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let shown = names[..names.len().min(NAMED)].join(", ");
        let _ = writeln!(text, "  {program}: {why}\n      {shown}{more}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::guest::Record;
    use super::super::selection::Test;
    use super::*;

    fn judged(subtest: &str, outcome: Outcome, verdict: Verdict) -> Judged {
        let test = Test { program: "xe_vm".into(), subtest: subtest.into() };
        let time = Duration::from_secs(2);
        let record = Record { test, outcome, complaints: vec![], time, output: "words".into() };
        Judged { record, verdict }
    }

    #[test]
    fn news_is_what_makes_a_run_fail() {
        let pass = || judged("a", Outcome::Passed, Verdict::Fine);
        let skip = || judged("b", Outcome::Skipped("no such engine".into()), Verdict::Fine);
        let known = || judged("c", Outcome::Failed("x".into()), Verdict::Known("needs shaders"));
        let news = || judged("d", Outcome::Failed("1 != 2".into()), Verdict::News);
        assert_eq!(exit_code(&[pass(), skip(), known()]), 0);
        assert_eq!(exit_code(&[pass(), news()]), 1);
        assert_eq!((exit_code(&[skip()]), exit_code(&[])), (2, 2));
        let text = describe(&[pass(), skip(), known(), news()], "title");
        for part in ["title", "no such engine", "needs shaders", "1 != 2", "xe_vm@d", "FAILED"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_report_holds_the_words_of_what_failed_and_of_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("upstream");
        let failed = || Outcome::Failed("1 != 2".into());
        write(&below, &[judged("old", failed(), Verdict::News)], "").unwrap();
        let all = [judged("a", Outcome::Passed, Verdict::Fine), judged("d", failed(), Verdict::News)];
        write(&below, &all, "table").unwrap();
        assert_eq!(fs::read_to_string(below.join("report.txt")).unwrap(), "table");
        assert!(fs::read_to_string(below.join("xe_vm@d.txt")).unwrap().contains("words"));
        assert_eq!(fs::read_dir(&below).unwrap().count(), 2);
    }

    #[test]
    fn what_passes_against_expectation_is_said() {
        let text = describe(&[judged("a", Outcome::Passed, Verdict::Better("needs shaders"))], "");
        assert!(text.contains("take them off the list"), "{text}");
    }
}
