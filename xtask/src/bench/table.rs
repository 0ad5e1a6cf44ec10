//! The results as Markdown.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::fmt::Write;

const PARTS: [(&str, &str); 6] = [
    ("a", "Calls"),
    ("b", "Batches"),
    ("c", "Residency"),
    ("d", "Simulated device"),
    ("e", "Prefetcher"),
    ("f", "Build"),
];

/// A line as the benchmarks write it.
#[derive(Debug, Deserialize)]
struct Line {
    part: String,
    what: String,
    skipped: Option<String>,
    #[serde(default)]
    unit: String,
    #[serde(default)]
    ours: f64,
    #[serde(default)]
    peer: String,
    #[serde(default)]
    theirs: f64,
    #[serde(default)]
    ratio: f64,
    #[serde(default)]
    low: f64,
    #[serde(default)]
    high: f64,
    limit: Option<f64>,
    #[serde(default)]
    note: String,
}

pub(super) fn markdown(lines: &str, machine: &str) -> Result<String> {
    let lines: Vec<Line> = lines
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a result: {line}")))
        .collect::<Result<_>>()?;
    let mut text = format!("Taken on {machine}.\n");
    for (part, title) in PARTS {
        let own: Vec<&Line> = lines.iter().filter(|line| line.part == part).collect();
        if own.is_empty() {
            continue;
        }
        write!(text, "\n### {part}. {title}\n\n")?;
        text.push_str("| what | ours | compared with | theirs | unit | ratio | spread | target | |\n");
        text.push_str("|---|--:|---|--:|---|--:|---|---|---|\n");
        for line in own {
            match &line.skipped {
                Some(reason) => {
                    let reason = reason.lines().next().unwrap_or_default();
                    writeln!(text, "| {} | | | | | | | | not measured: {reason} |", line.what)?;
                }
                None => writeln!(text, "{}", row(line))?,
            }
        }
    }
    Ok(text)
}

fn row(line: &Line) -> String {
    let spread = if line.low == line.high {
        String::new()
    } else {
        format!("{} – {}", number(line.low), number(line.high))
    };
    let target = match line.limit {
        Some(limit) if line.ratio <= limit => format!("≤ {limit}: met"),
        Some(limit) => format!("≤ {limit}: **missed**"),
        None => String::new(),
    };
    let cells = [
        line.what.as_str(),
        &number(line.ours),
        &line.peer,
        &number(line.theirs),
        &line.unit,
        &number(line.ratio),
        &spread,
        &target,
        &line.note,
    ];
    format!("| {} |", cells.join(" | "))
}

/// Three digits that count.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        small if small < 1.0 => 3,
        small if small < 10.0 => 2,
        small if small < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_whether_its_target_is_met() {
        let line = |part: &str, ratio: f64, limit: &str| {
            format!(
                r#"{{"part":"{part}","what":"w","unit":"us","ours":1.5,"peer":"p","theirs":3.0,"ratio":{ratio},"low":0.4,"high":0.6,"limit":{limit},"note":""}}"#
            )
        };
        let lines = [
            line("a", 0.5, "0.5"),
            line("a", 0.51, "0.5"),
            line("c", 0.5, "null"),
            r#"{"part":"c","what":"x","skipped":"no valgrind\nat all"}"#.into(),
        ];
        let text = markdown(&lines.join("\n"), "a machine").unwrap();
        assert!(
            text.contains("### a. Calls") && text.contains("### c. Residency") && !text.contains("### b.")
        );
        assert!(
            text.contains("| w | 1.50 | p | 3.00 | us | 0.500 | 0.400 – 0.600 | ≤ 0.5: met |  |"),
            "{text}"
        );
        assert!(text.contains("≤ 0.5: **missed**") && text.contains("not measured: no valgrind |"), "{text}");
        assert!(markdown("{}", "a machine").is_err());
    }
}
