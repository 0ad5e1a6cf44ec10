//! `cargo xtask lab ...`.

use super::boot;
use super::cache::Cache;
use super::options::{self, GuestOptions, own_kernel, path, seconds, text, unexpected};
use super::programs::Workspace;
use super::session::{self, Conditions, Wanted};
use super::setup::{self, Choice};
use super::{check, list};
use crate::child;
use anyhow::{Context, Result, bail};
use guest_init::{Message, Shell};
use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use std::fs;
use std::io::{IsTerminal, Write};

const HELP: &str = "\
Real kernels with real GPU drivers in QEMU, on virtual GPUs.

cargo xtask lab setup    fetch QEMU, kernels, headers and busybox into the lab's folder
cargo xtask lab list     kernels here and in the archive, and what they support
cargo xtask lab run      run a program in a guest
cargo xtask lab shell    a shell in a guest
cargo xtask lab check    whether the lab notices crashes, hangs, kernel warnings and panics
cargo xtask lab path     print where something lies
cargo xtask lab clean    remove the lab's folder

Each has --help. Nothing is installed and no root is needed.
";

const SETUP_HELP: &str = "\
cargo xtask lab setup [OPTIONS]

Fetches what is missing from the Debian mirror of this machine's apt sources, checked against Debian's keyring.
May be interrupted and run again at any time.

  --all                 the newest kernel of every series that has shared virtual memory (default: the newest only)
  --kernel V            this kernel (release or its beginning); may be repeated
  --kernel PATH --modules DIR
                        link a kernel of your own instead
  --qemu PATH           link a QEMU of your own (10.1 or newer) instead
  --mirror URL          another Debian mirror
  --keyring PATH        another keyring
  --suite NAME          read this suite besides the usual ones; may be repeated
  --cache DIR           the lab's folder
";

const RUN_HELP: &str = "\
cargo xtask lab run [OPTIONS] -- PROGRAM [ARGS] [++ PROGRAM [ARGS]]...

PROGRAM is a static x86_64 program (a path), or the name of an example, binary, test or benchmark of this workspace,
which is then built; where several have one name, the first of these kinds is meant, and KIND:NAME (example:doctor,
test:doctor) names the other. Several programs run one after another in the same guest.

Standard output and error are the program's own. The exit code is that of the first program that failed;
124: time ran out, 125: the guest failed or its kernel complained, 126: not started, 128+N: ended by signal N.

Programs:
  --file HOST:GUEST     put a file or folder into the guest; may be repeated
  --env K=V             may be repeated
  --cwd DIR             in the guest (default: /tmp)
  --user UID[:GID]      run as an ordinary user (default: root); the default group may open the GPU nodes
  --timeout S           for each program (default: 120)
  --results FILE        where to put what programs write to the file $HW_RESULTS names
  --release             build with optimizations
";

const SHELL_HELP: &str = "\
cargo xtask lab shell [OPTIONS]

An interactive busybox on the guest's console. `exit` or Ctrl-A x ends it; Ctrl-A c is QEMU's monitor.

  --busybox PATH        a static busybox of your own
  --file HOST:GUEST     put a file or folder into the guest; may be repeated
";

const PATH_HELP: &str = "\
cargo xtask lab path [--cache DIR] cache|headers|qemu|busybox|kernel [V]

Prints the folder of the newest Linux user-space headers (to pass as include path), of QEMU, of a kernel, or the
busybox program.
";

const CHECK_HELP: &str = "\
cargo xtask lab check [OPTIONS]

Boots guests without a GPU whose programs misbehave in every known way, and compares what is reported.
";

const LIST_HELP: &str = "\
cargo xtask lab list [--here] [--cache DIR]

  --here    only the names of the kernels that are here, the newest first, one a line
";
const CLEAN_HELP: &str = "\
cargo xtask lab clean [--cache DIR] [--logs]

Removes the lab's folder; with --logs only the logs of past boots.
";

/// Runs a command; the result is the task's exit code.
pub(crate) fn main(mut parser: Parser) -> Result<i32> {
    let command = match parser.next()? {
        Some(Value(command)) => command.string()?,
        Some(Long("help") | Short('h')) | None => {
            print!("{HELP}");
            return Ok(0);
        }
        Some(arg) => return Err(unexpected(arg, "lab")),
    };
    match command.as_str() {
        "setup" => setup_command(parser),
        "list" => list_command(parser),
        "run" => lab_failed(run_command(parser)),
        "shell" => lab_failed(shell_command(parser)),
        "check" => lab_failed(check_command(parser)),
        "path" => path_command(parser),
        "clean" => clean_command(parser),
        _ => bail!("no lab command called {command:?}; see `cargo xtask lab --help`"),
    }
}

