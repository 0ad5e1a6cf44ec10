//! `cargo xtask diff`: simulated devices against the real drivers in the lab, step by step.

use crate::lab::{
    Conditions, End, GuestFile, GuestOptions, Message, OPTIONS_HELP, Spec, Tools, Vendor, Wanted, Workspace,
    accelerator, add_program, boot, describe_end, describe_trouble, seconds, spec, text, tools, unexpected,
};
use anyhow::{Context, Result, bail};
use lexopt::Arg::{Long, Short};
use lexopt::Parser;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HELP: &str = "\
cargo xtask diff --driver xe|kfd [OPTIONS]

Runs random scripts of operations on the simulated device and, in a guest of the lab, on the real driver; compares the
answers step by step, and cuts what differs down to a short script. Needs `cargo xtask lab setup`.

  --driver xe|kfd       which driver (required)
  --seed N              the first seed (default: 1)
  --seeds COUNT         how many (default: 1; 0 with --corpus or --script)
  --steps M             about how many steps each script has (default: 30)
  --corpus              the fixed corpus: its seeds, and the saved scripts of former mismatches
  --script FILE         one saved script; may be repeated
  --record FILE         keep the real driver's answers, for `cargo test --test diff -- replay`
  --tries N             runs that the search for a shorter script may take (default: 300); with 0 what
                        differs is not run again either
  --timeout S           for the whole run (default: 3600)
  --release             build with optimizations

Where the driver does not get everything back from processes that end, the rest goes to another guest.

Exit code 0: nothing differs but what is known and justified; 1: something does, or a guest, kernel or driver failed;
2: nothing was compared.
";

/// The differential test of this workspace.
const PROGRAM: &str = "diff";
/// Its exit code when something differs, and what it adds when the machine is spent (`tests/diff/frame/session.rs`).
const DIFFERS: i32 = 1;
const SPENT: i32 = 4;
/// Where saved scripts are, below the workspace's folder.
const CORPUS: &str = "tests/diff/corpus";

/// A driver, and what its kernel log says when scripts do on purpose what a driver complains about.
struct Driver {
    name: &'static str,
    vendor: Vendor,
    expected_log: &'static [&'static str],
}

const DRIVERS: &[Driver] = &[
    Driver {
        name: "xe",
        vendor: Vendor::Intel,
        expected_log: &[
            // A fault that cannot be served ends a queue.
            "Engine memory CAT error",
            // An atomic on memory that cannot go to VRAM.
            "VRAM allocation failed, retry count exceeded",
            "Get pages failed, retry count exceeded",
            // Of 7.3: automatic reset warns when it merges a mapping whose attributes are not the default ones.
            "at xe_vm_alloc_vma+",
        ],
    },
    Driver { name: "kfd", vendor: Vendor::Amd, expected_log: &[] },
];

struct Options {
    driver: &'static Driver,
    guest: GuestOptions,
    conditions: Conditions,
    scripts: Vec<PathBuf>,
    corpus: bool,
    record: Option<PathBuf>,
    seeds: Seeds,
    /// For the program in the guest, as they are.
    words: Vec<String>,
}

/// The random scripts: the first, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seeds {
    first: u64,
    count: u64,
}

impl Seeds {
    fn has(self, seed: u64) -> bool {
        seed.checked_sub(self.first).is_some_and(|number| number < self.count)
    }

    /// Those from `seed` on.
    fn from(self, seed: u64) -> Self {
        Self { first: seed, count: (self.first.saturating_add(self.count)).saturating_sub(seed) }
    }

    fn words(self) -> [String; 4] {
        ["--seed".into(), self.first.to_string(), "--seeds".into(), self.count.to_string()]
    }
}

