//! The differential test: simulated devices against the real drivers.
//!
//! ```text
//! cargo test --test diff                                  # the frame's own tests; needs no device
//! cargo xtask diff --driver xe --seed 1 --seeds 100       # in the lab
//! cargo xtask diff --driver xe --script FILE              # one saved script
//! cargo xtask diff --driver xe --seeds 100 --record FILE  # keeps the real driver's answers, and then, without a lab:
//! cargo test --test diff -- replay --driver xe FILE
//! ```

mod frame;
mod kfd;
mod memory;
mod xe;

use std::process::ExitCode;

use frame::{Model, Options, Side};

/// Every driver that can be compared.
const MODELS: &[&dyn Model] = &[&xe::Xe, &kfd::Kfd];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match arguments.next().as_deref() {
        Some("run") => compare(arguments),
        Some("replay") => replay(arguments),
        Some("worker") => work(arguments),
        _ => {
            let arguments = libtest_mimic::Arguments::from_args();
            return libtest_mimic::run(&arguments, frame::tests::trials(MODELS)).exit_code();
        }
    };
    done.unwrap_or_else(|reason| {
        eprintln!("error: {reason}");
        ExitCode::from(3)
    })
}

fn model(name: &str) -> Result<&'static dyn Model, String> {
    let found = MODELS.iter().find(|model| model.name() == name);
    found.copied().ok_or_else(|| {
        let known: Vec<&str> = MODELS.iter().map(|model| model.name()).collect();
        format!("no driver called {name:?}: {}", known.join(", "))
    })
}

fn compare(arguments: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let options = Options::parse(lexopt::Parser::from_args(arguments)).map_err(|error| error.to_string())?;
    frame::run(model(&options.driver)?, &options)
}

fn replay(arguments: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let options = Options::parse(lexopt::Parser::from_args(arguments)).map_err(|error| error.to_string())?;
    frame::replay(model(&options.driver)?, &options.scripts)
}

/// `worker --driver D --side real|sim`, as the frame starts it.
fn work(arguments: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let arguments: Vec<String> = arguments.collect();
    let (driver, side) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--driver", driver, "--side", "real"] => (driver, Side::Real),
        ["--driver", driver, "--side", "sim"] => (driver, Side::Sim),
        _ => return Err(format!("worker cannot understand {arguments:?}")),
    };
    frame::serve(model(driver)?, side)?;
    Ok(ExitCode::SUCCESS)
}
