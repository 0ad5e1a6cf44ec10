//! What was measured, as a table, as CSV and as curves.

use crate::table::Table;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::fmt::Write;

/// One series.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Figure {
    device: String,
    what: String,
    bytes: u64,
    huge_pages: bool,
    threads: u64,
    helper_spaces: bool,
    rounds: u64,
    median_ns: u64,
    best_ns: u64,
    /// Bytes that were in VRAM in every round.
    moved: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Skipped { device: String, skipped: String, reason: String },
    Measured(Figure),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) measured: Vec<Figure>,
    pub(super) skipped: Vec<String>,
}

/// A named line of the chart: sizes in bytes, and bytes in a second.
pub(super) type Curve = (String, Vec<(u64, f64)>);

impl Figures {
    pub(super) fn parse(lines: &str) -> Result<Self> {
        let mut figures = Self::default();
        for line in lines.lines() {
            match serde_json::from_str(line).with_context(|| format!("the benchmark said {line:?}"))? {
                Line::Measured(figure) => figures.measured.push(figure),
                Line::Skipped { device, skipped, reason } => {
                    figures.skipped.push(format!("{device}: {skipped}: {reason}"));
                }
            }
        }
        figures.skipped.sort();
        figures.skipped.dedup();
        Ok(figures)
    }

    pub(super) fn devices(&self) -> Vec<&str> {
        let mut devices: Vec<&str> = self.measured.iter().map(|figure| figure.device.as_str()).collect();
        devices.sort_unstable();
        devices.dedup();
        devices
    }

    pub(super) fn table(&self) -> String {
        let mut table = Table::new(&[
            "device",
            "what",
            "size",
            "huge pages",
            "threads",
            "own spaces",
            "median",
            "rate",
            "best",
            "in VRAM",
        ]);
        for figure in &self.measured {
            let yes = |yes| if yes { "yes" } else { "no" }.to_owned();
            table.row(vec![
                figure.device.clone(),
                figure.what.clone(),
                size(figure.bytes),
                yes(figure.huge_pages),
                figure.threads.to_string(),
                yes(figure.helper_spaces),
                format!("{:.1} us", figure.median_ns as f64 / 1e3),
                format!("{}/s", size(figure.rate() as u64)),
                format!("{:.1} us", figure.best_ns as f64 / 1e3),
                format!("{} %", figure.moved * 100 / figure.bytes.max(1)),
            ]);
        }
        let mut text = table.to_string();
        for skip in &self.skipped {
            let _ = writeln!(text, "not measured: {skip}");
        }
        text
    }

    pub(super) fn csv(&self, ground: &str) -> String {
        let mut text =
            "ground,device,what,bytes,huge_pages,threads,helper_spaces,rounds,median_ns,best_ns,bytes_per_second,moved\n".to_owned();
        for it in &self.measured {
            let _ = writeln!(
                text,
                "{ground},{},{},{},{},{},{},{},{},{},{:.0},{}",
                it.device,
                it.what,
                it.bytes,
                it.huge_pages,
                it.threads,
                it.helper_spaces,
                it.rounds,
                it.median_ns,
                it.best_ns,
                it.rate(),
                it.moved
            );
        }
        text
    }

    /// Rates over size, one curve for each thing that was measured by size.
    pub(super) fn curves(&self, device: &str) -> Vec<Curve> {
        let mut curves: Vec<Curve> = Vec::new();
        for figure in self.measured.iter().filter(|it| it.device == device && it.what != "prefetcher to VRAM")
        {
            let name = format!("{}{}", figure.what, if figure.huge_pages { "" } else { ", 4 KiB pages" });
            let point = (figure.bytes, figure.rate());
            match curves.iter_mut().find(|(known, _)| *known == name) {
                Some((_, points)) => points.push(point),
                None => curves.push((name, vec![point])),
            }
        }
        curves
    }
}

impl Figure {
    /// Bytes in a second, by the median.
    fn rate(&self) -> f64 {
        self.bytes as f64 * 1e9 / self.median_ns.max(1) as f64
    }
}

/// `4 KiB`, `1 GiB`: binary multiples, one digit behind the point where it tells something.
pub(super) fn size(bytes: u64) -> String {
    let (value, unit) = match bytes {
        bytes if bytes >= 1 << 30 => (bytes as f64 / f64::from(1 << 30), "GiB"),
        bytes if bytes >= 1 << 20 => (bytes as f64 / f64::from(1 << 20), "MiB"),
        bytes => (bytes as f64 / 1024.0, "KiB"),
    };
    if value.fract() < 0.05 || value >= 100.0 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"device":"xe0","what":"prefetch to VRAM","bytes":1048576,"huge_pages":true,"threads":1,"helper_spaces":false,"rounds":3,"median_ns":1000000,"best_ns":900000,"moved":524288}
{"device":"xe0","what":"prefetcher to VRAM","bytes":1048576,"huge_pages":true,"threads":2,"helper_spaces":true,"rounds":3,"median_ns":500000,"best_ns":400000,"moved":1048576}
{"device":"xe0","skipped":"4 GiB","reason":"too large"}
"#;

    #[test]
    fn figures_become_table_csv_and_curves() {
        let figures = Figures::parse(LINES).unwrap();
        let table = figures.table();
        assert!(table.contains("1000.0 us  1000 MiB/s  900.0 us  50 %"), "{table}");
        assert!(table.contains("not measured: xe0: 4 GiB: too large"), "{table}");
        let csv = figures.csv("hardware");
        assert!(
            csv.contains(
                "hardware,xe0,prefetcher to VRAM,1048576,true,2,true,3,500000,400000,2097152000,1048576\n"
            ),
            "{csv}"
        );
        assert_eq!(figures.devices(), ["xe0"]);
        assert_eq!(
            figures.curves("xe0"),
            [("prefetch to VRAM".to_owned(), vec![(1 << 20, 1_048_576_000.0)])]
        );
        assert!(Figures::parse("{}").is_err());
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            (size(4096), size(1 << 30), size(3 << 19)),
            ("4 KiB".into(), "1 GiB".into(), "1.5 MiB".into())
        );
    }
}
