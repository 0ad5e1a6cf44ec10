//! KFD on a machine without an AMD GPU, where the driver is loaded all the same: what the library makes of it, and whether the
//! simulated KFD answers like the real one. For the lab:
//!
//! ```text
//! cargo xtask lab run --gpus 0 --gpu amd --kernel 6.18 -- kfd_bare
//! ```
//!
//! Kernels that open `/dev/kfd` without a GPU (6.16 to 6.18) answer everything but the setting of attributes, which crashes them:
//! only what they refuse before that point is tried. Where there is no `/dev/kfd`, or there is a GPU, nothing can be compared.

mod calls;
mod diagnosis;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use drm_pagemap::kfd::{DEVICE, Topology, TopologySource};

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let trial = |name: &str, run: fn() -> Result<(), Failed>| {
        Trial::ignorable_test(name, move || match lacking() {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => run().map(|()| Completion::Completed),
        })
    };
    let trials = vec![
        trial("opening_is_diagnosed", diagnosis::opening),
        trial("discovery_names_the_reason", diagnosis::discovery),
        trial("no_attribute_is_ever_set", diagnosis::attributes),
        trial("calls_agree_with_the_simulation", calls::agree),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Why nothing can be tried here.
fn lacking() -> Option<String> {
    if !std::path::Path::new(DEVICE).exists() {
        return Some(format!("there is no {DEVICE}: amdgpu is not loaded"));
    }
    let topology = Topology::read(&TopologySource::system()).ok()?;
    (topology.gpus().next().is_some()).then(|| "there is a GPU; this is about machines without".to_owned())
}

/// Major and minor of the running kernel.
fn release() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
