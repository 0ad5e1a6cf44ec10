//! Results of runs, as they are kept in the repository: a file for each run, a line for each test.

use crate::hwtest::{Outcome, Saved};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How a test ended in a run; why, where it was skipped or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    pub(super) reason: String,
}

/// By run, by test.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Results(pub(super) BTreeMap<String, BTreeMap<String, Ending>>);

impl Results {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut results = Self::default();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let (title, tests) = parse(&text).with_context(|| path.display().to_string())?;
            results.0.insert(title, tests);
        }
        Ok(results)
    }

    /// Puts the runs of a report in place of what they gave before.
    pub(super) fn take(&mut self, saved: &Saved) -> Result<()> {
        for run in &saved.runs {
            let title = match run.title.strip_prefix(&saved.ground) {
                Some(_) => run.title.clone(),
                None => format!("{} {}", saved.ground, run.title),
            };
            if run.results.is_empty() {
                bail!("the run {title:?} has no results");
            }
            let mut fresh: BTreeMap<String, BTreeMap<String, Ending>> = BTreeMap::new();
            for result in &run.results {
                let (label, name) = result.name.split_once('/').unwrap_or(("", &result.name));
                let pass = label.split_once('-').map_or("", |(_, pass)| pass);
                let tests =
                    fresh.entry(if title.contains(pass) { title.clone() } else { format!("{title} {pass}") });
                let tests = tests.or_default();
                let reason = result.reason.lines().next().unwrap_or_default();
                let ending = Ending { outcome: result.outcome, reason: without_numbers(reason) };
                let known = tests.entry(name.to_owned()).or_insert_with(|| ending.clone());
                if weight(ending.outcome) > weight(known.outcome) {
                    *known = ending;
                }
            }
            self.0.extend(fresh);
        }
        Ok(())
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (title, tests) in &self.0 {
            let path = folder
                .join(format!("{}.txt", title.replace(|c: char| !c.is_alphanumeric() && c != '.', "-")));
            fs::write(&path, shown(title, tests))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// With several devices of a kind in one run, the ending that tells most.
fn weight(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Skipped => 0,
        Outcome::Passed => 1,
        Outcome::Failed => 2,
    }
}

/// Amounts differ from run to run and would make reasons differ that are the same.
fn without_numbers(reason: &str) -> String {
    let words = reason.split(' ').map(|word| {
        let number = word.len() > 5 && word.bytes().all(|byte| byte.is_ascii_digit());
        if number { "…" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn shown(title: &str, tests: &BTreeMap<String, Ending>) -> String {
    let mut text = format!("{title}\n");
    for (name, Ending { outcome, reason }) in tests {
        let word = match outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Skipped => "skipped",
        };
        text.push_str(format!("{word} {name} {reason}").trim_end());
        text.push('\n');
    }
    text
}

fn parse(text: &str) -> Result<(String, BTreeMap<String, Ending>)> {
    let mut lines = text.lines();
    let title = lines.next().context("an empty file")?.to_owned();
    let mut tests = BTreeMap::new();
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let outcome = match words.next() {
            Some("passed") => Outcome::Passed,
            Some("failed") => Outcome::Failed,
            Some("skipped") => Outcome::Skipped,
            _ => bail!("not a result: {line:?}"),
        };
        let name = words.next().with_context(|| format!("not a result: {line:?}"))?.to_owned();
        tests.insert(name, Ending { outcome, reason: words.next().unwrap_or_default().to_owned() });
    }
    Ok((title, tests))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"ground":"lab","runs":[{"title":"xe 7.3","results":[
        {"name":"xe0/a/b","outcome":"skipped","reason":"needs 1073741824 bytes; Linux 6.18"},
        {"name":"xe1/a/b","outcome":"passed"},
        {"name":"xe0-pass/a/b","outcome":"failed","reason":"no"},
        {"name":"xe0/a/c","outcome":"skipped","reason":"needs 1073741824 bytes; Linux 6.18\nmore"}]}]}"#;

    #[test]
    fn reports_become_files_and_are_read_again() {
        let mut results = Results::default();
        results.take(&Saved::parse(REPORT).unwrap()).unwrap();
        let run = &results.0["lab xe 7.3"];
        assert_eq!(run["a/b"].outcome, Outcome::Passed);
        assert_eq!(results.0["lab xe 7.3 pass"]["a/b"].outcome, Outcome::Failed);
        assert_eq!(run["a/c"].reason, "needs … bytes; Linux 6.18");
        let folder = tempfile::tempdir().unwrap();
        results.write(folder.path()).unwrap();
        assert!(folder.path().join("lab-xe-7.3.txt").is_file());
        assert_eq!(Results::read(folder.path()).unwrap(), results);
        // A later run takes the place of all of the earlier one.
        let again = Saved::parse(&REPORT.replace("a/c", "a/d")).unwrap();
        results.take(&again).unwrap();
        assert!(!results.0["lab xe 7.3"].contains_key("a/c"));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse("").is_err());
        assert!(parse("title\nmaybe a/b").is_err());
        let empty = r#"{"ground":"lab","runs":[{"title":"xe","results":[]}]}"#;
        assert!(Results::default().take(&Saved::parse(empty).unwrap()).is_err());
    }
}
