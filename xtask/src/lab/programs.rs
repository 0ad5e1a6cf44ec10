//! Building what runs beside and inside the guest with cargo.

use crate::command;
use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target whose C library can be linked statically without installing anything but libc's development files.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The package that all of this is about.
const LIBRARY: &str = "drm-pagemap";

/// The kind of thing cargo builds; the first is meant where several have one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Example,
    Bin,
    Test,
    Bench,
}

impl Kind {
    fn option(self) -> &'static str {
        match self {
            Self::Bin => "--bin",
            Self::Example => "--example",
            Self::Test => "--test",
            Self::Bench => "--bench",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "bin" => Self::Bin,
            "example" => Self::Example,
            "test" => Self::Test,
            "bench" => Self::Bench,
            _ => return None,
        })
    }
}

/// Something this workspace can build into a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) package: String,
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

/// What cargo says about this workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) targets: Vec<Target>,
    /// Of the library.
    pub(crate) version: String,
    folder: PathBuf,
    output: PathBuf,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
        parse_metadata(&command::output(&mut command)?)
    }

    /// The target of this name, or of this `KIND:NAME`. Of several kinds with one name examples come first, then
    /// binaries: what is made to be looked at.
    pub(crate) fn find(&self, text: &str) -> Result<&Target> {
        let prefixed = text.split_once(':').and_then(|(kind, name)| Some((Kind::parse(kind)?, name)));
        let name = prefixed.map_or(text, |(_, name)| name);
        let named = self.targets.iter().filter(|target| target.name == name);
        let mut found: Vec<&Target> =
            named.filter(|target| prefixed.is_none_or(|(kind, _)| target.kind == kind)).collect();
        let best = found.iter().map(|target| target.kind).min();
        found.retain(|target| Some(target.kind) == best);
        match found.as_slice() {
            [target] => Ok(target),
            [] => {
                let known: Vec<&str> = self.targets.iter().map(|target| target.name.as_str()).collect();
                bail!(
                    "{text} is neither a file nor a program of this workspace (those are: {})",
                    known.join(", ")
                )
            }
            _ => bail!("{text} is ambiguous in this workspace: name the file to run"),
        }
    }

    /// The target of this name and kind.
    pub(crate) fn find_kind(&self, kind: Kind, name: &str) -> Result<&Target> {
        let mut found = self.targets.iter().filter(|target| target.name == name && target.kind == kind);
        found.next().ok_or_else(|| anyhow!("this workspace has no {kind:?} called {name}"))
    }

    /// The workspace's own folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where cargo puts what it builds.
    pub(crate) fn output(&self) -> &Path {
        &self.output
    }

    /// Builds a program that needs no shared library.
    pub(crate) fn build_static(&self, target: &Target, release: bool) -> Result<PathBuf> {
        let mut command = cargo();
        self.build_arguments(&mut command, target, release);
        command.args(["--target", TARGET]);
        // Flags for this target only, and a folder of their own: the user's ordinary builds stay as they are.
        command.arg("--target-dir").arg(self.output.join("lab"));
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        // Enough for a backtrace, and a tenth of the size; the guest keeps its programs in memory.
        command.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
        build(command, target)
    }

    /// Builds a program for the host.
    pub(crate) fn build_for_host(&self, target: &Target, release: bool) -> Result<PathBuf> {
        let mut command = cargo();
        self.build_arguments(&mut command, target, release);
        build(command, target)
    }

    fn build_arguments(&self, command: &mut Command, target: &Target, release: bool) {
        match target.kind {
            Kind::Test | Kind::Bench => command.args(["test", "--no-run"]),
            Kind::Bin | Kind::Example => command.arg("build"),
        };
        command.args(["--message-format=json-render-diagnostics", "--package", &target.package]);
        command.args([target.kind.option(), &target.name]).current_dir(&self.folder);
        if release {
            command.arg("--release");
        }
    }
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn build(mut command: Command, target: &Target) -> Result<PathBuf> {
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("building {} failed", target.name);
    }
    find_executable(&String::from_utf8_lossy(&output.stdout), target)
        .ok_or_else(|| anyhow!("cargo built no program called {}", target.name))
}

