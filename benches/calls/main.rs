//! What a call through the crate costs beside the same ioctl made by hand in C and in Rust, and beside libhsakmt: user-space
//! instructions, system calls and allocations, counted and not timed.
//!
//! `cargo bench --bench calls`. Needs valgrind and a C compiler. libhsakmt is used when it can be loaded
//! (`DRM_PAGEMAP_LIBHSAKMT_FOLDER` is where it and what it needs lie, when that is not where libraries usually do).

mod measured;
mod peers;
mod raw;
#[path = "../report/mod.rs"]
mod report;
#[path = "../../tests/stand_in/mod.rs"]
mod stand_in;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use measured::{BATCHES, CALLS};
use report::{Row, skipped};
use stand_in::{Driver, Filter, in_filtered_thread};

#[global_allocator]
static COUNTING: measured::Counting = measured::Counting;

const MEASURE: &str = "--measure";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().position(|word| word == MEASURE) {
        Some(at) => measured::run(&words[at + 1]),
        None => {
            if let Err(reason) = compare() {
                skipped('a', "calls", &reason);
            }
        }
    }
}

/// What one function did in one run of it, per call.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    instructions: f64,
    system_calls: f64,
    allocations: f64,
}

fn compare() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let c = peers::compile(folder.path())?;
    let root = folder.path().join("topology");
    measured::write_topology(&root).map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--toggle-collect=*measured_*"])
        // Unlike the other option, this one takes no pattern.
        .args(measured::names().map(|name| format!("--dump-after={name}")))
        .arg("--collect-systime=yes")
        .arg(format!("--callgrind-out-file={}", folder.path().join("out").display()))
        .arg(program)
        .args([MEASURE, &c])
        .stdin(Stdio::null());
    // Set for the measured process alone: valgrind itself and the C compiler have libraries of their own.
    if let Some(folder) = std::env::var_os("DRM_PAGEMAP_LIBHSAKMT_FOLDER") {
        valgrind.env("LD_LIBRARY_PATH", folder);
    }
    let driver = Driver::with_files(root);
    let output = in_filtered_thread(Filter::DriversAndFiles, driver, |_| valgrind.output())
        .map_err(|error| format!("seccomp cannot notify here: {error}"))?
        .map_err(|error| format!("cannot run valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!(
            "valgrind: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let mut costs = read_dumps(folder.path())?;
    for line in text.lines().filter_map(|line| line.strip_prefix("allocations ")) {
        if let Some((name, count)) = line.split_once(' ') {
            let count: f64 = count.parse().map_err(|_| format!("not a number: {line}"))?;
            costs.entry(name.to_owned()).or_default().allocations = count / f64::from(CALLS);
        }
    }
    let no_hsakmt = text.lines().find_map(|line| line.strip_prefix("no-hsakmt "));
    single_calls(&costs, no_hsakmt)?;
    batches(&costs)
}

/// Reads what valgrind wrote when each function returned.
fn read_dumps(folder: &Path) -> Result<HashMap<String, Cost>, String> {
    let mut costs = HashMap::new();
    for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let (Some(trigger), Some(totals)) = (value("desc: Trigger: --dump-after="), value("totals: ")) else {
            continue;
        };
        let numbers: Vec<f64> = totals.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let per_call = |index: usize| numbers.get(index).copied().unwrap_or(0.0) / f64::from(CALLS);
        let cost = Cost { instructions: per_call(0), system_calls: per_call(1), allocations: 0.0 };
        // The function that is called once beforehand to warm up is overwritten by the later one.
        let number = path.extension().and_then(|number| number.to_str()?.parse::<u32>().ok()).unwrap_or(0);
        let known = costs.entry(trigger.to_owned()).or_insert((number, cost));
        if number >= known.0 {
            *known = (number, cost);
        }
    }
    if costs.is_empty() {
        return Err("valgrind wrote no dump".into());
    }
    Ok(costs.into_iter().map(|(name, (_, cost))| (name, cost)).collect())
}

