//! `cargo xtask upstream`: the tests that the driver's own developers write, on the virtual GPU.
//!
//! They know nothing of this project: what they find wrong is wrong in the virtual GPU, or cannot be there. They come as
//! packages of a distribution, are fetched at run time, and run unchanged, each subtest in a process of its own.

mod guest;
mod known;
mod outcome;
mod packages;
mod pattern;
mod selection;
mod table;

use crate::lab::{
    GuestOptions, OPTIONS_HELP, Vendor, Workspace, accelerator, path, seconds, text, tools, unexpected,
};
use anyhow::{Result, bail};
use lexopt::Arg::{Long, Short};
use lexopt::Parser;
use packages::Packages;
use std::path::PathBuf;
use std::time::Duration;

const HELP: &str = "\
cargo xtask upstream [OPTIONS]

Runs the upstream tests of the xe driver (IGT, from a distribution's packages) in guests of the lab, each subtest in a
process of its own, and compares what fails with the list of what cannot work there. Needs `cargo xtask lab setup`.

  --test PROGRAM[@SUBTEST]
                        only this program or these subtests (* stands for any text); may be repeated
  --all                 every subtest of the chosen programs; by default many variants are left out
  --list                only name the subtests
  --timeout S           for each subtest (default: 300)
  --report DIR          where the table goes, and what failing subtests printed (default: upstream in cargo's
                        target folder)
  --refresh             look for newer packages

Exit code 0: what was to pass has passed; 1: something failed that is not on the list, or the kernel complained;
2: nothing was tested.
";

struct Options {
    guest: GuestOptions,
    chosen: Vec<String>,
    all: bool,
    list: bool,
    refresh: bool,
    timeout: Duration,
    report: Option<PathBuf>,
}

pub(crate) fn main(mut parser: Parser) -> Result<i32> {
    let mut options = Options {
        guest: GuestOptions::default(),
        chosen: Vec::new(),
        all: false,
        list: false,
        refresh: false,
        timeout: Duration::from_secs(300),
        report: None,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => {
                print!("{HELP}\n{OPTIONS_HELP}");
                return Ok(0);
            }
            Long("test") => options.chosen.push(text(&mut parser)?),
            Long("all") => options.all = true,
            Long("list") => options.list = true,
            Long("report") => options.report = Some(path(&mut parser)?),
            Long("refresh") => options.refresh = true,
            Long("timeout") => options.timeout = seconds(&mut parser)?,
            Long(name) => {
                let name = name.to_owned();
                if !options.guest.take(&name, &mut parser)? {
                    return Err(unexpected(Long(&name), "upstream"));
                }
            }
            arg => return Err(unexpected(arg, "upstream")),
        }
    }
    if options.guest.vendors != [Vendor::Intel] {
        bail!("these are tests of Intel's driver: --gpu intel");
    }
    run(&options)
}

fn run(options: &Options) -> Result<i32> {
    let packages = Packages::fetch(&options.guest.cache()?, options.refresh)?;
    let groups = selection::select(&packages, &options.chosen, options.all)?;
    if options.list {
        for test in groups.iter().flat_map(|group| &group.tests) {
            println!("{test}");
        }
        return Ok(0);
    }
    let workspace = Workspace::load()?;
    let tools = tools(&options.guest, &workspace, true)?;
    let kernel = options.guest.kernel(&tools.cache)?;
    let accel = accelerator(&options.guest, &tools, &kernel)?;
    let lab = guest::Lab {
        tools: &tools,
        options: &options.guest,
        kernel: &kernel,
        accel,
        packages: &packages,
        timeout: options.timeout,
    };
    let mut results = Vec::new();
    for group in &groups {
        results.extend(lab.run(group)?);
    }
    let judged = known::judge(results, kernel.release.series());
    let text = table::describe(&judged, &format!("IGT {} on Linux {}", packages.version, kernel.release));
    print!("{text}");
    let folder = options.report.clone().unwrap_or_else(|| workspace.output().join("upstream"));
    table::write(&folder, &judged, &text)?;
    println!("\nreport in {}", folder.display());
    Ok(table::exit_code(&judged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for words in [&["--gpu", "amd"][..], &["--timeout", "0"], &["--nope"], &["word"]] {
            assert!(main(Parser::from_args(words)).is_err(), "{words:?}");
        }
    }
}
