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
mod faults;
mod lifetime;
mod mapping;
mod memory_kinds;
mod placement;
mod pressure;
mod simulated;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run(&[
        placement::TESTS,
        advice::TESTS,
        memory_kinds::TESTS,
        pressure::TESTS,
        lifetime::TESTS,
        faults::TESTS,
    ])
}
