//! The virtual machine: which QEMU, and its command line.

use crate::command;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the guest's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accel {
    /// Translated by QEMU: works everywhere.
    Tcg,
    /// By the processor.
    Kvm,
}

impl Accel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

/// A QEMU that need not be installed.
#[derive(Debug, Clone)]
pub(crate) enum Qemu {
    /// Debian's files, unpacked into this folder.
    Unpacked(PathBuf),
    /// A binary of the user's own.
    Own(PathBuf),
}

impl Qemu {
    /// In an entry of the lab's folder, the link to the user's own binary.
    pub(crate) const LINK: &str = "own-qemu";

    /// The QEMU in an entry of the lab's folder.
    pub(crate) fn at(entry: &Path) -> Self {
        match entry.join(Self::LINK).canonicalize() {
            Ok(own) => Self::Own(own),
            Err(_) => Self::Unpacked(entry.to_owned()),
        }
    }

    /// A name that differs between versions in the lab's folder.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Unpacked(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Own(path) => path.display().to_string(),
        }
    }

    /// The beginning of every command: Debian's binary runs with its own loader and libraries, so that it need not
    /// fit the machine's.
    pub(crate) fn command(&self) -> Command {
        let entry = match self {
            Self::Own(path) => return Command::new(path),
            Self::Unpacked(entry) => entry,
        };
        let below = |path: &str| entry.join(path);
        let mut command = Command::new(below("usr/lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(below("usr/lib/x86_64-linux-gnu"));
        command.arg(below("usr/bin/qemu-system-x86_64"));
        command.arg("-L").arg(below("usr/share/seabios")).arg("-L").arg(below("usr/share/qemu"));
        // Else it would load the plug-ins of a QEMU that is installed on the machine.
        command.env("QEMU_MODULE_DIR", below("usr/lib/x86_64-linux-gnu/qemu"));
        command
    }

    /// Fails unless this QEMU runs and can attach a device that another process emulates.
    pub(crate) fn check(&self) -> Result<()> {
        let version = command::output(self.command().arg("--version")).context("this QEMU does not run")?;
        let properties = command::output(self.command().args(["-device", "vfio-user-pci,help"]));
        if !properties.is_ok_and(|text| text.contains("socket")) {
            let version = version.lines().next().unwrap_or_default().to_owned();
            bail!("this QEMU has no vfio-user-pci device, which came with 10.1 ({version})");
        }
        Ok(())
    }
}

/// The user's console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Console {
    /// Kernel messages go to QEMU's standard output.
    Captured,
    /// The terminal belongs to the guest; Ctrl-A x ends it.
    Interactive,
}

/// One virtual machine.
#[derive(Debug, Clone)]
pub(crate) struct Machine<'a> {
    pub(crate) accel: Accel,
    pub(crate) cpu: &'a str,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u32,
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    pub(crate) cmdline: &'a str,
    /// The socket where the lab listens for the guest's messages.
    pub(crate) channel: &'a Path,
    /// Sockets of virtual GPUs.
    pub(crate) gpus: Vec<&'a Path>,
    pub(crate) console: Console,
}

impl Machine<'_> {
    /// The command that runs this machine.
    pub(crate) fn command(&self, qemu: &Qemu) -> Command {
        let mut command = qemu.command();
        let memory = self.memory_mib;
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(["-accel", if self.accel == Accel::Tcg { "tcg,thread=multi" } else { "kvm" }]);
        // The device model maps guest memory, so it must be a shared descriptor.
        command.args(["-machine", "q35,memory-backend=ram", "-m", &format!("{memory}M")]);
        command.args(["-object", &format!("memory-backend-memfd,id=ram,size={memory}M,share=on")]);
        command.args(["-cpu", self.cpu, "-smp", &self.cpus.to_string()]);
        let console = match self.console {
            Console::Captured => "stdio,id=console",
            Console::Interactive => "stdio,id=console,mux=on,signal=off",
        };
        command.args(["-chardev", console, "-serial", "chardev:console"]);
        if self.console == Console::Interactive {
            command.args(["-monitor", "chardev:console"]);
        }
        command.args(["-chardev", &format!("socket,id=channel,path={}", self.channel.display())]);
        command.args(["-serial", "chardev:channel"]);
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        command.args(["-append", self.cmdline]);
        for gpu in &self.gpus {
            let device = serde_json::json!({
                "driver": "vfio-user-pci",
                // Milliseconds; the default of 5 s can be short when the host is busy.
                "x-msg-timeout": 60_000,
                "socket": { "type": "unix", "path": gpu.to_string_lossy() },
            });
            command.args(["-device", &device.to_string()]);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_one_device_per_gpu_and_shared_memory() {
        let machine = Machine {
            accel: Accel::Tcg,
            cpu: "EPYC",
            cpus: 2,
            memory_mib: 1536,
            kernel: Path::new("/k"),
            initramfs: Path::new("/i"),
            cmdline: "console=ttyS0 panic=-1",
            channel: Path::new("/c"),
            gpus: vec![Path::new("/g0"), Path::new("/g1")],
            console: Console::Captured,
        };
        let command = machine.command(&Qemu::at(Path::new("/lab/qemu/11")));
        assert_eq!(command.get_program(), "/lab/qemu/11/usr/lib64/ld-linux-x86-64.so.2");
        let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert!(words.contains(&"memory-backend-memfd,id=ram,size=1536M,share=on".to_owned()));
        let gpus: Vec<&String> = words.iter().filter(|word| word.contains("vfio-user-pci")).collect();
        assert_eq!(gpus.len(), 2);
        assert!(gpus[1].contains("\"/g1\"") && gpus[1].contains("60000"));
        assert!(words.windows(2).any(|pair| pair == ["-append", "console=ttyS0 panic=-1"]));
    }
}
