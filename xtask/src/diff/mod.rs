//! `cargo xtask diff`: simulated devices against the real drivers in the lab, step by step.

use crate::lab::{
    Conditions, End, GuestFile, GuestOptions, Message, OPTIONS_HELP, Vendor, Wanted, Workspace, accelerator,
    add_program, boot, describe_end, describe_trouble, seconds, spec, text, tools, unexpected,
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

Exit code 0: nothing differs but what is known and justified; 1: something does, or a guest, kernel or driver failed;
2: nothing was compared.
";

/// The differential test of this workspace.
const PROGRAM: &str = "diff";
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
    /// For the program in the guest, as they are.
    words: Vec<String>,
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
    let mut spec = spec(&options.guest, kernel, accel, vec![gpus]);
    spec.expected.extend(options.driver.expected_log.iter().map(ToString::to_string));
    let mut args = vec!["run".to_owned(), "--driver".into(), options.driver.name.into()];
    args.extend(options.words.clone());
    for script in scripts(&options)? {
        let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let guest = format!("/scripts/{}/{name}", spec.files.len());
        args.extend(["--script".into(), guest.clone()]);
        spec.files.push(GuestFile { host: script, guest });
    }
    add_program(&mut spec, &workspace, &Wanted { program: PROGRAM.into(), args }, &options.conditions)?;
    let mut results = Vec::new();
    let mut report = boot(&tools, &spec, &mut |message| match message {
        Message::Stdout(_, bytes) => show(&mut std::io::stdout(), bytes),
        Message::Stderr(_, bytes) => show(&mut std::io::stderr(), bytes),
        Message::Results(_, bytes) => results.extend_from_slice(bytes),
        _ => {}
    })?;
    if let Some(path) = &options.record {
        fs::write(path, &results).with_context(|| format!("cannot write {}", path.display()))?;
    }
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
        eprintln!("diff: the last script was {}", last_script(&results));
        code = 1;
    }
    Ok(if code > 2 { 1 } else { code })
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
        words: Vec::new(),
    };
    let (mut seed, mut seeds) = ("1".to_owned(), None);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(None),
            Long("driver") => driver = Some(text(parser)?),
            Long("seed") => seed = text(parser)?,
            Long("seeds") => seeds = Some(text(parser)?),
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
    let seeds = seeds.unwrap_or_else(|| if none_by_default { "0" } else { "1" }.into());
    options.words.extend(["--seed".into(), seed, "--seeds".into(), seeds]);
    if options.corpus {
        options.words.push("--corpus".into());
    }
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
        assert_eq!(options.words, ["--seed", "5", "--seeds", "9"]);
        let options = parsed(&["--driver", "xe", "--corpus", "--steps", "3"]).unwrap();
        assert_eq!(options.words, ["--steps", "3", "--seed", "1", "--seeds", "0", "--corpus"]);
        let saved = scripts(&options).unwrap();
        assert!(saved.iter().all(|path| path.extension().is_some_and(|extension| extension == "script")));
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
