//! `cargo xtask bench-hw`: what moving memory to a GPU and back costs on this machine.

mod chart;
mod figures;
mod run;

use crate::hwtest::Facts;
use crate::lab::{GuestOptions, OPTIONS_HELP, Workspace, path, seconds, text, unexpected};
use anyhow::{Context, Result, bail};
use figures::Figures;
use lexopt::Arg::{Long, Short};
use lexopt::Parser;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HELP: &str = "\
cargo xtask bench-hw [OPTIONS]

Measures prefetch to VRAM and back, page faults of GPU and CPU, and an explicit copy as the yardstick: by size, with and
without huge pages; and the prefetcher with several threads, with and without address spaces of their own. Writes a table,
a CSV file and a chart.

  --ground hardware     on the GPUs of this machine (default)
  --ground lab, --lab   in QEMU, to see that it works: the figures say nothing about hardware
  --ground simulated    on the software devices of the library: the same
  --largest BYTES       the largest size (default: 1 GiB; less where VRAM or memory is short)
  --rounds N            at most so many rounds of each (default: 50, fewer of what takes long)
  --threads N           at most so many threads (default: as many as processors, at most 8)
  --report DIR          where the files go (default: bench-hw/GROUND in cargo's target folder)
  --timeout S           hang guard for the whole (default: 3600)

Exit code 2: there was nothing to measure.
";

#[derive(Debug)]
struct Options {
    ground: String,
    guest: GuestOptions,
    arguments: Vec<String>,
    report: Option<PathBuf>,
    timeout: Duration,
}

/// Runs the task; the result is its exit code.
pub(crate) fn main(mut parser: Parser) -> Result<i32> {
    let Some(options) = parse(&mut parser)? else {
        print!("{HELP}\n{OPTIONS_HELP}");
        return Ok(0);
    };
    let workspace = Workspace::load()?;
    let (conditions, lines) = match options.ground.as_str() {
        "lab" => run::in_lab(&options.guest, &workspace, &options.arguments, options.timeout)?,
        _ => {
            let facts = Facts::read(Path::new("/"));
            (
                facts.conditions(),
                run::on_host(&workspace, &options.ground, &options.arguments, options.timeout)?,
            )
        }
    };
    let figures = Figures::parse(&lines)?;
    if figures.measured.is_empty() {
        eprintln!("bench-hw: nothing to measure: no GPU here has shared virtual memory and VRAM");
        figures.skipped.iter().for_each(|skip| eprintln!("  {skip}"));
        eprintln!(
            "bench-hw: `--ground simulated` and `--ground lab` show that it works, without hardware figures"
        );
        return Ok(2);
    }
    let head = head(&options.ground, &conditions);
    let table = figures.table();
    println!("{head}\n{table}");
    let folder = options.report.unwrap_or_else(|| workspace.output().join("bench-hw").join(&options.ground));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(folder.join("bench.txt"), format!("{head}\n{table}"))?;
    fs::write(folder.join("bench.csv"), figures.csv(&options.ground))?;
    for device in figures.devices() {
        let title = format!("{device}, ground {}", options.ground);
        fs::write(
            folder.join(format!("{device}.svg")),
            chart::render(&title, caution(&options.ground), &figures.curves(device)),
        )?;
    }
    println!("files in {}", folder.display());
    Ok(0)
}

fn parse(parser: &mut Parser) -> Result<Option<Options>> {
    let mut options = Options {
        ground: "hardware".into(),
        guest: GuestOptions::default(),
        arguments: Vec::new(),
        report: None,
        timeout: Duration::from_secs(3600),
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(None),
            Long("lab") => options.ground = "lab".into(),
            Long("ground") => options.ground = text(parser)?,
            Long("report") => options.report = Some(path(parser)?),
            Long("timeout") => options.timeout = seconds(parser)?,
            Long(name @ ("largest" | "rounds" | "threads")) => {
                let name = format!("--{name}");
                let value = text(parser)?;
                let _: u64 = value.parse().with_context(|| format!("{name} {value}"))?;
                options.arguments.extend([name, value]);
            }
            Long(name) => {
                let name = name.to_owned();
                if !options.guest.take(&name, parser)? {
                    return Err(unexpected(Long(&name), "bench-hw"));
                }
            }
            arg => return Err(unexpected(arg, "bench-hw")),
        }
    }
    if !["hardware", "lab", "simulated"].contains(&options.ground.as_str()) {
        bail!("no ground called {:?}: simulated, lab or hardware", options.ground);
    }
    Ok(Some(options))
}

/// What figures of a ground must not be taken for.
fn caution(ground: &str) -> &'static str {
    match ground {
        "hardware" => "",
        "lab" => "NOT hardware figures: real driver, virtual GPU, emulated processor",
        _ => "NOT hardware figures: a simulated GPU",
    }
}

fn head(ground: &str, conditions: &str) -> String {
    let caution = caution(ground);
    let caution = if caution.is_empty() { String::new() } else { format!("{caution}\n") };
    format!("{caution}ground {ground}\n{conditions}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_passed_on_and_nonsense_is_not() {
        let parsed = |words: &[&str]| parse(&mut Parser::from_args(words));
        let options =
            parsed(&["--ground", "simulated", "--largest", "4096", "--rounds", "3"]).unwrap().unwrap();
        assert_eq!((options.ground.as_str(), options.arguments.len()), ("simulated", 4));
        for words in [&["--ground", "moon"][..], &["--largest", "much"], &["--nope"]] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn figures_that_are_none_of_hardware_say_so() {
        assert!(
            head("simulated", "").contains("NOT hardware figures")
                && head("lab", "").contains("NOT hardware")
        );
        assert!(!head("hardware", "").contains("NOT"));
    }
}
