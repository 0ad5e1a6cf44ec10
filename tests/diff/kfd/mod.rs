//! The amdgpu driver with KFD under comparison.
//!
//! Addresses are page numbers of the arena, see [`crate::memory`]; GPUs are `g0` and `g1`. After each step the driver is given
//! time to come to rest ([`log`]), so that what it does by itself has an order.

mod arena;
mod calls;
mod deviations;
mod device;
mod generate;
mod gpu;
mod log;
mod mistakes;
mod subject;
mod svm;
mod words;

use std::fs;

use crate::frame::{Corpus, Deviation, Model, Random, Side, Step, Subject};

/// The model.
#[derive(Debug)]
pub(crate) struct Kfd;

impl Model for Kfd {
    fn name(&self) -> &'static str {
        "kfd"
    }

    fn lacking(&self) -> Option<String> {
        if device::topology().is_none() {
            return Some("there is no GPU of amdgpu with SVM".to_owned());
        }
        // What the kernel merges into huge pages, and when, is its own affair: only where a step asks for it.
        let _ = fs::write("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
        let _ =
            fs::write("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", "4294967295");
        None
    }

    fn generate(&self, random: &mut Random, steps: usize) -> Vec<Step> {
        generate::script(random, steps)
    }

    fn start(&self, side: Side) -> Result<Box<dyn Subject>, String> {
        let machine = match side {
            Side::Real => device::real(),
            Side::Sim => device::simulated(),
        };
        Ok(Box::new(subject::Open::new(machine?)?))
    }

    fn renewable(&self) -> Vec<Step> {
        // Refused with ENOMEM after some hundreds of processes (amdgpu 7.3.4).
        vec!["acquire".parse().expect("a step")]
    }

    fn deviations(&self) -> &'static [Deviation] {
        deviations::KNOWN
    }

    fn corpus(&self) -> Corpus {
        Corpus { seeds: 0..28, steps: 30 }
    }
}
