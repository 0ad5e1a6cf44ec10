//! Residency against the truth: real device pages, made by the kernel's own test device, whose snapshot says where each
//! page is. Runs where the `test_hmm` module is loaded; `cargo xtask hmm` boots such a kernel.

#[allow(dead_code, reason = "each test program uses a part")]
#[path = "../residency_kernel/allocations.rs"]
mod allocations;
#[path = "../residency_kernel/case.rs"]
mod case;
mod check;
mod coherent;
mod device;
mod huge;
#[allow(dead_code, reason = "each test program uses a part")]
#[path = "../residency_kernel/memory.rs"]
mod memory;
mod pages;
mod policy;
mod prepare;
mod random;
mod sharing;
mod swap;
mod types;

use libtest_mimic::Arguments;

fn main() {
    if let Err(error) = prepare::prepare() {
        eprintln!("cannot prepare this machine: {error}");
        std::process::exit(1);
    }
    let present = std::path::Path::new(&device::path(0)).exists();
    let cases = [
        pages::cases(),
        policy::cases(),
        huge::cases(),
        sharing::cases(),
        types::cases(),
        swap::cases(),
        random::cases(),
        coherent::cases(),
    ];
    let needs_device = |case: case::Case| {
        case.needs(present, "no HMM test device; `cargo xtask hmm` boots a kernel that has one").trial()
    };
    let trials = cases.into_iter().flatten().map(needs_device).collect();
    // One after another: some fork, and what one swaps out another would count.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials).exit();
}
