//! What every driver's differential test shares. The same script of operations runs on a simulated device and on the real
//! driver; the answers are compared step by step, and what differs is cut down to the shortest script that still differs.
//!
//! ```text
//! random ──▶ Model::generate ──▶ Script ──▶ worker (real) ──▶ answers ─┐
//!                                    └────▶ worker (sim)  ──▶ answers ─┴▶ compare ──▶ session ──▶ report
//!                                                                            ▲            └──▶ shrink
//!                                                              Model::deviations
//! ```
//!
//! A driver takes part with one [`Model`]:
//!
//! * [`Model::generate`] makes the steps of a script out of a [`Random`]. A [`Step`] is a verb and named arguments, one
//!   line of text: `bind op=map at=16 pages=4`. Nothing else knows what verbs mean. A seed has to mean the same script for
//!   ever within a version of the generator.
//! * [`Model::start`] gives a [`Subject`] for one [`Side`]. It is called in a process of its own, once, for one script, so it may
//!   map memory at fixed addresses and leave everything behind. [`Subject::perform`] does one step and returns its answer: one
//!   line with everything that can be observed (errno, outputs, residency, bytes). What is the same on both sides has to read
//!   the same: no pointers, no file numbers, no times.
//! * A step that cannot be understood is an `Err` ([`BadStep`]), never a panic: the shrinker takes arguments away and sees so
//!   which ones are needed. The fewer are (defaults!), the shorter are its scripts.
//! * Where what the real driver answers is not fixed (races that the test cannot exclude), the answer is to leave it out;
//!   where the simulation is knowingly different, [`Model::deviations`] says so: a [`Deviation`] is matched against one
//!   mismatch, and one that never matched anything is reported.
//! * Where a driver does not get everything back from a process that ends, [`Model::renewable`] has the steps that show it. After
//!   a mismatch they are tried; answered otherwise than at first, the machine is spent, and the rest needs another.
//! * [`Model::lacking`] says why there is nothing to compare here (no device), [`Model::corpus`] which seeds are the fixed
//!   corpus. Scripts of former mismatches are saved in `tests/diff/corpus/<driver>/*.script` and run with it.
//!
//! * A simulated device is to be like that of the kernel that [`like`] names.
//!
//! Programs: `diff` alone runs the frame's own tests, and holds the simulation against recordings of the real driver that are
//! kept in `tests/diff/corpus/<driver>/*.recording`. `diff run ...` compares; `diff replay FILE...` compares with recordings, which
//! needs no device (`cargo xtask diff --record FILE` makes them); `diff worker ...` is one side of one script.

mod arguments;
mod compare;
mod mistakes;
mod random;
mod recording;
mod script;
mod session;
mod shrink;
mod step;
pub(crate) mod tests;
mod worker;

pub(crate) use arguments::Options;
pub(crate) use compare::{Deviation, Mismatch, Then};
pub(crate) use mistakes::Mistakes;
pub(crate) use random::Random;
pub(crate) use session::{replay, run};
pub(crate) use step::{BadStep, Step, number};
pub(crate) use worker::serve;

use std::fmt;
use std::ops::Range;

/// Names the kernel that simulated devices are to be like, in the environment of a worker.
const LIKE: &str = "DIFF_LIKE";

/// The release of the kernel that simulated devices are to be like: the one that a recording is of, or the one that runs.
pub(crate) fn like() -> String {
    let running = || std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    std::env::var(LIKE).unwrap_or_else(|_| running()).trim().to_owned()
}

/// Which device a script runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The driver of the running kernel.
    Real,
    /// The simulated device.
    Sim,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Real => "real",
            Self::Sim => "sim",
        })
    }
}

/// The fixed corpus of a driver: these seeds, each with so many steps.
#[derive(Clone, Debug)]
pub(crate) struct Corpus {
    pub(crate) seeds: Range<u64>,
    pub(crate) steps: usize,
}

/// A driver under comparison.
pub(crate) trait Model: Sync {
    /// The driver's name, as `--driver` takes it.
    fn name(&self) -> &'static str;

    /// Why nothing can be compared on this machine; also prepares the machine. Called once.
    fn lacking(&self) -> Option<String>;

    /// Makes a script of about `steps` steps.
    fn generate(&self, random: &mut Random, steps: usize) -> Vec<Step>;

    /// Opens the device of one side, in a process of its own.
    fn start(&self, side: Side) -> Result<Box<dyn Subject>, String>;

    /// Steps that the real driver answers alike in every new process, as long as processes before did not use up what it has.
    fn renewable(&self) -> Vec<Step> {
        Vec::new()
    }

    /// Differences that are known and justified.
    fn deviations(&self) -> &'static [Deviation];

    /// The fixed corpus.
    fn corpus(&self) -> Corpus;
}

/// A device that steps are done on.
pub(crate) trait Subject {
    /// Does one step and tells everything that can be observed of it in one line.
    fn perform(&mut self, step: &Step) -> Result<String, BadStep>;
}
