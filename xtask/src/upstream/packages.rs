//! The upstream tests as a distribution ships them: fetched and checked at run time, never kept in this repository.

use crate::command;
use crate::lab::{Apt, Cache, GuestFile, Source};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The suite that has the tests of xe's shared virtual memory; older ones lack them.
const SUITE: &str = "sid";
const PACKAGE: &str = "igt-gpu-tools-tests";
/// The folder of the tests, in the package and in the guest.
const PROGRAMS: &str = "usr/libexec/igt-gpu-tools";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "ld-linux-x86-64.so.2";

/// The unpacked tests with everything they are linked with.
#[derive(Debug)]
pub(super) struct Packages {
    root: PathBuf,
    pub(super) version: String,
}

impl Packages {
    /// What is in the lab's folder, fetched first if there is nothing, or if `refresh` asks for the newest.
    pub(super) fn fetch(cache: &Cache, refresh: bool) -> Result<Self> {
        let _lock = cache.lock()?;
        cache.sweep()?;
        if refresh || cache.entries("upstream").is_empty() {
            let apt = Apt::open_only(&cache.folder("apt")?, &Source::default(), SUITE)?;
            let candidate = apt.newest(PACKAGE, |_| true)?;
            let below = Path::new("upstream").join(candidate.version.replace([':', '~'], "-"));
            if !cache.path(&below).exists() {
                // Interpreters and documentation come along; what the tests are linked with is chosen later.
                let closure = apt.closure(&candidate)?;
                eprintln!("upstream: fetching {} ({} packages)", candidate.pin(), closure.len());
                cache.install(&below, |content| apt.unpack(&closure, content))?;
            }
            cache.keep_only("upstream", &cache.path(&below))?;
        }
        let root = cache.single("upstream")?;
        let version = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { root, version })
    }

    /// Whether the package has this program.
    pub(super) fn has(&self, program: &str) -> bool {
        self.root.join(PROGRAMS).join(program).is_file()
    }

    /// Where a program lies in the guest.
    pub(super) fn guest_path(program: &str) -> String {
        format!("/{PROGRAMS}/{program}")
    }

    /// The subtests of a program, as it lists them itself. That touches no device.
    pub(super) fn subtests(&self, program: &str) -> Result<Vec<String>> {
        let mut command = self.loader();
        command.arg(self.root.join(PROGRAMS).join(program)).arg("--list-subtests");
        let text = command::output(&mut command)
            .with_context(|| format!("cannot list the subtests of {program}"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The programs, their libraries and the loader, at the places where they look for each other.
    pub(super) fn files(&self, programs: &BTreeSet<String>) -> Result<Vec<GuestFile>> {
        let library = |name: &str| GuestFile {
            host: self.root.join(LIBRARIES).join(name),
            guest: format!("/lib/x86_64-linux-gnu/{name}"),
        };
        let mut files = vec![GuestFile {
            host: self.root.join(LIBRARIES).join(LOADER),
            guest: format!("/lib64/{LOADER}"),
        }];
        let mut names = BTreeSet::new();
        for program in programs {
            let host = self.root.join(PROGRAMS).join(program);
            let mut command = self.loader();
            let linked = command::output(command.arg("--list").arg(&host))?;
            names.extend(parse_linked(&linked, &self.root)?);
            files.push(GuestFile { host, guest: Self::guest_path(program) });
        }
        files.extend(names.iter().map(|name| library(name)));
        Ok(files)
    }

    /// The packages' own loader: this machine's may be older than what the tests want.
    fn loader(&self) -> Command {
        let libraries = self.root.join(LIBRARIES);
        let mut command = Command::new(libraries.join(LOADER));
        command.arg("--library-path").arg(libraries);
        command
    }
}

/// The libraries in the loader's list, `NAME => PATH (ADDRESS)` each; all must be the packages' own.
fn parse_linked(text: &str, root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for line in text.lines() {
        let Some((name, place)) = line.trim().split_once(" => ") else { continue };
        let path = place.split(" (").next().unwrap_or_default();
        if !Path::new(path).starts_with(root) {
            bail!("the packages lack the library {name} ({place})");
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_come_from_the_packages_or_not_at_all() {
        let text = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /r/usr/lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x0000)\n";
        assert_eq!(parse_linked(text, Path::new("/r")).unwrap(), ["libc.so.6"]);
        assert!(parse_linked(text, Path::new("/other")).unwrap_err().to_string().contains("libc.so.6"));
        assert!(parse_linked("\tlibx.so => not found\n", Path::new("/r")).is_err());
    }
}
