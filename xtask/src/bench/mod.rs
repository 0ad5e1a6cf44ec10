//! `bench`: everything that is measured, as one table of ratios.

mod hsakmt;
mod size;
mod table;

use anyhow::{Context, Result, bail};
use lexopt::Arg::Long;
use lexopt::{Parser, ValueExt};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;

const HELP: &str = "\
cargo xtask bench [--only PART]... [--out FILE]

Runs the benchmarks and writes a table of ratios in Markdown to FILE (target/bench.md by default). Parts:
  a,b  calls and batches, in instructions (needs valgrind and a C compiler; libhsakmt is fetched from Debian's archive)
  c    residency
  d    the simulated device
  e    the prefetcher
  f    build time and size
BENCHMARKS.md says what each is compared with.
";

/// Where benchmarks put their results, a line of JSON each.
const RESULTS: &str = "DRM_PAGEMAP_BENCH_OUT";

/// The benchmarks and the parts that each makes.
const BENCHMARKS: [(&str, &str); 4] =
    [("calls", "ab"), ("residency", "c"), ("engine", "d"), ("prefetcher", "e")];

pub(crate) fn main(mut parser: Parser) -> Result<i32> {
    let mut only = String::new();
    let mut out = PathBuf::from("target/bench.md");
    while let Some(arg) = parser.next()? {
        match arg {
            Long("only") => {
                let part = parser.value()?.string()?;
                if part.len() != 1 || !"abcdef".contains(&part) {
                    bail!("no part {part:?}; see --help");
                }
                only.push_str(&part);
            }
            Long("out") => out = parser.value()?.into(),
            Long("help") => {
                print!("{HELP}");
                return Ok(0);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let wanted = |parts: &str| only.is_empty() || parts.contains(|part| only.contains(part));
    let folder = tempfile::tempdir()?;
    let results = folder.path().join("results");
    for (name, parts) in BENCHMARKS {
        if !wanted(parts) {
            continue;
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["bench", "--locked", "--package", "drm-pagemap", "--bench", name]).env(RESULTS, &results);
        if name == "calls" {
            match hsakmt::fetch(&folder.path().join("hsakmt")) {
                Ok(libraries) => drop(cargo.env("DRM_PAGEMAP_LIBHSAKMT_FOLDER", libraries)),
                Err(error) => eprintln!("bench: no libhsakmt from the archive: {error:#}"),
            }
        }
        command::run(&mut cargo)?;
    }
    if wanted("f") {
        size::measure(folder.path(), &results)?;
    }
    let lines = fs::read_to_string(&results).context("no benchmark left a result")?;
    let text = table::markdown(&lines, &machine())?;
    write(&out, &text)?;
    print!("{text}");
    eprintln!("bench: written to {}", out.display());
    Ok(0)
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// What the numbers were taken on, as far as it matters to ratios.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let processors = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let release = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "{processors} x {}, Linux {}, load average {} at the end, {}",
        model.trim_start_matches([' ', '\t', ':']),
        release.trim(),
        load.split(' ').next().unwrap_or("unknown"),
        command::output(Command::new("rustc").arg("--version")).unwrap_or_default().trim(),
    )
}