/// Gives errors an exit code that no program's own is mistaken for.
fn lab_failed(result: Result<i32>) -> Result<i32> {
    match result {
        Err(error) if !error.is::<child::Interrupted>() => {
            eprintln!("xtask: {error:#}");
            Ok(session::LAB_FAILED)
        }
        result => result,
    }
}

fn setup_command(mut parser: Parser) -> Result<i32> {
    let mut options = setup::Options::default();
    let (mut cache, mut all, mut names, mut modules) = (None, false, Vec::new(), None);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return help(&[SETUP_HELP]),
            Long("all") => all = true,
            Long("kernel") => names.push(text(&mut parser)?),
            Long("modules") => modules = Some(path(&mut parser)?),
            Long("qemu") => options.qemu = Some(path(&mut parser)?),
            Long("mirror") => options.source.mirror = Some(text(&mut parser)?),
            Long("keyring") => options.source.keyring = Some(path(&mut parser)?),
            Long("suite") => options.source.suites.push(text(&mut parser)?),
            Long("cache") => cache = Some(path(&mut parser)?),
            arg => return Err(unexpected(arg, "lab setup")),
        }
    }
    let own = names.iter().find(|name| name.contains('/')).map(String::as_str);
    options.kernel = own_kernel(own, modules.as_deref())?;
    names.retain(|name| !name.contains('/'));
    options.choice = match (all, names.is_empty()) {
        (true, false) => bail!("--all and --kernel V exclude each other"),
        (true, true) => Choice::Series,
        (false, true) => Choice::Newest,
        (false, false) => Choice::Named(names),
    };
    setup::setup(&Cache::locate(cache)?, &options)?;
    Ok(0)
}

fn list_command(mut parser: Parser) -> Result<i32> {
    let (mut cache, mut here) = (None, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return help(&[LIST_HELP]),
            Long("here") => here = true,
            Long("cache") => cache = Some(path(&mut parser)?),
            arg => return Err(unexpected(arg, "lab list")),
        }
    }
    let cache = Cache::locate(cache)?;
    print!("{}", if here { list::here(&cache) } else { list::list(&cache) });
    Ok(0)
}

fn path_command(mut parser: Parser) -> Result<i32> {
    let (mut cache, mut words) = (None, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return help(&[PATH_HELP]),
            Long("cache") => cache = Some(path(&mut parser)?),
            Value(word) => words.push(word.string()?),
            arg => return Err(unexpected(arg, "lab path")),
        }
    }
    let cache = Cache::locate(cache)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let found = match words.as_slice() {
        ["cache"] => cache.root().to_owned(),
        ["headers"] => cache.single("headers")?.join("usr/include"),
        ["qemu"] => cache.single("qemu")?,
        ["busybox"] => busybox(&cache)?,
        ["kernel"] => folder_of(&cache, None)?,
        ["kernel", name] => folder_of(&cache, Some(name))?,
        _ => bail!("which path? see `cargo xtask lab path --help`"),
    };
    println!("{}", found.display());
    Ok(0)
}

fn folder_of(cache: &Cache, name: Option<&str>) -> Result<std::path::PathBuf> {
    Ok(cache.path("kernel").join(cache.kernel(name)?.release.as_str()))
}

/// The static busybox that setup fetches.
pub(crate) fn busybox(cache: &Cache) -> Result<std::path::PathBuf> {
    let entry = cache.single("busybox")?;
    let places = [entry.join("usr/bin/busybox"), entry.join("bin/busybox")];
    places.into_iter().find(|path| path.is_file()).context("the busybox package holds no busybox")
}

