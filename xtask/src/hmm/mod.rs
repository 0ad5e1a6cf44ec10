//! `cargo xtask hmm`: residency against the truth, on a real kernel with real device pages.
//!
//! The kernel has a test device for heterogeneous memory, `lib/test_hmm.c`. It moves pages of a process to memory of its own
//! through the very functions that GPU drivers use, and tells where each page is. No distribution ships it as a
//! module, so it is built here from the distribution's kernel source and never kept in this repository.

mod build;

use crate::lab::{
    Conditions, End, GuestFile, GuestOptions, Message, ModuleTree, OPTIONS_HELP, Wanted, Workspace,
    accelerator, add_program, boot, describe_end, describe_trouble, seconds, spec, text, tools, unexpected,
};
use anyhow::{Context, Result, bail};
use guest_init::User;
use lexopt::Arg::{Long, Short};
use lexopt::Parser;
use std::fs;
use std::io::Write;
use std::time::Duration;

const HELP: &str = "\
cargo xtask hmm [OPTIONS]

Compares residency with the snapshot of the kernel's own test device for heterogeneous memory, as root and as an
ordinary user, without swap, with swap that writes at once, and with swap that leaves pages in the swap cache.
The device's module is built on first use, from the source package of the kernel; that takes gcc, make and xz.
Needs `cargo xtask lab setup`.

  --filter TEXT         only tests with this text in their name
  --timeout S           for each of the runs (default: 600)
  --release             build with optimizations
";

/// The machine: the last 512 MiB are hidden from the kernel, to serve as coherent memory of two test devices.
const MEMORY_MIB: u32 = 2048;
const VISIBLE: &str = "mem=1536M";
/// Pages for the tests of hugetlb memory.
const HUGETLB: &str = "hugepages=8";
const COHERENT: &str = "spm_addr_dev0=0x60000000 spm_addr_dev1=0x70000000";

/// Where modules lie in the guest.
const MODULES: &str = "/lib/modules";

const USER: User = User { uid: 1000, gid: 1000 };

/// One program in the guest; they run one after another.
struct Step {
    suite: &'static str,
    user: Option<User>,
    /// Kind and size of the swap area to switch to.
    swap: Option<&'static str>,
    title: &'static str,
}

const STEPS: &[Step] = &[
    Step { suite: "hmm", user: None, swap: None, title: "root, no swap" },
    Step { suite: "hmm", user: Some(USER), swap: None, title: "user, no swap" },
    Step {
        suite: "residency_kernel",
        user: Some(USER),
        swap: None,
        title: "user, no swap, without the device",
    },
    Step { suite: "hmm", user: None, swap: Some("zram:256"), title: "root, swap that writes at once" },
    Step { suite: "hmm", user: Some(USER), swap: None, title: "user, swap that writes at once" },
    Step { suite: "residency_kernel", user: Some(USER), swap: None, title: "user, swap, without the device" },
    Step { suite: "hmm", user: None, swap: Some("loop:256"), title: "root, swap with a swap cache" },
    Step { suite: "hmm", user: Some(USER), swap: None, title: "user, swap with a swap cache" },
];

pub(crate) fn main(mut parser: Parser) -> Result<i32> {
    let mut guest = GuestOptions { gpus: 0, memory_mib: Some(MEMORY_MIB), ..GuestOptions::default() };
    let mut conditions = Conditions { timeout: Duration::from_secs(600), ..Conditions::default() };
    let mut filter = None;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => {
                print!("{HELP}\n{OPTIONS_HELP}");
                return Ok(0);
            }
            Long("filter") => filter = Some(text(&mut parser)?),
            Long("timeout") => conditions.timeout = seconds(&mut parser)?,
            Long("release") => conditions.release = true,
            Long(name) => {
                let name = name.to_owned();
                if !guest.take(&name, &mut parser)? {
                    return Err(unexpected(Long(&name), "hmm"));
                }
            }
            arg => return Err(unexpected(arg, "hmm")),
        }
    }
    if guest.memory_mib != Some(MEMORY_MIB) || guest.gpus != 0 {
        bail!("the machine of this test has {MEMORY_MIB} MiB and no GPU");
    }
    guest.append.extend([VISIBLE, HUGETLB].map(str::to_owned));
    run(&guest, &conditions, filter.as_deref())
}

