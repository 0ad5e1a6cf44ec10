//! The virtual GPUs: the `vgpu` binary of this workspace, one process per vendor.

use super::vendor::{Gpus, Vendor};
use crate::child::Guarded;
use crate::command;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const START_WAIT: Duration = Duration::from_secs(20);

/// Settings that go to the device model as they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeviceOptions {
    /// Where to record registers, messages and jobs.
    pub(crate) trace: Option<PathBuf>,
    /// Where to list what the model does not know; by default beside the boot's logs.
    pub(crate) unknown: Option<PathBuf>,
    /// How much of it to record.
    pub(crate) trace_level: Option<String>,
    /// Faults on purpose.
    pub(crate) inject: Vec<String>,
}

/// A running device model with one socket per GPU.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) vendor: Vendor,
    pub(crate) process: Guarded,
    pub(crate) sockets: Vec<PathBuf>,
    pub(crate) log: PathBuf,
    unknown: PathBuf,
}

impl Device {
    /// Starts the model and waits until it listens. `binary` is the `vgpu` program; its messages go to `log`.
    pub(crate) fn start(
        binary: &Path,
        gpus: &Gpus,
        options: &DeviceOptions,
        run_folder: &Path,
        log: &Path,
    ) -> Result<Self> {
        let socket = |number| run_folder.join(format!("{}{number}", gpus.vendor));
        let sockets: Vec<PathBuf> = (0..gpus.count).map(socket).collect();
        let mut command = Command::new(binary);
        command.args(["serve", "--gpu", gpus.vendor.name()]);
        for socket in &sockets {
            // What an earlier attempt left would refuse connections.
            let _ = fs::remove_file(socket);
            command.arg("--socket").arg(socket);
        }
        if !gpus.profile.is_empty() {
            command.args(["--profile", &gpus.profile]);
        }
        if let Some(path) = &options.trace {
            command.arg("--trace").arg(path);
        }
        if let Some(level) = &options.trace_level {
            command.args(["--trace-level", level]);
        }
        let unknown = options.unknown.clone().unwrap_or_else(|| log.with_extension("unknown"));
        command.arg("--unknown").arg(&unknown);
        for text in &options.inject {
            command.args(["--inject", text]);
        }
        let errors = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors.try_clone()?);
        let mut process = Guarded::spawn("the virtual GPU", &mut command)?;
        let (sender, receiver) = mpsc::channel();
        let mut later = errors;
        process.stdout_lines(move |line| {
            use std::io::Write;
            let _ = writeln!(later, "{}", String::from_utf8_lossy(line));
            let _ = sender.send(());
        });
        // The first line says that it is ready; its end, that it never will be.
        if receiver.recv_timeout(START_WAIT).is_err() {
            let state = match process.wait(Duration::from_secs(1))? {
                Some(status) => format!("ended at once ({status})"),
                None => format!("said nothing for {} s", START_WAIT.as_secs()),
            };
            bail!("the virtual GPU {state}:\n{}", tail(log, 20));
        }
        Ok(Self { vendor: gpus.vendor, process, sockets, log: log.to_owned(), unknown })
    }

    /// What the driver used and the model does not know, once the model has ended in order.
    pub(crate) fn unknown(&self) -> Vec<String> {
        unknown_lines(&fs::read_to_string(&self.unknown).unwrap_or_default())
    }
}

/// Writes the firmware files a vendor's driver asks for to `lib/firmware` below `folder`.
pub(crate) fn write_firmware(binary: &Path, vendor: Vendor, folder: &Path) -> Result<()> {
    command::output(Command::new(binary).args(["firmware", "--gpu", vendor.name(), "--out"]).arg(folder))
        .map(drop)
}

/// The lines of the sections whose titles begin with `unknown`, each with its section's title.
fn unknown_lines(text: &str) -> Vec<String> {
    let mut section = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let name = title.split(" (").next().unwrap_or(title);
            section = name.strip_prefix("unknown ");
        } else if let Some(section) = section.filter(|_| !line.starts_with('#')) {
            lines.push(format!("{section}: {line}"));
        }
    }
    lines
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_unknown_is_listed() {
        let text = "# device 0\n## unknown registers (1)\n0x00001234 read 2\n## counters (1)\nbatches 3\n\
                    # device 1\n## unknown firmware actions (1)\n0x7003 2\n## unknown instructions (0)\n";
        assert_eq!(unknown_lines(text), ["registers: 0x00001234 read 2", "firmware actions: 0x7003 2"]);
    }
}
