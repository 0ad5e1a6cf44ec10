//! What was measured, for programs.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What one series of times is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series<'a> {
    pub(crate) device: &'a str,
    pub(crate) what: &'static str,
    pub(crate) bytes: u64,
    /// Whether the memory may be in huge pages.
    pub(crate) huge: bool,
    pub(crate) threads: usize,
    pub(crate) helper_spaces: bool,
}

/// Where records go.
pub(crate) struct Recorder(Mutex<Box<dyn Write + Send>>);

impl Recorder {
    /// The file that `HW_RESULTS` names, else standard output.
    pub(crate) fn from_environment() -> Result<Self> {
        let sink: Box<dyn Write + Send> = match std::env::var_os("HW_RESULTS") {
            Some(path) => {
                let file = File::options().append(true).create(true).open(&path);
                Box::new(file.context("the file that HW_RESULTS names")?)
            }
            None => Box::new(std::io::stdout()),
        };
        Ok(Self(Mutex::new(sink)))
    }

    /// `moved`: how many bytes were seen in VRAM in every round. Where that is less than `bytes`, a figure is of less.
    pub(crate) fn times(&self, series: &Series<'_>, times: &[Duration], moved: u64) -> Result<()> {
        let mut nanoseconds: Vec<u128> = times.iter().map(Duration::as_nanos).collect();
        nanoseconds.sort_unstable();
        self.line(&json!({
            "device": series.device,
            "what": series.what,
            "bytes": series.bytes,
            "huge_pages": series.huge,
            "threads": series.threads,
            "helper_spaces": series.helper_spaces,
            "rounds": times.len(),
            "median_ns": nanoseconds[nanoseconds.len() / 2] as u64,
            "best_ns": nanoseconds[0] as u64,
            "moved": moved,
        }))
    }

    pub(crate) fn skip(&self, device: &str, what: &str, reason: &str) -> Result<()> {
        self.line(&json!({ "device": device, "skipped": what, "reason": reason }))
    }

    fn line(&self, line: &Value) -> Result<()> {
        Ok(writeln!(self.0.lock().expect("no writer panicked"), "{line}")?)
    }
}
