//! What the run found, for people or as one JSON object.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use drm_pagemap::outcome::Bytes;
use drm_pagemap::residency::{Place, Residency};
use drm_pagemap::{Gpu, Outcome, PageRange};
use serde_json::{Value, json};

const BAR: usize = 64;

/// One prefetch of the whole buffer.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) label: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

/// Collects the findings; text is built as they arrive, JSON at the end.
#[derive(Debug)]
pub(crate) struct Report {
    text: Vec<String>,
    json: Vec<(&'static str, Value)>,
    places: Vec<Value>,
    steps: Vec<Value>,
}

impl Report {
    pub(crate) fn new(gpu: &Gpu, range: PageRange) -> Self {
        let text = vec![
            format!("GPU     {}", gpu.name()),
            format!("buffer  {} at {range}", Bytes(range.len())),
            String::new(),
        ];
        let json = vec![
            ("gpu", json!(gpu.name())),
            ("driver", json!(gpu.driver().name())),
            ("simulated", json!(gpu.is_simulated())),
            ("bytes", json!(range.len())),
        ];
        Self { text, json, places: Vec::new(), steps: Vec::new() }
    }

    pub(crate) fn place(&mut self, when: &'static str, residency: &Residency) {
        let summary = residency.summary();
        let bytes = |place| summary.bytes(place);
        let parts: Vec<String> = Place::ALL
            .into_iter()
            .filter(|&place| bytes(place) > 0)
            .map(|place| format!("{} {} {place}", place.glyph(), Bytes(bytes(place))))
            .collect();
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        self.text.push(format!("{}  {when}", residency.bar(BAR).coloured(coloured)));
        self.text.push(format!("{:BAR$}  {}", "", parts.join(", ")));
        self.places.push(json!({
            "when": when,
            "device": bytes(Place::Device),
            "system": bytes(Place::System) + bytes(Place::Zero),
            "absent": bytes(Place::Absent),
        }));
    }

    pub(crate) fn step(&mut self, step: Step) {
        let Step { label, outcome, took } = step;
        let seconds = took.as_secs_f64();
        let rate = outcome.moved() as f64 / seconds.max(1e-9);
        self.text.push(format!("\nprefetch {label}: {outcome}"));
        self.text.push(format!("  in {:.1} ms, {}/s\n", seconds * 1e3, Bytes(rate as u64)));
        let refusals: Vec<Value> = outcome
            .refusals()
            .iter()
            .map(|r| json!({ "start": r.range.start(), "bytes": r.range.len(), "cause": r.cause.text() }))
            .collect();
        self.steps.push(json!({
            "prefetch": label,
            "moved": outcome.moved(),
            "already_there": outcome.already_there(),
            "refused": refusals,
            "seconds": seconds,
            "bytes_per_second": rate,
        }));
    }

    pub(crate) fn touched(&mut self, bytes: u64, took: Duration) {
        let milliseconds = took.as_secs_f64() * 1e3;
        self.text.push(format!("\nthe CPU reads {} of it: {milliseconds:.1} ms\n", Bytes(bytes)));
        self.json.push(("cpu_read", json!({ "bytes": bytes, "seconds": took.as_secs_f64() })));
    }

    pub(crate) fn verified(&mut self, words: usize, wrong: usize) {
        self.text.push(match wrong {
            0 => format!("\nevery one of {words} words is intact"),
            _ => format!("\n{wrong} of {words} words have changed"),
        });
        self.json.push(("words", json!(words)));
        self.json.push(("wrong_words", json!(wrong)));
    }

    pub(crate) fn finish(mut self, json: bool) -> Result<()> {
        if json {
            self.json.push(("placement", json!(self.places)));
            self.json.push(("prefetches", json!(self.steps)));
            let object: serde_json::Map<String, Value> =
                self.json.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            println!("{}", serde_json::to_string_pretty(&object)?);
        } else {
            for line in self.text {
                println!("{line}");
            }
        }
        Ok(())
    }
}