fn single_calls(costs: &HashMap<String, Cost>, no_hsakmt: Option<&str>) -> Result<(), String> {
    let nothing = cost(costs, "measured_nothing")?.instructions;
    let get = |name: &str| cost(costs, name).map(|cost| cost.instructions - nothing);
    let mut lines = Vec::new();
    for (call, ways) in [
        ("prefetch", ["vm", "mirror"].as_slice()),
        ("advise", &["vm", "mirror", "crowded"]),
        ("query", &["vm"]),
        ("set", &["process", "mirror"]),
        ("get", &["process", "into"]),
    ] {
        for way in ways {
            let name = format!("measured_{call}_{way}");
            for (peer, label) in [("c", "ioctl in C"), ("rust", "ioctl in Rust, same checks")] {
                // A mirror is told whose memory is meant, and checks that.
                let call = if (peer, name.as_str()) == ("rust", "measured_prefetch_mirror") {
                    "prefetch_to"
                } else {
                    call
                };
                lines.push((name.clone(), label, format!("measured_{call}_{peer}")));
            }
            if matches!(call, "set" | "get") {
                lines.push((name.clone(), "libhsakmt", format!("hsakmt_measured_{call}")));
            }
        }
    }
    for (name, label, peer) in lines {
        let what = title(&name);
        if let (true, Some(reason)) = (peer.starts_with("hsakmt"), no_hsakmt) {
            skipped('a', &format!("{what} / libhsakmt"), reason);
            continue;
        }
        let own = cost(costs, &name)?;
        // Advice of a mirror is given and taken back: two calls.
        let taken_back = matches!(name.as_str(), "measured_advise_mirror" | "measured_advise_crowded");
        let calls = if taken_back { 2.0 } else { 1.0 };
        let note = format!("{} system calls, {} allocations", own.system_calls, own.allocations);
        let theirs = get(&peer)? * calls;
        let row = Row::counted('a', what, "instructions", get(&name)?, label, theirs).note(&note);
        let row = match (name.as_str(), label) {
            ("measured_prefetch_vm" | "measured_advise_vm", "ioctl in Rust, same checks") => {
                row.at_most(1.10)
            }
            ("measured_prefetch_mirror", "ioctl in Rust, same checks") => row.at_most(1.10),
            ("measured_set_process", "libhsakmt") => row.at_most(0.5),
            _ => row,
        };
        row.print();
    }
    Ok(())
}

fn batches(costs: &HashMap<String, Cost>) -> Result<(), String> {
    for shape in ["adjacent", "apart"] {
        let of = |count: usize| cost(costs, &format!("measured_{shape}_{count}"));
        for count in BATCHES {
            let (one, many) = (of(1)?, of(count)?);
            let what = format!("prefetch of {count} ranges, {shape}");
            let note = format!("{} ioctls, {} allocations", many.system_calls, many.allocations);
            Row::counted('b', &what, "instructions", many.instructions, "one range", one.instructions)
                .note(&note)
                .print();
        }
        let most = BATCHES[BATCHES.len() - 1];
        let extra = (of(most)?.instructions - of(1)?.instructions) / (most - 1) as f64;
        let what = format!("each further range of {most}, {shape}");
        Row::counted('b', &what, "instructions", extra, "the limit of 60", 60.0).at_most(1.0).print();
    }
    Ok(())
}

fn cost(costs: &HashMap<String, Cost>, name: &str) -> Result<Cost, String> {
    costs.get(name).copied().ok_or_else(|| format!("valgrind did not see {name}; it saw {:?}", costs.keys()))
}

fn title(name: &str) -> &'static str {
    match name {
        "measured_prefetch_vm" => "xe::Vm::prefetch",
        "measured_prefetch_mirror" => "Mirror::prefetch on xe, unobserved",
        "measured_advise_vm" => "xe::Vm::advise",
        "measured_advise_mirror" => "Mirror::advise on xe, and taking it back",
        "measured_advise_crowded" => "the same among 10,000 others",
        "measured_query_vm" => "xe::Vm::range_attributes_into",
        "measured_set_process" => "kfd::Process::set_attributes",
        "measured_set_mirror" => "Mirror::prefetch on KFD, unobserved",
        "measured_get_process" => "kfd::Process::get_attributes",
        _ => "kfd::Process::get_attributes_into",
    }
}