fn run(guest: &GuestOptions, conditions: &Conditions, filter: Option<&str>) -> Result<i32> {
    let workspace = Workspace::load()?;
    let tools = tools(guest, &workspace, false)?;
    let kernel = guest.kernel(&tools.cache)?;
    let device = build::module(&tools.cache, &kernel)?;

    let folder =
        tempfile::Builder::new().prefix("hmm-").tempdir().context("cannot make a folder for modules")?;
    let mut files = vec![GuestFile { host: device, guest: format!("{MODULES}/{}", build::FILE) }];
    let mut list = vec![format!("{MODULES}/{} {COHERENT}", build::FILE)];
    for module in ModuleTree::scan(&kernel.modules)?.closure(&["loop", "zram"])? {
        let host = folder.path().join(format!("{}.ko", module.name));
        fs::write(&host, &module.content).with_context(|| format!("cannot write {}", host.display()))?;
        let guest = format!("{MODULES}/{}.ko", module.name);
        list.push(guest.clone());
        files.push(GuestFile { host, guest });
    }

    let accel = accelerator(guest, &tools, &kernel)?;
    let mut spec = spec(guest, kernel, accel, Vec::new());
    spec.files = files;
    for (index, step) in STEPS.iter().enumerate() {
        let mut conditions = Conditions { user: step.user, ..conditions.clone() };
        if index == 0 {
            conditions.env.push(("HMM_MODULES".into(), list.join(",")));
        }
        conditions.env.extend(step.swap.map(|swap| ("HMM_SWAP".into(), swap.into())));
        let wanted =
            Wanted { program: step.suite.into(), args: filter.map(str::to_owned).into_iter().collect() };
        add_program(&mut spec, &workspace, &wanted, &conditions)?;
    }
    let report = boot(&tools, &spec, &mut show)?;

    let mut failed = false;
    for (end, step) in report.programs.iter().zip(STEPS) {
        let what = match (end, describe_end(end)) {
            (End::Exited(0), _) => continue,
            (_, Some(text)) => text,
            (_, None) => "tests failed".into(),
        };
        eprintln!("hmm: {} as {}: {what}", step.suite, step.title);
        failed = true;
    }
    eprint!("{}", describe_trouble(&report));
    Ok(i32::from(failed || !report.is_sound()))
}

/// Passes on what the programs print, with a line before each.
fn show(message: &Message) {
    let step = |index: &u32| STEPS.get(*index as usize);
    // A closed pipe of ours is no reason to end the guest in the middle.
    let _ = match message {
        Message::Started(index) => match step(index) {
            Some(step) => writeln!(std::io::stdout(), "\nhmm: {} as {}", step.suite, step.title),
            None => Ok(()),
        },
        Message::Stdout(_, bytes) | Message::Stderr(_, bytes) => {
            std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush())
        }
        Message::Note(text) => writeln!(std::io::stderr(), "hmm: guest: {text}"),
        _ => Ok(()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_can_load_modules_and_only_root_makes_swap() {
        assert!(STEPS[0].user.is_none());
        assert!(STEPS.iter().all(|step| step.swap.is_none() || step.user.is_none()));
        assert!(STEPS.iter().any(|step| step.user.is_some() && step.suite == "hmm"));
    }

    #[test]
    fn the_coherent_memory_is_what_the_kernel_does_not_see() {
        let visible: u64 = VISIBLE.trim_start_matches("mem=").trim_end_matches('M').parse().unwrap();
        let addresses: Vec<u64> = COHERENT
            .split_whitespace()
            .map(|word| u64::from_str_radix(word.split_once("=0x").unwrap().1, 16).unwrap())
            .collect();
        const EACH: u64 = 256 << 20;
        assert_eq!(addresses, [visible << 20, (visible << 20) + EACH]);
        assert_eq!(addresses[1] + EACH, u64::from(MEMORY_MIB) << 20);
    }

    #[test]
    fn options_that_the_machine_cannot_have_are_refused() {
        for words in [&["--memory", "512"][..], &["--gpus", "1"], &["--nope"], &["word"]] {
            assert!(main(Parser::from_args(words)).is_err(), "{words:?}");
        }
    }
}