/// Runs the task; the result is its exit code.
pub(crate) fn main(mut parser: Parser) -> Result<i32> {
    let Some(options) = parse(&mut parser)? else {
        print!("{HELP}\n{OPTIONS_HELP}");
        return Ok(0);
    };
    let workspace = Workspace::load()?;
    let tools = tools(&options.guest, &workspace, true)?;
    let kernel = options.guest.kernel(&tools.cache)?;
    let accel = accelerator(&options.guest, &tools, &kernel)?;
    let gpus = options.guest.gpus_of(options.driver.vendor, options.guest.gpus);
    let scripts = scripts(&options)?;
    let (mut results, mut worst, mut from) = (Vec::new(), 0, None);
    loop {
        let mut spec = spec(&options.guest, kernel.clone(), accel, vec![gpus.clone()]);
        spec.expected.extend(options.driver.expected_log.iter().map(ToString::to_string));
        let mut args = vec!["run".to_owned(), "--driver".into(), options.driver.name.into()];
        args.extend(options.words.clone());
        match from {
            // What is not a seed was compared before.
            Some(seed) => args.extend(options.seeds.from(seed).words()),
            None => {
                args.extend(options.seeds.words());
                if options.corpus {
                    args.push("--corpus".into());
                }
                for script in &scripts {
                    let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    let guest = format!("/scripts/{}/{name}", spec.files.len());
                    args.extend(["--script".into(), guest.clone()]);
                    spec.files.push(GuestFile { host: script.clone(), guest });
                }
            }
        }
        let wanted = Wanted { program: PROGRAM.into(), args };
        add_program(&mut spec, &workspace, &wanted, &options.conditions)?;
        let code = compare(&tools, &spec, &mut results)?;
        let verdict = if code >= SPENT { code - SPENT } else { code };
        worst = if worst == DIFFERS { worst } else { verdict };
        let last = last_script(&results);
        let next = last.strip_prefix("seed ").and_then(|seed| seed.parse().ok());
        match next.filter(|next| code >= SPENT && from.is_none_or(|from| *next > from)) {
            Some(next) if options.seeds.has(next) => {
                println!("diff: {last} and later ones in another guest");
                from = Some(next);
            }
            _ if code >= SPENT => {
                eprintln!("diff: {last} cannot be compared: the driver has nothing left for it");
                worst = DIFFERS;
                break;
            }
            _ => break,
        }
    }
    if let Some(path) = &options.record {
        fs::write(path, &results).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if worst > 2 { DIFFERS } else { worst })
}

/// Compares in one guest. The exit code of the program there.
fn compare(tools: &Tools, spec: &Spec, results: &mut Vec<u8>) -> Result<i32> {
    let mut report = boot(tools, spec, &mut |message| match message {
        Message::Stdout(_, bytes) => show(&mut std::io::stdout(), bytes),
        Message::Stderr(_, bytes) => show(&mut std::io::stderr(), bytes),
        Message::Results(_, bytes) => results.extend_from_slice(bytes),
        _ => {}
    })?;
    let mut code = match report.programs.first() {
        Some(End::Exited(code)) => *code,
        end => {
            let how = end.and_then(describe_end).unwrap_or_else(|| "was not started".into());
            report.trouble.push(format!("the comparison {how}"));
            1
        }
    };
    if !report.is_sound() {
        eprint!("{}", describe_trouble(&report));
        eprintln!("diff: the last script was {}", last_script(results));
        // A driver that is spent may well complain. Scripts before were compared all the same.
        if code < SPENT {
            code = DIFFERS;
        }
    }
    Ok(code)
}