fn find_executable(messages: &str, target: &Target) -> Option<PathBuf> {
    let executable = |message: Value| {
        let kinds = message["target"]["kind"].as_array()?;
        let fits = message["target"]["name"] == *target.name
            && kinds.iter().filter_map(Value::as_str).filter_map(Kind::parse).any(|kind| kind == target.kind);
        if fits { message["executable"].as_str().map(PathBuf::from) } else { None }
    };
    messages.lines().filter_map(|line| serde_json::from_str(line).ok()).filter_map(executable).next_back()
}

fn parse_metadata(text: &str) -> Result<Workspace> {
    let value: Value =
        serde_json::from_str(text).context("cannot understand cargo's description of the workspace")?;
    let folder = |name: &str| {
        value[name].as_str().map(PathBuf::from).ok_or_else(|| anyhow!("cargo's description lacks {name}"))
    };
    let mut targets = Vec::new();
    let mut version = String::new();
    for package in value["packages"].as_array().into_iter().flatten() {
        if package["name"] == LIBRARY {
            version = package["version"].as_str().unwrap_or_default().to_owned();
        }
        for target in package["targets"].as_array().into_iter().flatten() {
            let kinds = target["kind"].as_array().into_iter().flatten();
            let kind = kinds.filter_map(Value::as_str).find_map(Kind::parse);
            if let (Some(package), Some(name), Some(kind)) =
                (package["name"].as_str(), target["name"].as_str(), kind)
            {
                targets.push(Target { package: package.into(), kind, name: name.into() });
            }
        }
    }
    Ok(Workspace { targets, version, folder: folder("workspace_root")?, output: folder("target_directory")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_from_cargos_description() {
        let text = r#"{"workspace_root":"/w","target_directory":"/w/target","packages":[
            {"name":"p","targets":[{"name":"p","kind":["lib"]},{"name":"show","kind":["example"]},{"name":"hw","kind":["test"]}]},
            {"name":"drm-pagemap","version":"1.2.3","targets":[]},
            {"name":"q","targets":[{"name":"show","kind":["test"]},{"name":"twin","kind":["bin"]}]},
            {"name":"r","targets":[{"name":"twin","kind":["bin"]}]}]}"#;
        let workspace = parse_metadata(text).unwrap();
        assert_eq!(workspace.version, "1.2.3");
        assert_eq!(
            workspace.find("hw").unwrap(),
            &Target { package: "p".into(), kind: Kind::Test, name: "hw".into() }
        );
        assert_eq!(workspace.find("show").unwrap().kind, Kind::Example);
        assert_eq!(workspace.find("test:show").unwrap().package, "q");
        assert!(workspace.find("bench:show").unwrap_err().to_string().contains("bench:show"));
        assert!(workspace.find("twin").unwrap_err().to_string().contains("ambiguous"));
        assert_eq!(workspace.find_kind(Kind::Example, "show").unwrap().package, "p");
        assert!(workspace.find_kind(Kind::Bench, "show").is_err());
        let error = workspace.find("gone").unwrap_err().to_string();
        assert!(error.contains("gone") && error.contains("hw"), "{error}");
    }

    #[test]
    fn the_executable_is_that_of_the_target_not_of_a_build_script() {
        let messages = "\
{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"build-script-build\",\"kind\":[\"custom-build\"]},\"executable\":\"/b\"}
not json
{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"hw\",\"kind\":[\"lib\"]},\"executable\":null}
{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"hw\",\"kind\":[\"test\"]},\"executable\":\"/t/hw-1\"}
{\"reason\":\"build-finished\",\"success\":true}
";
        let target = Target { package: "p".into(), kind: Kind::Test, name: "hw".into() };
        assert_eq!(find_executable(messages, &target), Some("/t/hw-1".into()));
        let other = Target { kind: Kind::Example, ..target };
        assert_eq!(find_executable(messages, &other), None);
    }
}
