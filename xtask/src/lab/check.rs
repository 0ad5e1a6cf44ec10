//! `lab check`: whether the lab notices what it must notice. Boots guests without a GPU whose programs misbehave in
//! every known way, and compares what is reported.

use super::boot::run_once;
use super::initramfs::GuestFile;
use super::options::GuestOptions;
use super::programs::{Kind, Target, Workspace};
use super::session;
use super::spec::{End, Report, Spec, Tools};
use anyhow::Result;
use guest_init::{Message, Program, User};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PROBE: &str = "/bin/lab-probe";
const FLOOD_LINES: u32 = 5000;

/// Runs all checks; the lines name what went wrong.
pub(crate) fn check(options: &GuestOptions, workspace: &Workspace) -> Result<Vec<String>> {
    let tools = session::tools(options, workspace, false)?;
    let kernel = options.kernel(&tools.cache)?;
    let accel = session::accelerator(options, &tools, &kernel)?;
    let target = Target { package: "guest-init".into(), kind: Kind::Bin, name: "lab-probe".into() };
    let probe = workspace.build_static(&target, true)?;
    let base = session::spec(options, kernel, accel, Vec::new());
    let mut wrong = Vec::new();
    for (name, judge) in
        [("programs", programs as Check), ("complaint", complaint), ("panic", panic), ("boot", boot)]
    {
        eprintln!("lab: checking: {name}");
        judge(&Bench { tools: &tools, base: &base, probe: &probe }, &mut wrong)?;
    }
    Ok(wrong)
}

type Check = fn(&Bench<'_>, &mut Vec<String>) -> Result<()>;

struct Bench<'a> {
    tools: &'a Tools,
    base: &'a Spec,
    probe: &'a Path,
}

/// What the programs of one boot wrote.
#[derive(Default)]
struct Output {
    stdout: BTreeMap<u32, Vec<u8>>,
    results: BTreeMap<u32, Vec<u8>>,
}

impl Output {
    fn text(of: &BTreeMap<u32, Vec<u8>>, program: u32) -> String {
        String::from_utf8_lossy(of.get(&program).map_or(&[], Vec::as_slice)).into_owned()
    }
}

impl Bench<'_> {
    fn spec(&self, programs: &[&[&str]]) -> Spec {
        let mut spec = self.base.clone();
        spec.files.push(GuestFile { host: self.probe.to_owned(), guest: PROBE.into() });
        spec.programs = programs.iter().map(|words| program(words)).collect();
        spec
    }

    fn run(&self, spec: &Spec) -> Result<(Report, Output)> {
        let mut output = Output::default();
        let report = run_once(self.tools, spec, &mut |message| match message {
            Message::Stdout(program, bytes) => output.stdout.entry(*program).or_default().extend(bytes),
            Message::Results(program, bytes) => output.results.entry(*program).or_default().extend(bytes),
            _ => {}
        })?;
        Ok((report, output))
    }
}

fn program(words: &[&str]) -> Program {
    Program {
        path: PROBE.into(),
        args: words.iter().map(|word| (*word).to_owned()).collect(),
        env: vec![("PROBE".into(), "from the host".into())],
        cwd: "/tmp".into(),
        user: None,
        timeout_ms: 60_000,
    }
}

/// Ends, output, limits and identity of programs, all in one guest.
fn programs(bench: &Bench<'_>, wrong: &mut Vec<String>) -> Result<()> {
    let flood = FLOOD_LINES.to_string();
    let mut spec = bench.spec(&[
        &["exit", "7"],
        &["signal"],
        &["hang"],
        &["leave-child"],
        &["flood", &flood],
        &["results", "as user"],
        &["identity"],
        &["read", "/data/file"],
        &["kernel-log", "BUG: announced by the check"],
        &["exit", "0"],
        &["exit", "0"],
    ]);
    spec.programs[2].timeout_ms = 2_000;
    for number in [5, 6] {
        spec.programs[number].user = Some(User { uid: 1000, gid: 1001 });
    }
    spec.programs[6].cwd = "/".into();
    spec.programs[9].path = "/bin/absent".into();
    spec.expected.push("announced by the check".into());
    let folder = tempfile::tempdir()?;
    let host: PathBuf = folder.path().join("file");
    std::fs::write(&host, "put there by the host\n")?;
    spec.files.push(GuestFile { host, guest: "/data/file".into() });
    let (report, output) = bench.run(&spec)?;
    let mut expect = |what: &str, holds: bool| {
        if !holds {
            wrong.push(format!("{what} ({:?}, logs in {})", report.programs, report.logs.display()));
        }
    };
    let ends = &report.programs;
    expect("a guest that ends in order is sound", report.is_sound());
    expect("an exit code is reported", ends[0] == End::Exited(7));
    expect("a signal is reported", ends[1] == End::Signaled(6));
    expect("output before a signal is kept", Output::text(&output.stdout, 1) == "before the signal\n");
    expect(
        "a hang is reported, with stacks",
        matches!(&ends[2], End::TimedOut(at) if at.contains("nanosleep")),
    );
    expect("output before a hang is kept", Output::text(&output.stdout, 2) == "before hanging\n");
    expect("a process left behind does not hold up the next program", ends[3] == End::Exited(0));
    let lines: Vec<String> = (0..FLOOD_LINES).map(|number| format!("{number:0>99}")).collect();
    let arrived = Output::text(&output.stdout, 4);
    expect("much output arrives whole", arrived.lines().eq(lines.iter().map(String::as_str)));
    expect("an ordinary user can report results", Output::text(&output.results, 5) == "as user");
    let identity = Output::text(&output.stdout, 6);
    expect("user, folder and environment are as asked", identity == "1000 1001\n/\nfrom the host\n");
    expect("a file of the host is there", Output::text(&output.stdout, 7) == "put there by the host\n");
    expect("a missing program is reported", matches!(&ends[9], End::NotStarted(_)));
    expect("programs after all that still run", ends[10] == End::Exited(0));
    Ok(())
}

/// A line of the kernel's log that nobody expected.
fn complaint(bench: &Bench<'_>, wrong: &mut Vec<String>) -> Result<()> {
    let (report, _) = bench.run(&bench.spec(&[&["kernel-log", "WARNING: made up by the check"]]))?;
    if report.is_sound() || report.complaints.len() != 1 || report.programs != [End::Exited(0)] {
        wrong.push(format!("a kernel warning must be reported: {report:?}"));
    }
    Ok(())
}

/// A kernel that dies.
fn panic(bench: &Bench<'_>, wrong: &mut Vec<String>) -> Result<()> {
    let (report, _) = bench.run(&bench.spec(&[&["panic"], &["exit", "0"]]))?;
    let named = report.complaints.iter().any(|line| line.contains("Kernel panic"));
    if report.is_sound() || !named || report.programs != [End::Unknown, End::Unknown] {
        wrong.push(format!("a kernel panic must be reported: {report:?}"));
    }
    Ok(())
}

/// A guest that does not start in its time.
fn boot(bench: &Bench<'_>, wrong: &mut Vec<String>) -> Result<()> {
    let mut spec = bench.spec(&[&["exit", "0"]]);
    spec.append.push("rdinit=/nothing/there".into());
    spec.boot_wait = spec.boot_wait.min(Duration::from_secs(60));
    let (report, _) = bench.run(&spec)?;
    if report.is_sound() || report.ready_ms.is_some() || report.programs != [End::Unknown] {
        wrong.push(format!("a boot that fails must be reported: {report:?}"));
    }
    Ok(())
}
