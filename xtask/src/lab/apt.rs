//! Debian packages without installing anything: a private configuration of apt, its own lists, its own (empty)
//! package status, signatures checked against the distribution's keyring. Needs no root.

use crate::{child, command};
use anyhow::{Context, Result, anyhow, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Suites that are always asked, with whether setup can do without them. QEMU and most kernels are in the backports.
const SUITES: &[(&str, Necessity)] = &[
    ("trixie", Necessity::Required),
    ("trixie-backports", Necessity::Required),
    ("bookworm-backports", Necessity::Optional),
    ("forky-backports", Necessity::Optional),
];

/// Debian's keyring under its name of today, and under that of later releases.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];
const ATTEMPTS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Necessity {
    Required,
    Optional,
}

/// Where packages come from, when the machine's own settings do not say it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Source {
    pub(crate) mirror: Option<String>,
    pub(crate) keyring: Option<PathBuf>,
    /// Suites besides the usual ones.
    pub(crate) suites: Vec<String>,
}

/// One version of a package in one suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) suite: String,
}

/// A private apt.
#[derive(Debug)]
pub(crate) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Writes the private configuration into `folder` and reads the package lists of the usual suites.
    pub(crate) fn open(folder: &Path, source: &Source) -> Result<Self> {
        Self::open_suites(folder, source, SUITES)
    }

    /// The same with one suite only, for what must come from there with everything it needs.
    pub(crate) fn open_only(folder: &Path, source: &Source, suite: &str) -> Result<Self> {
        Self::open_suites(folder, source, &[(suite, Necessity::Required)])
    }

    fn open_suites(folder: &Path, source: &Source, suites: &[(&str, Necessity)]) -> Result<Self> {
        let usual = || {
            KEYRINGS
                .iter()
                .map(PathBuf::from)
                .find(|path| path.exists())
                .unwrap_or_else(|| KEYRINGS[0].into())
        };
        let keyring = source.keyring.clone().unwrap_or_else(usual);
        if !keyring.exists() {
            bail!(
                "{} is missing, so packages cannot be verified: install debian-archive-keyring or name a keyring \
                 with --keyring",
                keyring.display()
            );
        }
        let mirror = match &source.mirror {
            Some(mirror) => mirror.clone(),
            None => system_mirror()?,
        };
        for below in ["lists/partial", "cache/archives/partial", "state"] {
            fs::create_dir_all(folder.join(below))?;
        }
        // An empty status makes every package "not installed", so that closures reach down to the C library.
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("conf"), configuration(folder))?;
        let apt = Self { folder: folder.to_owned() };
        let line = |suite: &str| format!("deb [signed-by={}] {mirror} {suite} main\n", keyring.display());
        let wanted = suites.iter().map(|(suite, necessity)| (*suite, *necessity));
        let extra = source.suites.iter().map(|suite| (suite.as_str(), Necessity::Required));
        let mut sources = String::new();
        for (suite, necessity) in wanted.chain(extra) {
            eprintln!("lab: reading package lists of {suite}");
            match apt.update(suite, &line(suite), necessity) {
                Ok(()) => sources.push_str(&line(suite)),
                Err(error) if necessity == Necessity::Optional && !error.is::<child::Interrupted>() => {
                    eprintln!("lab: the mirror has no {suite}")
                }
                Err(error) => return Err(error),
            }
        }
        fs::write(folder.join("sources.list"), sources)?;
        Ok(apt)
    }

    /// Reads the lists of one suite, leaving those of others alone.
    fn update(&self, suite: &str, line: &str, necessity: Necessity) -> Result<()> {
        let list = self.folder.join(format!("{suite}.list"));
        fs::write(&list, line)?;
        let attempts = if necessity == Necessity::Required { ATTEMPTS } else { 1 };
        retry(attempts, || {
            let mut command = self.tool("apt-get");
            command.arg("-q").args(["-o", "APT::Get::List-Cleanup=0", "-o", "APT::Update::Error-Mode=any"]);
            command.arg("-o").arg(format!("Dir::Etc::sourcelist={}", list.display())).arg("update");
            command::output(&mut command).map(drop)
        })
        .with_context(|| format!("cannot read the package lists of {suite}"))
    }

    /// Names of packages that exist, by regular expression.
    pub(crate) fn names(&self, pattern: &str) -> Result<Vec<String>> {
        let found = command::output(self.tool("apt-cache").args(["search", "--names-only", pattern]))?;
        Ok(found.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    /// The versions of a package, newest first.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<Candidate>> {
        Ok(parse_madison(&command::output(self.tool("apt-cache").args(["madison", package]))?))
    }

    /// The newest version of a package that `accept` takes.
    pub(crate) fn newest(&self, package: &str, accept: impl Fn(&str) -> bool) -> Result<Candidate> {
        let all = self.versions(package)?;
        all.iter().find(|candidate| accept(&candidate.version)).cloned().ok_or_else(|| {
            let seen: Vec<&str> = all.iter().map(|candidate| candidate.version.as_str()).collect();
            anyhow!("the archive has no fitting version of {package} (there: {})", seen.join(", "))
        })
    }

    /// The package with everything it needs.
    pub(crate) fn closure(&self, candidate: &Candidate) -> Result<Vec<String>> {
        let mut command = self.tool("apt-get");
        command.args(["-y", "--print-uris", "-t", &candidate.suite, "install"]);
        let pins = parse_print_uris(&command::output(command.arg(candidate.pin()))?);
        if pins.is_empty() {
            bail!("apt resolved {} to no package at all", candidate.pin());
        }
        Ok(pins)
    }

    /// Downloads packages (`name=version`, or bare names), checked, and unpacks them into `target`.
    pub(crate) fn unpack(&self, pins: &[String], target: &Path) -> Result<()> {
        let debs = self.folder.join("debs");
        fs::create_dir_all(&debs)?;
        // apt leaves out what is already here whole, so an interrupted download goes on where it was.
        retry(ATTEMPTS, || command::run(self.tool("apt-get").arg("download").args(pins).current_dir(&debs)))?;
        for pin in pins {
            let archive = find_archive(&debs, pin)?;
            command::run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(target))?;
        }
        Ok(fs::remove_dir_all(&debs)?)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.env("LC_ALL", "C").arg("-c").arg(self.folder.join("conf"));
        command
    }
}

