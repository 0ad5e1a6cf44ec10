//! Asks the C compiler for the kernel's side of the facts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use drm_pagemap::uapi::abi::Table;

use crate::facts::{FACT_FILE, Fact, c_program, facts};

/// The numbers that one set of headers has.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Kernel release of the headers.
    pub(crate) version: String,
    /// By label; `None` if the headers do not know the item.
    values: HashMap<String, Option<u64>>,
    /// Headers that are missing or do not compile, and why.
    pub(crate) unusable: BTreeMap<&'static str, String>,
}

impl Measured {
    pub(crate) fn value(&self, fact: &Fact) -> Option<u64> {
        self.values.get(&fact.label).copied().flatten()
    }
}

/// The system's C compiler, if there is one.
pub(crate) fn compiler() -> Result<String, String> {
    let name = env::var("CC").unwrap_or_else(|_| "cc".into());
    match Command::new(&name).arg("--version").output() {
        Ok(output) if output.status.success() => Ok(name),
        Ok(output) => Err(format!("the C compiler `{name}` does not work: {}", output.status)),
        Err(error) => Err(format!("there is no C compiler `{name}`: {error}")),
    }
}

/// Compiles and runs the facts of `tables` against the headers below `include`, or the system's own.
pub(crate) fn measure(
    compiler: &str,
    include: Option<&Path>,
    tables: &[&'static Table],
) -> Result<Measured, String> {
    let scratch = Scratch::new()?;
    let compile =
        Compile { compiler, include_arguments: include_arguments(compiler, include), scratch: &scratch };

    let mut usable = Vec::new();
    let mut unusable = BTreeMap::new();
    for header in tables.iter().map(|table| table.header).collect::<BTreeSet<_>>() {
        match compile.run(&format!("#include <{header}>\nint main(void) {{ return 0; }}\n"))? {
            Ok(_) => usable.push(header),
            Err(diagnostics) => {
                let error = diagnostics.lines().find_map(|line| Some(line.split_once("error:")?.1));
                unusable.insert(header, error.unwrap_or("unknown error").trim().to_owned());
            }
        }
    }

    let facts: Vec<Fact> =
        tables.iter().filter(|table| usable.contains(&table.header)).flat_map(|table| facts(table)).collect();
    let by_index: Vec<&Fact> = facts.iter().collect();
    let mut missing = BTreeSet::new();
    let output = loop {
        let program = c_program(&usable, &by_index, |index| missing.contains(&index));
        match compile.run(&program)? {
            Ok(output) => break output,
            Err(diagnostics) => {
                let before = missing.len();
                missing.extend(facts_in(&diagnostics).filter(|&index| index < facts.len()));
                if missing.len() == before {
                    return Err(format!(
                        "the program does not compile, and not because of an item:\n{diagnostics}"
                    ));
                }
            }
        }
    };

    let mut version = None;
    let mut values: HashMap<String, Option<u64>> =
        missing.iter().map(|&index| (facts[index].label.clone(), None)).collect();
    for line in output.lines() {
        let (key, value) = line.split_once(' ').ok_or_else(|| format!("strange output: {line}"))?;
        let value: u64 = value.parse().map_err(|error| format!("strange output: {line}: {error}"))?;
        if key == "version" {
            version = Some(format!("{}.{}.{}", value >> 16, value >> 8 & 0xff, value & 0xff));
        } else {
            let index: usize = key.parse().map_err(|error| format!("strange output: {line}: {error}"))?;
            values.insert(facts[index].label.clone(), Some(value));
        }
    }
    if values.len() != facts.len() {
        return Err(format!("{} facts, but {} answers: labels are not unique", facts.len(), values.len()));
    }
    let version = version.ok_or("the program did not print a version")?;
    Ok(Measured { version, values, unusable })
}

/// Numbers of the facts that a compiler complained about: diagnostics are `file:line: ...`.
fn facts_in(diagnostics: &str) -> impl Iterator<Item = usize> {
    diagnostics.lines().filter_map(|line| {
        let position = line.strip_prefix(FACT_FILE)?.strip_prefix(':')?;
        let number: usize = position.split(':').next()?.parse().ok()?;
        number.checked_sub(1)
    })
}

fn include_arguments(compiler: &str, include: Option<&Path>) -> Vec<PathBuf> {
    let Some(include) = include else { return Vec::new() };
    let mut directories = vec![include.to_owned()];
    // Debian keeps `asm/` in a folder for each architecture.
    let multiarch = Command::new(compiler).arg("-print-multiarch").output().ok();
    let multiarch = multiarch.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let fallback = format!("{}-linux-gnu", env::consts::ARCH);
    for name in [multiarch.unwrap_or_default(), fallback] {
        if !name.is_empty() && include.join(&name).join("asm").exists() {
            directories.push(include.join(name));
        }
    }
    directories
}

struct Compile<'a> {
    compiler: &'a str,
    include_arguments: Vec<PathBuf>,
    scratch: &'a Scratch,
}

impl Compile<'_> {
    /// The program's output, or the compiler's diagnostics.
    fn run(&self, program: &str) -> Result<Result<String, String>, String> {
        let source = self.scratch.0.join("abi.c");
        let binary = self.scratch.0.join("abi");
        fs::write(&source, program).map_err(|error| format!("cannot write {}: {error}", source.display()))?;
        let mut command = Command::new(self.compiler);
        command.env("LC_ALL", "C").args(["-std=gnu11", "-w", "-O0"]);
        for directory in &self.include_arguments {
            command.arg("-I").arg(directory);
        }
        let output = command.arg("-o").arg(&binary).arg(&source).output();
        let output = output.map_err(|error| format!("cannot run {}: {error}", self.compiler))?;
        if !output.status.success() {
            return Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let output =
            Command::new(&binary).output().map_err(|error| format!("cannot run the program: {error}"))?;
        if !output.status.success() {
            return Err(format!("the compiled program failed: {}", output.status));
        }
        Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}

/// A directory of our own, gone afterwards.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("abi-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
