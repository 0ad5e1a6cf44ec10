//! A report as text for people.

use std::fmt::{self, Write};

use super::finding::{FIRST_THE_REST, Finding, Status};
use super::report::{DeviceReport, Report, Verdict};

/// Columns that a line of prose may have. Cures are not broken: they are copied into a shell.
const WIDTH: usize = 110;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = f.alternate();
        headline(self, f)?;
        for device in &self.devices {
            writeln!(f)?;
            device_line(device, f)?;
            write_findings(&device.findings, full, f)?;
        }
        writeln!(f)?;
        writeln!(f, "This machine")?;
        write_findings(&self.machine, full, f)
    }
}

fn headline(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let works =
        report.devices.iter().filter(|d| matches!(d.verdict, Verdict::Yes | Verdict::Degraded)).count();
    let verdict = match (report.devices.len(), works) {
        (0, _) => "no GPU, so no shared virtual memory but the simulated one".to_owned(),
        (1, 1) => "shared virtual memory works on the GPU".to_owned(),
        (1, 0) if report.devices[0].verdict == Verdict::Unknown => {
            "whether shared virtual memory works is unknown".to_owned()
        }
        (1, 0) => "shared virtual memory does not work on the GPU".to_owned(),
        (all, works) => format!("shared virtual memory works on {works} of {all} GPUs"),
    };
    match &report.kernel {
        Some(kernel) => writeln!(f, "Linux {kernel}: {verdict}"),
        None => writeln!(f, "{verdict}"),
    }
}

fn device_line(device: &DeviceReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}", device.name)?;
    if let Some(driver) = &device.driver {
        write!(f, ", {driver}")?;
    }
    if let Some(node) = &device.node {
        write!(f, ", {node}")?;
    }
    match device.verdict {
        Verdict::Degraded => writeln!(f, "\n  SVM: yes, degraded"),
        verdict => writeln!(f, "\n  SVM: {verdict}"),
    }
}

fn write_findings(findings: &[Finding], full: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for status in [Status::Problem, Status::Degraded, Status::Unknown] {
        let mut left: Vec<&Finding> = findings.iter().filter(|finding| finding.status() == status).collect();
        while let Some(first) = left.first().copied() {
            // What one cure helps is said together.
            let alike = |finding: &&Finding| finding.cure() == first.cure();
            let (same, rest): (Vec<&Finding>, Vec<&Finding>) = left.into_iter().partition(alike);
            left = rest;
            for observation in observations(&same) {
                prose(status.name(), &observation, f)?;
            }
            if let Some(cure) = first.cure().filter(|cure| *cure != FIRST_THE_REST) {
                writeln!(f, "{:>10}  {cure}", "cure")?;
            }
            if full {
                for finding in &same {
                    prose("    rule", finding.check().source, f)?;
                }
            }
        }
    }
    let well = findings.iter().filter(|finding| finding.status() == Status::Ok);
    if full {
        let irrelevant = findings.iter().filter(|finding| finding.status() == Status::NotApplicable);
        for finding in well.chain(irrelevant) {
            let label = if finding.status() == Status::Ok { "ok" } else { "n/a" };
            prose(label, &format!("{}: {}", finding.check().title, finding.observed()), f)?;
            prose("    rule", finding.check().source, f)?;
        }
        return Ok(());
    }
    let titles: Vec<&str> = well.map(|finding| finding.check().title).collect();
    if titles.is_empty() {
        return Ok(());
    }
    prose("ok", &titles.join(", "), f)
}

/// `title: observed` of each, or `title, title: observed` where several have the same observation.
fn observations(findings: &[&Finding]) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for finding in findings {
        match groups.iter_mut().find(|(observed, _)| *observed == finding.observed()) {
            Some((_, titles)) => titles.push(finding.check().title),
            None => groups.push((finding.observed(), vec![finding.check().title])),
        }
    }
    let line = |(observed, titles): (&str, Vec<&str>)| format!("{}: {observed}", titles.join(", "));
    groups.into_iter().map(line).collect()
}

/// A label, and text beside it that is broken between words.
fn prose(label: &str, text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const INDENT: usize = 12;
    let mut line = format!("  {label:<10}");
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(f, "{line}")?;
            line = " ".repeat(INDENT);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.write_str(word)?;
        empty = false;
    }
    writeln!(f, "{line}")
}