impl Candidate {
    pub(crate) fn pin(&self) -> String {
        format!("{}={}", self.package, self.version)
    }
}

fn configuration(folder: &Path) -> String {
    let at = |below: &str| folder.join(below).display().to_string();
    format!(
        r#"Dir::Etc::sourcelist "{}";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{}";
Dir::State::Lists "{}";
Dir::State::status "{}";
Dir::Cache "{}";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::Retries "5";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"#,
        at("sources.list"),
        at("state"),
        at("lists"),
        at("status"),
        at("cache"),
    )
}

/// The Debian mirror this machine uses.
fn system_mirror() -> Result<String> {
    let format = "$(ORIGIN)|$(LABEL)|$(REPO_URI)";
    let targets = command::output(Command::new("apt-get").env("LC_ALL", "C").args([
        "indextargets",
        "--format",
        format,
    ]))
    .context(
            "cannot ask apt for this machine's mirror (where there is no apt: --qemu PATH --kernel VMLINUZ --modules DIR)",
        )?;
    choose_mirror(&targets).ok_or_else(|| {
        anyhow!(
            "this machine's apt sources name no Debian mirror: name one with --mirror URL, or bring your own with \
             --qemu PATH --kernel VMLINUZ --modules DIR"
        )
    })
}

/// The first repository that says it is Debian's main archive, else one that looks like it. Lists that were never
/// fetched have no origin; apt then leaves the placeholder.
fn choose_mirror(targets: &str) -> Option<String> {
    let fields = |line: &str| -> Option<(String, String, String)> {
        let mut parts = line.splitn(3, '|').map(str::to_owned);
        Some((parts.next()?, parts.next()?, parts.next()?))
    };
    let all: Vec<_> = targets.lines().filter_map(fields).collect();
    let certain = all.iter().find(|(origin, label, _)| origin == "Debian" && label == "Debian");
    let likely = all
        .iter()
        .find(|(origin, _, uri)| origin.starts_with("$(") && uri.trim_end_matches('/').ends_with("/debian"));
    certain.or(likely).map(|(_, _, uri)| uri.clone())
}

/// `package | version | URI suite/component arch Packages`, newest first.
fn parse_madison(text: &str) -> Vec<Candidate> {
    let candidate = |line: &str| {
        let mut fields = line.split('|').map(str::trim);
        let (package, version, origin) = (fields.next()?, fields.next()?, fields.next()?);
        if !origin.ends_with("Packages") {
            return None;
        }
        let (suite, _component) = origin.split_whitespace().nth(1)?.split_once('/')?;
        Some(Candidate { package: package.into(), version: version.into(), suite: suite.into() })
    };
    text.lines().filter_map(candidate).collect()
}