fn parse(parser: &mut Parser) -> Result<Option<Options>> {
    let mut driver = None;
    let mut options = Options {
        driver: &DRIVERS[0],
        guest: GuestOptions::default(),
        conditions: Conditions { timeout: Duration::from_secs(3600), ..Conditions::default() },
        scripts: Vec::new(),
        corpus: false,
        record: None,
        seeds: Seeds { first: 1, count: 0 },
        words: Vec::new(),
    };
    let mut count = None;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(None),
            Long("driver") => driver = Some(text(parser)?),
            Long("seed") => options.seeds.first = number(parser)?,
            Long("seeds") => count = Some(number(parser)?),
            Long(name @ ("steps" | "tries")) => {
                let name = format!("--{name}");
                options.words.extend([name, text(parser)?]);
            }
            Long("corpus") => options.corpus = true,
            Long("record") => {
                options.record = Some(text(parser)?.into());
                options.words.push("--record".into());
            }
            Long("script") => options.scripts.push(text(parser)?.into()),
            Long("timeout") => options.conditions.timeout = seconds(parser)?,
            Long("release") => options.conditions.release = true,
            Long(name) => {
                let name = name.to_owned();
                if !options.guest.take(&name, parser)? {
                    return Err(unexpected(Long(&name), "diff"));
                }
            }
            arg => return Err(unexpected(arg, "diff")),
        }
    }
    let driver = driver.context("--driver xe or --driver kfd is needed")?;
    options.driver = DRIVERS
        .iter()
        .find(|known| known.name == driver)
        .with_context(|| format!("no driver called {driver:?}: xe or kfd"))?;
    if options.guest.gpus == 0 {
        bail!("--gpus 0 leaves nothing to compare");
    }
    let none_by_default = options.corpus || !options.scripts.is_empty();
    options.seeds.count = count.unwrap_or(if none_by_default { 0 } else { 1 });
    Ok(Some(options))
}

/// The scripts to run: those asked for, and with the corpus the saved ones of the driver.
fn scripts(options: &Options) -> Result<Vec<PathBuf>> {
    let mut scripts = options.scripts.clone();
    if options.corpus {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CORPUS).join(options.driver.name);
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut saved = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        saved.retain(|path| path.extension().is_some_and(|extension| extension == "script"));
        saved.sort();
        scripts.extend(saved);
    }
    Ok(scripts)
}

fn show(to: &mut dyn Write, bytes: &[u8]) {
    // A closed terminal does not end the comparison.
    let _ = to.write_all(bytes).and_then(|()| to.flush());
}

fn number(parser: &mut Parser) -> Result<u64> {
    let text = text(parser)?;
    text.parse().with_context(|| format!("{text:?} is not a number"))
}

/// The script that was under way last, by the lines that say which one begins.
fn last_script(results: &[u8]) -> String {
    let text = String::from_utf8_lossy(results);
    text.lines().rev().find_map(|line| line.strip_prefix("# ")).unwrap_or("none").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Options> {
        parse(&mut Parser::from_args(words)).map(|options| options.expect("no --help"))
    }

    #[test]
    fn options_choose_driver_scripts_and_seeds() {
        let options = parsed(&["--driver", "kfd", "--seed", "5", "--seeds", "9", "--kernel", "7.2"]).unwrap();
        assert_eq!((options.driver.name, options.driver.vendor), ("kfd", Vendor::Amd));
        assert_eq!(options.seeds, Seeds { first: 5, count: 9 });
        assert_eq!(parsed(&["--driver", "xe"]).unwrap().seeds, Seeds { first: 1, count: 1 });
        let options = parsed(&["--driver", "xe", "--corpus", "--steps", "3"]).unwrap();
        assert_eq!(
            (&options.words[..], options.seeds.count),
            (&["--steps".to_owned(), "3".to_owned()][..], 0)
        );
        let saved = scripts(&options).unwrap();
        assert!(saved.iter().all(|path| path.extension().is_some_and(|extension| extension == "script")));
    }

    #[test]
    fn what_a_spent_driver_leaves_goes_to_another_guest() {
        let seeds = Seeds { first: 5, count: 9 };
        assert!(seeds.has(5) && seeds.has(13) && !seeds.has(4) && !seeds.has(14));
        assert_eq!(seeds.from(8), Seeds { first: 8, count: 6 });
        assert_eq!(seeds.from(13).words(), ["--seed", "13", "--seeds", "1"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for words in
            [&[][..], &["--driver", "i915"], &["--driver", "xe", "--gpus", "0"], &["--driver", "xe", "x"]]
        {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
