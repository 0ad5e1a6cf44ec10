//! One line of a result: for people on standard output, and for `cargo xtask bench` as JSON in a file.

#![allow(dead_code, reason = "shared by benchmarks, each of which uses a part")]

use std::io::Write;
use std::path::Path;

/// Where the JSON lines go, if anywhere.
pub(crate) const FILE: &str = "DRM_PAGEMAP_BENCH_OUT";

/// What a ratio has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    /// None: the line is for information.
    None,
}

/// Something measured beside what it is compared with.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    /// Part of the report, `a` to `f`.
    pub(crate) part: char,
    pub(crate) what: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) ours: f64,
    pub(crate) peer: &'a str,
    pub(crate) theirs: f64,
    /// Median of ours / theirs, and its quartiles.
    pub(crate) ratio: [f64; 3],
    pub(crate) target: Target,
    pub(crate) note: &'a str,
}

impl<'a> Row<'a> {
    /// Counts, which are the same in every run.
    pub(crate) fn counted(
        part: char,
        what: &'a str,
        unit: &'a str,
        ours: f64,
        peer: &'a str,
        theirs: f64,
    ) -> Self {
        let ratio = [ours / theirs; 3];
        Self { part, what, unit, ours, peer, theirs, ratio, target: Target::None, note: "" }
    }

    /// Times in seconds, measured in turns: pairs of ours and theirs.
    pub(crate) fn timed(part: char, what: &'a str, pairs: &[(f64, f64)], peer: &'a str) -> Self {
        let micros = |pick: fn(&(f64, f64)) -> f64| quartiles(pairs.iter().map(pick))[1] * 1e6;
        let ratio = quartiles(pairs.iter().map(|(ours, theirs)| ours / theirs));
        let (ours, theirs) = (micros(|pair| pair.0), micros(|pair| pair.1));
        let [low, mid, high] = ratio;
        Self {
            part,
            what,
            unit: "us",
            ours,
            peer,
            theirs,
            ratio: [mid, low, high],
            target: Target::None,
            note: "",
        }
    }

    pub(crate) fn at_most(mut self, ratio: f64) -> Self {
        self.target = Target::AtMost(ratio);
        self
    }

    pub(crate) fn note(mut self, note: &'a str) -> Self {
        self.note = note;
        self
    }

    pub(crate) fn print(&self) {
        let [mid, low, high] = self.ratio;
        let verdict = match self.target {
            Target::AtMost(limit) if mid <= limit => format!("target {limit}, met"),
            Target::AtMost(limit) => format!("target {limit}, MISSED"),
            Target::None => String::new(),
        };
        let spread = if low == high { String::new() } else { format!("[{low:.3} {high:.3}]") };
        println!(
            "{} {:<46} {:>10.2} | {:<34} {:>10.2} {:<12} ratio {mid:.3} {spread} {verdict} {}",
            self.part, self.what, self.ours, self.peer, self.theirs, self.unit, self.note
        );
        let Some(path) = std::env::var_os(FILE) else { return };
        let limit = match self.target {
            Target::AtMost(limit) => Some(limit),
            Target::None => None,
        };
        let line = serde_json::json!({
            "part": self.part.to_string(), "what": self.what, "unit": self.unit, "ours": self.ours, "peer": self.peer,
            "theirs": self.theirs, "ratio": mid, "low": low, "high": high, "limit": limit, "note": self.note,
        });
        append(&path, &line);
    }
}

/// Says what could not be measured, and why.
pub(crate) fn skipped(part: char, what: &str, reason: &str) {
    println!("{part} {what:<46} SKIPPED: {reason}");
    if let Some(path) = std::env::var_os(FILE) {
        append(&path, &serde_json::json!({ "part": part.to_string(), "what": what, "skipped": reason }));
    }
}

fn append(path: &std::ffi::OsStr, line: &serde_json::Value) {
    let file = std::fs::File::options().create(true).append(true).open(path);
    let written = file.and_then(|mut file| writeln!(file, "{line}"));
    written.unwrap_or_else(|error| panic!("cannot write {}: {error}", Path::new(path).display()));
}

/// Lower quartile, median, upper quartile.
pub(crate) fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |quarter: usize| sorted[(sorted.len() - 1) * quarter / 4];
    [at(1), at(2), at(3)]
}
