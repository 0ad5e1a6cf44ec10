//! What the driver tells of migrations, and when it has come to rest.

use std::time::{Duration, Instant};

use drm_pagemap::kfd::{Location, MigrateTrigger, Process, SmiEvent, SmiEvents, SmiMask};
use drm_pagemap::uapi::kfd as abi;

use super::device::Gpu;
use super::subject::Open;
use super::words::place;
use crate::frame::{BadStep, Step};
use crate::memory::{ARENA, CONTROL, PAGE, address};

/// A hang guard, far above what a restore takes.
const LONGEST_REST: Duration = Duration::from_secs(40);

/// A migration that was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Announced {
    log: usize,
    start: u64,
    end: u64,
    from: Location,
    to: Location,
    /// What else the event says, which neighbours have in common.
    rest: String,
}

/// Migrations in the order in which they were told of.
#[derive(Default)]
struct Told {
    /// Since the last look.
    new: Vec<Announced>,
    all: Vec<Announced>,
}

/// The event logs of all GPUs.
pub(super) struct Log {
    logs: Vec<SmiEvents>,
    starts: Told,
    ends: Told,
    other: Vec<String>,
    stopped: bool,
    /// So many events a log is sure to hold, however long their lines.
    sure: usize,
    /// There were more at once: some may be lost, and which ones depends on the lengths of lines.
    overflowed: bool,
}

/// The longest line of a log.
const LONGEST_LINE: usize = 96;

impl Log {
    pub(super) fn open(process: &Process, gpus: &[Gpu], bytes: usize) -> Result<Self, String> {
        let mask = SmiMask::MIGRATIONS | SmiMask::QUEUE_EVICTION | SmiMask::QUEUE_RESTORE;
        let logs = gpus.iter().map(|gpu| process.smi_events(gpu.id, mask)).collect::<Result<_, _>>();
        let logs = logs.map_err(|error| error.to_string())?;
        Ok(Self {
            logs,
            starts: Told::default(),
            ends: Told::default(),
            other: Vec::new(),
            stopped: false,
            sure: bytes / LONGEST_LINE,
            overflowed: false,
        })
    }

    /// Reads what is there. Whether there was anything.
    fn read(&mut self, gpus: &[Gpu]) -> Result<bool, String> {
        let mut any = false;
        for index in 0..self.logs.len() {
            let mut count = 0;
            while let Some(event) = self.logs[index].next_event().map_err(|error| error.to_string())? {
                count += 1;
                self.take_in(index, event, gpus);
            }
            any |= count > 0;
            self.overflowed |= count >= self.sure;
        }
        Ok(any)
    }

    fn take_in(&mut self, log: usize, event: SmiEvent, gpus: &[Gpu]) {
        let name = |location: Option<Location>| place(location.map_or(u32::MAX, Location::raw), gpus);
        match event {
            SmiEvent::MigrateStart(event) => {
                let wishes = format!("move:{} pref:{}", name(event.prefetch), name(event.preferred));
                let rest = format!("{wishes} trigger {}", event.trigger.raw());
                let (start, end) = (event.range.start(), event.range.end());
                let trigger = event.trigger;
                let event = Announced { log, start, end, from: event.from, to: event.to, rest };
                self.starts.add(event, trigger);
            }
            SmiEvent::MigrateEnd(event) => {
                let error = event.error.map_or("-".to_owned(), |error| error.to_string());
                let rest = format!("trigger {} error {error}", event.trigger.raw());
                let (start, end) = (event.range.start(), event.range.end());
                let trigger = event.trigger;
                let event = Announced { log, start, end, from: event.from, to: event.to, rest };
                self.ends.add(event, trigger);
            }
            // Every GPU's log has these.
            SmiEvent::QueueEviction(_) if log == 0 => self.stopped = true,
            SmiEvent::QueueRestore(event) if log == 0 => self.stopped = event.rescheduled,
            SmiEvent::QueueEviction(_) | SmiEvent::QueueRestore(_) => {}
            other => self.other.push(format!("{other:?}")),
        }
    }

