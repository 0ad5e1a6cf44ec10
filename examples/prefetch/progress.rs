//! One line that shows how far a long prefetch is, on a terminal only.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use drm_pagemap::outcome::Bytes;

/// The progress of one prefetch.
#[derive(Debug)]
pub(crate) struct Progress {
    label: &'static str,
    total: u64,
    done: u64,
    started: Instant,
    shown: bool,
    quiet: bool,
}

impl Progress {
    pub(crate) fn new(label: &'static str, total: u64, quiet: bool) -> Self {
        let quiet = quiet || !std::io::stderr().is_terminal();
        Self { label, total, done: 0, started: Instant::now(), shown: false, quiet }
    }

    pub(crate) fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        let elapsed = self.started.elapsed().as_secs_f64();
        // Short work needs no display.
        if self.quiet || elapsed < 0.3 {
            return;
        }
        let rate = Bytes((self.done as f64 / elapsed) as u64);
        let percent = self.done * 100 / self.total.max(1);
        eprint!("\r{}: {percent:3} % of {}, {rate}/s \x1b[K", self.label, Bytes(self.total));
        // A terminal that went away is no reason to stop the work.
        let _ = std::io::stderr().flush();
        self.shown = true;
    }

    pub(crate) fn finish(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
