//! The hardware suite: one set of tests for every ground.
//!
//! ```text
//! cargo test --test hw                            # the simulated devices
//! cargo test --test hw -- --ground hardware       # the GPUs of this machine
//! cargo xtask hwtest --lab                        # the real drivers on virtual GPUs
//! ```

#[macro_use]
mod harness;

mod advice;
mod budget;
mod causes;
mod counters;
mod doctor;
mod events;
mod faults;
mod gpu_access;
mod gpu_store;
mod kfd;
mod lifetime;
mod mapping;
mod memory_kinds;
mod placement;
mod prefetcher;
mod pressure;
mod queue;
mod simulated;
mod story;
mod trouble;
mod xe;
mod xe_kinds;

use std::process::ExitCode;

fn main() -> ExitCode {
    let common = [
        placement::TESTS,
        gpu_access::TESTS,
        advice::TESTS,
        events::TESTS,
        doctor::TESTS,
        memory_kinds::TESTS,
        causes::TESTS,
        pressure::TESTS,
        budget::TESTS,
        prefetcher::TESTS,
        lifetime::TESTS,
        faults::TESTS,
        counters::TESTS,
        story::TESTS,
        xe::TESTS,
        xe_kinds::TESTS,
        trouble::COPIES,
        trouble::FIRMWARE,
        trouble::QUEUES,
    ];
    // Last: the device is taken away and given back.
    harness::run(&[&common, kfd::TESTS, trouble::amdgpu::TESTS, &[trouble::REMOVAL]].concat())
}
