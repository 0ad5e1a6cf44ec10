//! Developer tasks: `cargo xtask help` lists them.

mod bench;
mod bench_hw;
mod child;
mod command;
mod diff;
mod hmm;
mod hwtest;
mod lab;
mod matrix;
mod release;
mod table;
mod upstream;

use anyhow::{Result, bail};
use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask lab ...      real kernels with real GPU drivers in QEMU, on virtual GPUs
cargo xtask hwtest ...   the test suite for everything that talks to a GPU
cargo xtask bench ...    what everything costs beside what a user would pick instead
cargo xtask diff ...     the simulated devices against the real drivers
cargo xtask hmm ...      residency against the kernel's test device for heterogeneous memory
cargo xtask upstream ... the driver's own tests (IGT) in the lab
cargo xtask matrix ...   the table of what was tested where
cargo xtask bench-hw ... what moving memory to a GPU and back costs here
cargo xtask release-check
                         what must hold before a version is published
cargo xtask help         this text

Each has --help.
";

fn main() -> ExitCode {
    match run(Parser::from_env()) {
        Ok(code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(if error.is::<child::Interrupted>() { 130 } else { 1 })
        }
    }
}

fn run(mut parser: Parser) -> Result<i32> {
    let task = match parser.next()? {
        Some(Value(task)) => task.string()?,
        Some(Long("help") | Short('h')) | None => "help".to_owned(),
        Some(arg) => return Err(anyhow::Error::from(arg.unexpected()).context("see `cargo xtask help`")),
    };
    match task.as_str() {
        "help" => {
            print!("{HELP}");
            Ok(0)
        }
        "lab" => {
            child::catch_interrupts()?;
            lab::main(parser)
        }
        "bench" => {
            child::catch_interrupts()?;
            bench::main(parser)
        }
        "diff" => {
            child::catch_interrupts()?;
            diff::main(parser)
        }
        "hmm" => {
            child::catch_interrupts()?;
            hmm::main(parser)
        }
        "bench-hw" => {
            child::catch_interrupts()?;
            bench_hw::main(parser)
        }
        "release-check" => {
            child::catch_interrupts()?;
            release::main(parser)
        }
        "matrix" => {
            child::catch_interrupts()?;
            matrix::main(parser)
        }
        "upstream" => {
            child::catch_interrupts()?;
            upstream::main(parser)
        }
        "hwtest" => {
            child::catch_interrupts()?;
            hwtest::main(parser)
        }
        _ => bail!("no task called {task:?}; see `cargo xtask help`"),
    }
}
