//! The report folder: what somebody needs to know who was not there, and nothing about whose machine it is.

mod facts;
mod json;
mod junit;
mod personal;
mod pictures;

pub(crate) use facts::Facts;
pub(crate) use json::Saved;

use super::doctor::Examination;
use super::summary::{self, Run};
use anyhow::{Context, Result};
use personal::Personal;
use std::fs;
use std::path::{Path, PathBuf};

/// All that goes into a report.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// Of the library.
    pub(crate) version: &'a str,
    pub(crate) ground: &'a str,
    pub(crate) facts: &'a Facts,
    /// Where the machine's GPUs were looked at.
    pub(crate) examination: Option<&'a Examination>,
    /// What was found and cannot be tested.
    pub(crate) passed_over: &'a [String],
    pub(crate) runs: &'a [Run],
}

impl Report<'_> {
    /// Writes the folder anew.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let personal = Personal::of_this_machine();
        remove_old(folder)?;
        let save = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::write(&path, personal.remove_from(text))
                .with_context(|| format!("cannot write {}", path.display()))
        };
        save("report.txt", &self.text())?;
        save("report.json", &json::of(self)?)?;
        save("junit.xml", &junit::of(self.runs))?;
        if let Some(examination) = self.examination {
            save("doctor.txt", &examination.text)?;
        }
        for run in self.runs {
            if !run.output.is_empty() {
                save(&format!("output/{}.txt", pictures::file_name(&run.title)), &run.output)?;
            }
            if !run.kernel_log.is_empty() {
                save(&format!("kernel/{}.txt", pictures::file_name(&run.title)), &run.kernel_log)?;
            }
            for picture in &run.pictures {
                save(&pictures::path(&run.title, picture), &picture.svg)?;
            }
        }
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = format!("drm-pagemap {}, suite on ground {}\n\n", self.version, self.ground);
        for run in self.runs {
            for guest in &run.guests {
                text.push_str(&format!("{}: {guest}\n", run.title));
            }
        }
        if self.runs.iter().any(|run| !run.guests.is_empty()) {
            text.push_str("\nThe machine that ran these guests:\n\n");
        }
        text.push_str(&self.facts.to_string());
        for passed_over in self.passed_over {
            text.push_str(&format!("passed over: {passed_over}\n"));
        }
        if let Some(examination) = self.examination {
            text.push_str(&format!("\nThe doctor says:\n\n{}\n", examination.text));
        }
        text.push('\n');
        text.push_str(&summary::describe(self.runs));
        text
    }
}

/// Where a report goes when nobody says where.
pub(crate) fn default_folder(target: &Path, ground: &str) -> PathBuf {
    target.join("hwtest").join(ground)
}

/// Takes away an earlier report; a folder that holds anything else is left as it is.
fn remove_old(folder: &Path) -> Result<()> {
    if folder.join("report.json").is_file() {
        for name in ["report.txt", "report.json", "junit.xml", "doctor.txt"] {
            let _ = fs::remove_file(folder.join(name));
        }
        for name in ["output", "kernel", "pictures"] {
            let _ = fs::remove_dir_all(folder.join(name));
        }
    } else if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        anyhow::bail!("{} is not empty and holds no earlier report", folder.display());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::super::contract::{Outcome, Picture, TestResult};
    use super::*;

    fn run() -> Run {
        let result = |name: &str, outcome, reason: &str| TestResult {
            name: name.into(),
            outcome,
            reason: reason.into(),
            ms: 5,
        };
        Run {
            title: "hardware xe0".into(),
            results: vec![
                result("xe0/placement/a", Outcome::Passed, ""),
                result("xe0/placement/b", Outcome::Failed, "left: <1>\n right: 2"),
                result("xe0/placement/c", Outcome::Skipped, "needs a second device"),
            ],
            trouble: vec!["odd".into()],
            pictures: vec![Picture {
                test: "xe0/placement/a".into(),
                what: "after / it".into(),
                svg: "<svg/>".into(),
            }],
            output: "said".into(),
            guests: vec!["Linux 7.9, 1 virtual GPU".into()],
            kernel_log: "warned".into(),
        }
    }

    fn write(folder: &Path) -> Result<()> {
        let examination = Examination {
            brief: "no".into(),
            text: "no GPU".into(),
            json: serde_json::json!({ "devices": [] }),
        };
        let facts = Facts::read(Path::new("/"));
        Report {
            version: "0.1.0",
            ground: "hardware",
            facts: &facts,
            examination: Some(&examination),
            passed_over: &["card: too old".into()],
            runs: &[run()],
        }
        .write(folder)
    }

    #[test]
    fn the_folder_has_every_part() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("report");
        write(&folder).unwrap();
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let text = read("report.txt");
        for part in [
            "ground hardware",
            "hardware xe0: Linux 7.9",
            "that ran these guests",
            "kernel",
            "too old",
            "The doctor says",
            "1 passed, 1 failed, 1 skipped",
            "odd",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let saved = Saved::parse(&read("report.json")).unwrap();
        assert_eq!((saved.ground.as_str(), saved.runs.len()), ("hardware", 1));
        assert_eq!(saved.runs[0].results, run().results);
        assert!(read("junit.xml").contains("&lt;1&gt;"));
        assert_eq!(read("pictures/hardware-xe0/xe0-placement-a-after-it.svg"), "<svg/>");
        assert_eq!(
            (read("doctor.txt").as_str(), read("output/hardware-xe0.txt").as_str()),
            ("no GPU", "said")
        );
        assert_eq!(read("kernel/hardware-xe0.txt"), "warned");
        assert!(read("report.json").contains("Linux 7.9"));
        // A second run takes the place of the first.
        write(&folder).unwrap();
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "years").unwrap();
        assert!(write(folder.path()).unwrap_err().to_string().contains("not empty"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
