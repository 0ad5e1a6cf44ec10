//! What the driver itself counts: xe's `gt0/stats` in debugfs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use drm_pagemap::{Driver, Gpu};

use super::slot::Slot;

/// The counters of one device. They are the driver's, for all processes, and never reset here.
#[derive(Debug)]
pub(crate) struct DriverCounters(PathBuf);

/// The counters at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Counts(BTreeMap<String, u64>);

impl DriverCounters {
    /// The counters of a device, or why they cannot be read.
    pub(crate) fn of(gpu: &Gpu) -> Result<Self, String> {
        if gpu.is_simulated() {
            return Err("a simulated device has no kernel driver that counts".to_owned());
        }
        if gpu.driver() != Driver::Xe {
            return Err(format!("{} counts nothing of shared virtual memory", gpu.driver().name()));
        }
        let slot = Slot::of(gpu)?;
        let folders = [vec![slot.address()], slot.minors()].concat();
        let paths =
            folders.iter().map(|name| Path::new("/sys/kernel/debug/dri").join(name).join("gt0/stats"));
        let mut found = paths.filter(|path| fs::read(path).is_ok());
        found.next().map(Self).ok_or_else(|| {
            "the driver's gt0/stats cannot be read below /sys/kernel/debug/dri (root, debugfs, CONFIG_DEBUG_FS)"
                .to_owned()
        })
    }

    /// The counters now.
    pub(crate) fn read(&self) -> Counts {
        let text = fs::read_to_string(&self.0).expect("the driver's counters can still be read");
        Counts(parse(&text))
    }
}

impl Counts {
    /// How much a counter has grown since `earlier`; `None` where this kernel does not have it.
    pub(crate) fn since(&self, earlier: &Self, name: &str) -> Option<u64> {
        Some(self.0.get(name)? - earlier.0.get(name)?)
    }
}

/// Lines `name: value`.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let pairs = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().parse().ok()?))
    });
    pairs.collect()
}