fn clean_command(mut parser: Parser) -> Result<i32> {
    let (mut cache, mut logs) = (None, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return help(&[CLEAN_HELP]),
            Long("cache") => cache = Some(path(&mut parser)?),
            Long("logs") => logs = true,
            arg => return Err(unexpected(arg, "lab clean")),
        }
    }
    let cache = Cache::locate(cache)?;
    if !cache.root().exists() {
        return Ok(0);
    }
    let _lock = cache.lock()?;
    // Only what the lab makes: the folder may have been named by mistake.
    let parts = ["apt", "qemu", "kernel", "headers", "busybox", "initramfs", "hmm", "upstream", "logs"];
    for part in parts.iter().filter(|part| !logs || **part == "logs") {
        let path = cache.path(part);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    if !logs {
        for file in ["catalog.json", "kvm-trial", "lock"] {
            let _ = fs::remove_file(cache.path(file));
        }
        let _ = fs::remove_dir(cache.root());
    }
    Ok(0)
}

fn run_command(mut parser: Parser) -> Result<i32> {
    let mut guest = GuestOptions::default();
    let mut conditions = Conditions::default();
    let (mut files, mut results, mut words) = (Vec::new(), None, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return help(&[RUN_HELP, "\n", options::HELP]),
            Long("file") => files.push(options::parse_file(&text(&mut parser)?)?),
            Long("env") => conditions.env.push(parse_env(&text(&mut parser)?)?),
            Long("cwd") => conditions.cwd = text(&mut parser)?,
            Long("user") => conditions.user = Some(options::parse_user(&text(&mut parser)?)?),
            Long("timeout") => conditions.timeout = seconds(&mut parser)?,
            Long("results") => results = Some(path(&mut parser)?),
            Long("release") => conditions.release = true,
            Long(name) => {
                let name = name.to_owned();
                if !guest.take(&name, &mut parser)? {
                    return Err(unexpected(Long(&name), "lab run"));
                }
            }
            // Whatever follows the program's name is the program's.
            Value(word) => {
                words.push(word.string()?);
                for word in parser.raw_args()? {
                    words.push(word.string()?);
                }
            }
            arg => return Err(unexpected(arg, "lab run")),
        }
    }
    let wanted = split_programs(&words)?;
    let workspace = Workspace::load()?;
    let gpus = guest.gpus();
    let tools = session::tools(&guest, &workspace, gpus.iter().any(|gpus| gpus.count > 0))?;
    let kernel = guest.kernel(&tools.cache)?;
    let accel = session::accelerator(&guest, &tools, &kernel)?;
    let mut spec = session::spec(&guest, kernel, accel, gpus);
    spec.files = files;
    for program in &wanted {
        session::add_program(&mut spec, &workspace, program, &conditions)?;
    }
    let mut results = results.map(fs::File::create).transpose().context("cannot write the results file")?;
    let report = boot::run(&tools, &spec, &mut |message| {
        // A closed pipe of ours is no reason to end the guest in the middle.
        let _ = match message {
            Message::Stdout(_, bytes) => {
                std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush())
            }
            Message::Stderr(_, bytes) => std::io::stderr().write_all(bytes),
            Message::Results(_, bytes) => results.as_mut().map_or(Ok(()), |file| file.write_all(bytes)),
            Message::Note(text) => writeln!(std::io::stderr(), "lab: guest: {text}"),
            _ => Ok(()),
        };
    })?;
    if let Some(time) = report.to_first_program {
        let attempts = if report.attempts > 1 { ", second attempt" } else { "" };
        eprintln!("lab: first program after {:.1} s{attempts}", time.as_secs_f32());
    }
    for (end, program) in report.programs.iter().zip(&wanted) {
        if let Some(text) = session::describe_end(end) {
            eprintln!("lab: {}: {text}", program.program);
        }
    }
    eprint!("{}{}", session::describe_unknown(&report), session::describe_trouble(&report));
    if !report.is_sound() {
        return Ok(session::LAB_FAILED);
    }
    Ok(report.programs.iter().map(session::exit_code).find(|code| *code != 0).unwrap_or(0))
}

/// Programs are separated by `++`.
fn split_programs(words: &[String]) -> Result<Vec<Wanted>> {
    let wanted = |words: &[String]| match words {
        [program, args @ ..] => Ok(Wanted { program: program.clone(), args: args.to_vec() }),
        [] => bail!("which program? see `cargo xtask lab run --help`"),
    };
    words.split(|word| word == "++").map(wanted).collect()
}

fn parse_env(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => bail!("--env wants KEY=VALUE, not {text:?}"),
    }
}

