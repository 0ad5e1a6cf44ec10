//! Part f: what it costs to build with the crate, beside drm-rs alone.

use anyhow::{Context, Result};
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::command;

/// The most seconds of two processors that the library may take, and the most crates.
const SECONDS: f64 = 15.0;
const CRATES: f64 = 20.0;
const ROUNDS: usize = 3;

/// What a program that does next to nothing with the crate is.
const OURS: &str = "fn main() {
    for gpu in drm_pagemap::Gpu::discover().expect(\"cannot look for GPUs\") {
        println!(\"{}\", gpu.name());
    }
}
";

const DRM: &str = "use drm::Device;
use std::os::fd::{AsFd, BorrowedFd};
struct Node(std::fs::File);
impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
impl Device for Node {}
fn main() {
    let file = std::fs::File::open(\"/dev/dri/renderD128\").expect(\"cannot open\");
    println!(\"{:?}\", Node(file).get_driver().expect(\"not a DRM device\").name());
}
";

/// What one program costs.
struct Cost {
    crates: f64,
    /// Of user and system code, over all processors.
    processor: Vec<f64>,
    elapsed: Vec<f64>,
    bytes: f64,
}

pub(super) fn measure(folder: &Path, results: &Path) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let ours = program(&folder.join("ours"), &format!("drm-pagemap = {{ path = {root:?} }}"), OURS)?;
    let bare = program(
        &folder.join("bare"),
        &format!("drm-pagemap = {{ path = {root:?}, default-features = false }}"),
        OURS,
    )?;
    let drm = program(&folder.join("drm"), "drm = \"0.14\"", DRM)?;
    let mut file = File::options().create(true).append(true).open(results)?;
    for (what, cost) in
        [("with the simulated device", &ours), ("without it (default-features = false)", &bare)]
    {
        let mut row = |title: &str,
                       unit,
                       own: f64,
                       peer,
                       theirs: f64,
                       ratio: [f64; 3],
                       limit: Option<f64>| {
            let line = json!({
                "part": "f", "what": format!("{title}, {what}"), "unit": unit, "ours": own, "peer": peer,
                "theirs": theirs, "ratio": ratio[1], "low": ratio[0], "high": ratio[2], "limit": limit, "note": "",
            });
            writeln!(file, "{line}")
        };
        let against = |own: &[f64], theirs: &[f64]| {
            quartiles(own.iter().zip(theirs).map(|(own, theirs)| own / theirs).collect())
        };
        let mid = |values: &[f64]| quartiles(values.to_vec())[1];
        let (cpu, wall) = (mid(&cost.processor), mid(&cost.elapsed));
        row(
            "clean release build",
            "CPU s",
            cpu,
            "drm-rs alone",
            mid(&drm.processor),
            against(&cost.processor, &drm.processor),
            None,
        )?;
        let budget = vec![2.0 * SECONDS; cost.processor.len()];
        row(
            "clean release build",
            "CPU s",
            cpu,
            "15 s of 2 processors",
            2.0 * SECONDS,
            against(&cost.processor, &budget),
            Some(1.0),
        )?;
        row(
            "clean release build",
            "s",
            wall,
            "15 s elapsed",
            SECONDS,
            against(&cost.elapsed, &[SECONDS; ROUNDS]),
            None,
        )?;
        row(
            "crates in the tree",
            "crates",
            cost.crates,
            "drm-rs alone",
            drm.crates,
            [cost.crates / drm.crates; 3],
            None,
        )?;
        row(
            "crates in the tree",
            "crates",
            cost.crates,
            "the limit of 20",
            CRATES,
            [cost.crates / CRATES; 3],
            Some(1.0),
        )?;
        row(
            "size of a minimal program",
            "bytes",
            cost.bytes,
            "drm-rs alone",
            drm.bytes,
            [cost.bytes / drm.bytes; 3],
            None,
        )?;
    }
    Ok(())
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

/// Builds a program with one dependency, from nothing, several times.
fn program(folder: &Path, dependency: &str, source: &str) -> Result<Cost> {
    fs::create_dir_all(folder.join("src"))?;
    let manifest = format!(
        "[package]\nname = \"minimal\"\nedition = \"2024\"\n\n[dependencies]\n{dependency}\n\n\
         [profile.release]\nstrip = true\n\n[workspace]\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(folder.join("src/main.rs"), source)?;
    let cargo = || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(folder).env_remove("CARGO_TARGET_DIR");
        cargo
    };
    command::output(cargo().args(["fetch", "--quiet"]))?;
    let tree = command::output(cargo().args([
        "tree",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    let mut names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    names.dedup();
    // Without the program itself.
    let crates = names.len() as f64 - 1.0;
    let (mut processor, mut elapsed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let target = folder.join("target");
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        let (before, start) = (children_seconds()?, Instant::now());
        command::run(cargo().args(["build", "--release", "--quiet"]))?;
        elapsed.push(start.elapsed().as_secs_f64());
        processor.push(children_seconds()? - before);
    }
    let bytes = fs::metadata(folder.join("target/release/minimal"))?.len() as f64;
    Ok(Cost { crates, processor, elapsed, bytes })
}

/// Processor time of all ended children and theirs, in seconds.
fn children_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field is a name in parentheses, which may hold anything; the 16th and 17th are ticks of 1/100 s.
    let fields = stat.rsplit_once(')').context("an odd /proc/self/stat")?.1;
    let ticks: f64 = fields
        .split_whitespace()
        .skip(13)
        .take(2)
        .map(|field| field.parse::<f64>().context("an odd /proc/self/stat"))
        .sum::<Result<f64>>()?;
    Ok(ticks / 100.0)
}