    /// Everything since last time, as text.
    pub(super) fn take(&mut self) -> String {
        let show = |events: &mut Vec<Announced>| -> Vec<String> {
            let show = |event: Announced| {
                let first = (event.start - ARENA) / PAGE;
                let (from, to) = (direction(event.from), direction(event.to));
                format!(
                    "g{} {first}+{} {from}>{to} {}",
                    event.log,
                    (event.end - event.start) / PAGE,
                    event.rest
                )
            };
            events.drain(..).map(show).collect()
        };
        let (starts, ends) = (show(&mut self.starts.new), show(&mut self.ends.new));
        let other = std::mem::take(&mut self.other);
        if std::mem::take(&mut self.overflowed) {
            return "more than the log is sure to hold".to_owned();
        }
        let told = [starts, ends.into_iter().map(|end| format!("end {end}")).collect(), other].concat();
        if told.is_empty() { "nothing".to_owned() } else { told.join("; ") }
    }
}

fn direction(location: Location) -> &'static str {
    if location == Location::System { "sys" } else { "gpu" }
}

impl Told {
    /// Takes in an event, unless it tells of a fault of a GPU that was served before.
    ///
    /// A GPU raises a fault again while it is being served. The driver ignores that for 2 ms (`AMDGPU_SVM_RANGE_RETRY_FAULT_PENDING`), and later
    /// serves it once more, which moves nothing: how busy the machine is decides.
    fn add(&mut self, event: Announced, trigger: MigrateTrigger) {
        let overlaps = |other: &&Announced| other.start < event.end && event.start < other.end;
        let last = self.all.iter().rev().find(overlaps);
        let again = trigger == MigrateTrigger::PageFaultGpu
            && last.is_some_and(|last| {
                let Announced { start, end, .. } = *last;
                start <= event.start
                    && event.end <= end
                    && (Announced { start, end, ..event.clone() }) == *last
            });
        if !again {
            join(&mut self.all, event.clone());
            join(&mut self.new, event);
        }
    }
}

/// Adds an event to the one before it where it goes on from there: a mapping that the kernel has in two pieces may be one in the
/// simulation, and the other way round.
fn join(events: &mut Vec<Announced>, event: Announced) {
    if let Some(last) = events.last_mut() {
        if last.end == event.start
            && (Announced { start: last.start, ..event.clone() })
                == (Announced { end: event.end, ..last.clone() })
        {
            last.end = event.end;
            return;
        }
    }
    events.push(event);
}

/// Waits until the kernel has run the work that was scheduled before, by having it schedule some on every processor and wait.
///
/// Where the last page of a range leaves VRAM, the driver releases that VRAM in such work (`svm_range_bo_unref_async`). A call that cuts the
/// range before it has run takes a reference to what has none left (`svm_range_clone`), and a later one waits for ever
/// (`svm_range_validate_svm_bo`), out of reach of signals.
fn finish_kernel_work() {
    // Without the right to it there is the race that the driver has anyway.
    let _ = std::fs::write("/proc/sys/vm/stat_refresh", "1");
}

impl Open {
    /// Waits until the driver has done what it does by itself: taken note of what the process did to its memory, and mapped again
    /// what was moved under a GPU's mapping.
    pub(super) fn settle(&mut self) -> Result<(), BadStep> {
        let fail = BadStep;
        let deadline = Instant::now() + LONGEST_REST;
        loop {
            // A query makes the driver catch up; of a page that no step touches.
            let mut args =
                abi::SvmArgs::new(address(CONTROL + 15), PAGE, abi::KFD_IOCTL_SVM_OP_GET_ATTR, &[])
                    .map_err(|error| fail(error.to_string()))?;
            self.svm(&mut args).map_err(|error| fail(format!("the driver cannot be asked: {error}")))?;
            let any = self.log.read(&self.gpus).map_err(fail)?;
            if !any && !self.log.stopped {
                if self.simulated.is_none() {
                    finish_kernel_work();
                }
                return Ok(());
            }
            if Instant::now() > deadline {
                self.log.other.push("(queues stay stopped)".to_owned());
                self.log.stopped = false;
                return Ok(());
            }
            if self.log.stopped {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    }

    /// `events`: the migrations that were told of since last time.
    pub(super) fn events(&mut self, _: &Step) -> Result<String, BadStep> {
        Ok(String::new())
    }
}