fn check_command(mut parser: Parser) -> Result<i32> {
    let mut guest = GuestOptions::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return help(&[CHECK_HELP, "\n", options::HELP]),
            Long(name) => {
                let name = name.to_owned();
                if !guest.take(&name, &mut parser)? {
                    return Err(unexpected(Long(&name), "lab check"));
                }
            }
            arg => return Err(unexpected(arg, "lab check")),
        }
    }
    let wrong = check::check(&guest, &Workspace::load()?)?;
    for line in &wrong {
        eprintln!("lab: WRONG: {line}");
    }
    println!(
        "{}",
        if wrong.is_empty() { "the lab notices everything it should" } else { "the lab missed something" }
    );
    Ok(i32::from(!wrong.is_empty()))
}

fn shell_command(mut parser: Parser) -> Result<i32> {
    let mut guest = GuestOptions::default();
    let (mut files, mut own_busybox) = (Vec::new(), None);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return help(&[SHELL_HELP, "\n", options::HELP]),
            Long("busybox") => own_busybox = Some(path(&mut parser)?),
            Long("file") => files.push(options::parse_file(&text(&mut parser)?)?),
            Long(name) => {
                let name = name.to_owned();
                if !guest.take(&name, &mut parser)? {
                    return Err(unexpected(Long(&name), "lab shell"));
                }
            }
            arg => return Err(unexpected(arg, "lab shell")),
        }
    }
    let workspace = Workspace::load()?;
    let gpus = guest.gpus();
    let tools = session::tools(&guest, &workspace, gpus.iter().any(|gpus| gpus.count > 0))?;
    let kernel = guest.kernel(&tools.cache)?;
    let accel = session::accelerator(&guest, &tools, &kernel)?;
    let mut spec = session::spec(&guest, kernel, accel, gpus);
    let busybox = own_busybox.map_or_else(|| busybox(&tools.cache), Ok)?;
    super::initramfs::check_program(&busybox)?;
    files.push(super::initramfs::GuestFile { host: busybox, guest: "/bin/busybox".into() });
    spec.files = files;
    // A session of its own with the console as its terminal, so that Ctrl-C works in it.
    let script = "/bin/busybox --install -s /bin; exec setsid -c sh -l";
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| (size.ws_row, size.ws_col));
    spec.shell = Some(Shell {
        path: "/bin/busybox".into(),
        args: vec!["sh".into(), "-c".into(), script.into()],
        size,
    });
    let terminal = TerminalGuard::new();
    let report = boot::run_once(&tools, &spec, &mut |_| {})?;
    drop(terminal);
    eprint!("{}", session::describe_trouble(&report));
    Ok(if report.is_sound() { 0 } else { session::LAB_FAILED })
}

/// Puts the terminal back as it was: QEMU changes it, and cannot undo that when it is killed.
struct TerminalGuard(Option<rustix::termios::Termios>);

impl TerminalGuard {
    fn new() -> Self {
        let stdin = std::io::stdin();
        Self(if stdin.is_terminal() { rustix::termios::tcgetattr(&stdin).ok() } else { None })
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            let now = rustix::termios::OptionalActions::Now;
            let _ = rustix::termios::tcsetattr(std::io::stdin(), now, settings);
        }
    }
}

fn help(parts: &[&str]) -> Result<i32> {
    print!("{}", parts.concat());
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_split_at_plus_signs() {
        let words: Vec<String> = ["a", "--x", "++", "b", "--", "c"].map(str::to_owned).to_vec();
        let wanted = split_programs(&words).unwrap();
        assert_eq!(wanted.len(), 2);
        assert_eq!((wanted[0].program.as_str(), wanted[0].args.len()), ("a", 1));
        assert_eq!(wanted[1].args, ["--", "c"]);
        assert!(split_programs(&[]).is_err());
        assert!(split_programs(&words[..3]).is_err());
    }

    #[test]
    fn unknown_words_are_named_with_where_to_look() {
        let error = format!("{:#}", main(Parser::from_args(["list", "--nope"])).unwrap_err());
        assert!(error.contains("--nope") && error.contains("lab list --help"), "{error}");
        assert_eq!(main(Parser::from_args(["run", "--nope"])).unwrap(), session::LAB_FAILED);
        let error = main(Parser::from_args(["fly"])).unwrap_err().to_string();
        assert!(error.contains("fly"), "{error}");
        assert!(main(Parser::from_args(["path", "nowhere"])).is_err());
        assert!(main(Parser::from_args(["setup", "--all", "--kernel", "7.3"])).is_err());
    }
}