/// `'URI' name_version_arch.deb size hash`, with the version's colon as `%3a`.
fn parse_print_uris(text: &str) -> Vec<String> {
    let pin = |line: &str| {
        let file = line.strip_prefix('\'')?.split_once("' ")?.1.split_whitespace().next()?;
        let mut parts = file.strip_suffix(".deb")?.splitn(3, '_');
        Some(format!("{}={}", parts.next()?, parts.next()?.replace("%3a", ":")))
    };
    text.lines().filter_map(pin).collect()
}

/// The file that downloading `name=version` (or `name`) made.
fn find_archive(folder: &Path, pin: &str) -> Result<PathBuf> {
    let prefix = match pin.split_once('=') {
        Some((name, version)) => format!("{name}_{}_", version.replace(':', "%3a")),
        None => format!("{pin}_"),
    };
    let files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let matches = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(&prefix) && name.ends_with(".deb"))
    };
    files.into_iter().find(matches).ok_or_else(|| anyhow!("apt downloaded no file for {pin}"))
}

fn retry<T>(attempts: u32, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let mut attempt = 1;
    loop {
        match work() {
            Err(error) if attempt < attempts && !error.is::<child::Interrupted>() => {
                eprintln!("lab: {error:#}\nlab: trying again ({attempt} of {})", attempts - 1);
                std::thread::sleep(Duration::from_secs(u64::from(attempt) * 3));
                attempt += 1;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn madison_gives_versions_with_their_suite() {
        let text = "\
qemu-system-x86 | 1:11.1.3+ds-1~bpo13+1 | http://mirror.example/debian trixie-backports/main amd64 Packages
qemu-system-x86 | 1:10.0.13+ds-0+deb13u1 | http://mirror.example/debian trixie/main amd64 Packages
      qemu | 1:10.0.13+ds-0+deb13u1 | http://mirror.example/debian trixie/main Sources
";
        let found = parse_madison(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].suite, "trixie-backports");
        assert_eq!(found[0].pin(), "qemu-system-x86=1:11.1.3+ds-1~bpo13+1");
        assert_eq!(found[1].suite, "trixie");
    }

    #[test]
    fn print_uris_gives_pins_and_ignores_the_talk() {
        let text = "\
Reading package lists...
The following NEW packages will be installed:
  qemu-system-x86
'http://mirror.example/debian/pool/main/g/glibc/libc6_2.41-12_amd64.deb' libc6_2.41-12_amd64.deb 2843136 SHA256:00
'http://mirror.example/debian/pool/main/q/qemu/q_11.deb' qemu-system-x86_1%3a11.1.3+ds-1~bpo13+1_amd64.deb 1 SHA256:01
";
        assert_eq!(parse_print_uris(text), ["libc6=2.41-12", "qemu-system-x86=1:11.1.3+ds-1~bpo13+1"]);
    }

    #[test]
    fn the_mirror_is_the_main_archive_not_security_and_not_a_vendor() {
        let fetched = "\
NodeSource|. nodistro|https://vendor.example/node
Debian|Debian-Security|http://mirror.example/debian-security/
Debian|Debian|http://mirror.example/debian/
";
        assert_eq!(choose_mirror(fetched).unwrap(), "http://mirror.example/debian/");
        let never_fetched = "\
$(ORIGIN)|$(LABEL)|http://mirror.example/debian-security/
$(ORIGIN)|$(LABEL)|http://mirror.example/debian/
";
        assert_eq!(choose_mirror(never_fetched).unwrap(), "http://mirror.example/debian/");
        assert_eq!(choose_mirror("Ubuntu|Ubuntu|http://mirror.example/ubuntu/\n"), None);
    }

    #[test]
    fn a_download_is_found_by_its_pin() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "libc6_2.41-12_amd64.deb",
            "libc6-dev_2.41-12_amd64.deb",
            "q_1%3a2_all.deb",
            "q_1%3a2_all.deb.FAILED",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = |pin| find_archive(folder.path(), pin).map(|path| path.file_name().unwrap().to_owned());
        assert_eq!(found("libc6=2.41-12").unwrap(), "libc6_2.41-12_amd64.deb");
        assert_eq!(found("libc6").unwrap(), "libc6_2.41-12_amd64.deb");
        assert_eq!(found("q=1:2").unwrap(), "q_1%3a2_all.deb");
        assert!(found("libc").is_err());
    }

    #[test]
    fn retry_gives_up_after_the_last_attempt() {
        let mut calls = 0;
        let result: Result<()> = retry(1, || {
            calls += 1;
            bail!("down")
        });
        assert!(result.is_err());
        assert_eq!(calls, 1);
    }
}
