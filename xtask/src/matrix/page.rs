//! The table as Markdown.

use super::Test;
use super::results::{Ending, Results};
use super::rows::{self, GROUPS};
use crate::hwtest::Outcome;
use std::collections::BTreeMap;
use std::fmt::Write;

const HEAD: &str = "\
# Which test was run where

Written by `cargo xtask matrix` from the results in `results/`; do not edit. `cargo xtask hwtest` makes new results, and
`cargo xtask matrix target/hwtest/lab` takes them up.

✓ passed · ✗ failed · a letter: skipped, for the reason below · (blank): not run there since the test exists

";

/// The page.
pub(super) fn render(tests: &[Test], results: &Results) -> String {
    let mut text = HEAD.to_owned();
    let runs = sorted(results);
    let letters = letters(tests, &runs);
    // Writing to a string does not fail.
    for (number, (title, run)) in runs.iter().enumerate() {
        let count = |outcome| {
            tests
                .iter()
                .filter(|test| run.get(&test.name).is_some_and(|ending| ending.outcome == outcome))
                .count()
        };
        let _ = writeln!(
            text,
            "{}. {title}: {} passed, {} failed, {} skipped, {} not run",
            number + 1,
            count(Outcome::Passed),
            count(Outcome::Failed),
            count(Outcome::Skipped),
            tests.iter().filter(|test| !run.contains_key(&test.name)).count(),
        );
    }
    for (index, group) in GROUPS.iter().enumerate() {
        let _ = writeln!(text, "\n## {}\n", group.title);
        head(&mut text, runs.len());
        for (row, (title, _)) in group.rows.iter().enumerate() {
            let here: Vec<&Test> =
                tests.iter().filter(|test| rows::of(&test.name) == Some((index, row))).collect();
            let note = if here.is_empty() { " — no test yet" } else { "" };
            let _ = writeln!(text, "| **{title}**{note} | |{}", " |".repeat(runs.len()));
            here.iter().for_each(|test| line(&mut text, test, &runs, &letters));
        }
    }
    let rest: Vec<&Test> = tests.iter().filter(|test| rows::of(&test.name).is_none()).collect();
    if !rest.is_empty() {
        text.push_str("\n## Further tests\n\n");
        head(&mut text, runs.len());
        rest.iter().for_each(|test| line(&mut text, test, &runs, &letters));
    }
    text.push_str("\n## Why tests were skipped\n\n");
    let mut reasons: Vec<(&str, &String)> =
        letters.iter().map(|(reason, letter)| (*reason, letter)).collect();
    reasons.sort_by_key(|(_, letter)| (letter.len(), (*letter).clone()));
    for (reason, letter) in reasons {
        let _ = writeln!(text, "* {letter}: {}", escape(reason));
    }
    text
}

type Run<'a> = (&'a String, &'a BTreeMap<String, Ending>);

/// Simulated, lab, hardware; each by name, numbers in it by value.
fn sorted(results: &Results) -> Vec<Run<'_>> {
    let ground = |title: &str| match title.split(' ').next() {
        Some("simulated") => 0,
        Some("lab") => 1,
        _ => 2,
    };
    let parts = |title: &str| -> Vec<(String, u64)> {
        let pieces = title.split([' ', '.']);
        pieces
            .map(|piece| piece.parse().map_or((piece.to_owned(), 0), |number| (String::new(), number)))
            .collect()
    };
    let mut runs: Vec<Run<'_>> = results.0.iter().collect();
    runs.sort_by_key(|(title, _)| (ground(title), parts(title)));
    runs
}

/// A letter for each reason, in the order in which they are met.
fn letters<'a>(tests: &[Test], runs: &[Run<'a>]) -> BTreeMap<&'a str, String> {
    let mut letters: BTreeMap<&str, String> = BTreeMap::new();
    for test in tests {
        for (_, run) in runs {
            let Some(ending) = run.get(&test.name) else { continue };
            if ending.outcome == Outcome::Skipped && !letters.contains_key(ending.reason.as_str()) {
                let number = letters.len();
                let letter = |number: usize| char::from(b'a' + (number % 26) as u8);
                let name = match number / 26 {
                    0 => letter(number).to_string(),
                    more => format!("{}{}", letter(more - 1), letter(number)),
                };
                letters.insert(&ending.reason, name);
            }
        }
    }
    letters
}

fn head(text: &mut String, runs: usize) {
    let numbers: String = (1..=runs).map(|number| format!(" {number} |")).collect();
    let _ = writeln!(text, "| test | needs |{numbers}\n|---|---|{}", "---|".repeat(runs));
}

fn line(text: &mut String, test: &Test, runs: &[Run<'_>], letters: &BTreeMap<&str, String>) {
    let _ = write!(text, "| {} | {} |", test.name, test.needs.join(", "));
    for (_, run) in runs {
        let cell = match run.get(&test.name) {
            None => "",
            Some(ending) => match ending.outcome {
                Outcome::Passed => "✓",
                Outcome::Failed => "✗",
                Outcome::Skipped => letters.get(ending.reason.as_str()).map_or("?", String::as_str),
            },
        };
        let _ = write!(text, " {cell} |");
    }
    text.push('\n');
}

fn escape(reason: &str) -> String {
    let reason = if reason.is_empty() { "(no reason given)" } else { reason };
    reason.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_is_a_line_with_a_cell_for_each_run() {
        let test = |name: &str, needs: &[&str]| Test {
            name: name.into(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        };
        let tests = [test("advice/x", &["Advice"]), test("placement/plain_vec", &[]), test("odd/one", &[])];
        let ending = |outcome, reason: &str| Ending { outcome, reason: reason.into() };
        let run = |endings: &[(&str, Ending)]| -> BTreeMap<String, Ending> {
            endings.iter().map(|(name, ending)| ((*name).to_owned(), ending.clone())).collect()
        };
        let results = Results(BTreeMap::from([
            ("lab xe 7.10".to_owned(), run(&[("advice/x", ending(Outcome::Failed, "1 < 2"))])),
            ("lab xe 7.3".to_owned(), run(&[("advice/x", ending(Outcome::Skipped, "too | old"))])),
            (
                "simulated xe".to_owned(),
                run(&[("advice/x", ending(Outcome::Passed, "")), ("gone/test", ending(Outcome::Passed, ""))]),
            ),
        ]));
        let text = render(&tests, &results);
        assert!(
            text.contains("1. simulated xe: 1 passed, 0 failed, 0 skipped, 2 not run\n2. lab xe 7.3: "),
            "{text}"
        );
        assert!(text.contains("\n3. lab xe 7.10: 0 passed, 1 failed"), "{text}");
        assert!(text.contains("| advice/x | Advice | ✓ | a | ✗ |\n"), "{text}");
        assert!(text.contains("| placement/plain_vec |  |  |  |  |\n"), "{text}");
        assert!(text.contains(
            "## Further tests\n\n| test | needs | 1 | 2 | 3 |\n|---|---|---|---|---|\n| odd/one |"
        ));
        assert!(
            text.contains("* a: too \\| old\n") && text.contains("no test yet") && !text.contains("gone"),
            "{text}"
        );
    }
}
