//! Residency on the running kernel. What this kernel or machine lacks is "ignored", with the reason in the name.

mod allocations;
mod case;
mod children;
mod memory;
mod places;
mod repeated;

use case::Case;
use libtest_mimic::Arguments;

fn main() {
    if children::is_child() {
        return;
    }
    let cases = [places::cases(), repeated::cases(), children::cases()];
    let trials = cases.into_iter().flatten().map(Case::trial).collect();
    // One after another: overlays are the whole process's.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials).exit();
}
