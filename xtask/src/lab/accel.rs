//! Whether KVM can be trusted with a guest.
//!
//! A machine may offer `/dev/kvm` that cannot run a real kernel (nested and emulated variants fail with "KVM internal
//! error"), so opening it proves nothing. `auto` boots a kernel with KVM once, without any GPU, and remembers the
//! outcome until the host or QEMU changes.

use super::boot::run_once;
use super::device::DeviceOptions;
use super::kernel::Kernel;
use super::qemu::Accel;
use super::spec::{Spec, Tools};
use anyhow::{Result, bail};
use std::fs::{self, File};
use std::time::Duration;

/// How long the trial may take; a working KVM needs two or three seconds.
const TRIAL: Duration = Duration::from_secs(20);

/// What the user asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    #[default]
    Auto,
    Fixed(Accel),
}

impl Choice {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "tcg" => Ok(Self::Fixed(Accel::Tcg)),
            "kvm" => Ok(Self::Fixed(Accel::Kvm)),
            _ => bail!("no accelerator called {text:?}: tcg, kvm or auto"),
        }
    }
}

/// The accelerator to use, and why.
pub(crate) fn choose(tools: &Tools, kernel: &Kernel, choice: Choice) -> Result<(Accel, String)> {
    let openable = || File::options().read(true).write(true).open("/dev/kvm");
    match choice {
        Choice::Fixed(accel) => Ok((accel, "as asked".into())),
        Choice::Auto => match openable() {
            Err(error) => Ok((Accel::Tcg, format!("/dev/kvm: {error}"))),
            Ok(_) if works(tools, kernel)? => Ok((Accel::Kvm, "it boots a kernel here".into())),
            Ok(_) => Ok((Accel::Tcg, "/dev/kvm exists but does not boot a kernel here".into())),
        },
    }
}

fn works(tools: &Tools, kernel: &Kernel) -> Result<bool> {
    // A new boot of the host may bring another host kernel.
    let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let key = format!("{} {}", host.trim(), tools.qemu.name());
    let path = tools.cache.folder("")?.join("kvm-trial");
    let remembered = fs::read_to_string(&path).unwrap_or_default();
    if let Some(verdict) = recall(&remembered, &key) {
        return Ok(verdict);
    }
    eprintln!("lab: trying KVM (once)");
    let spec = Spec {
        kernel: kernel.clone(),
        accel: Accel::Kvm,
        gpus: Vec::new(),
        device: DeviceOptions::default(),
        programs: Vec::new(),
        files: Vec::new(),
        shell: None,
        cpu: None,
        cpus: 2,
        memory_mib: None,
        append: Vec::new(),
        parameters: Vec::new(),
        extra_modules: Vec::new(),
        boot_wait: TRIAL,
        expected: Vec::new(),
    };
    let report = run_once(tools, &spec, &mut |_| {})?;
    let verdict = report.is_sound() && report.prepared_ms.is_some();
    fs::write(&path, format!("{key}\n{}\n", if verdict { "works" } else { "fails" }))?;
    Ok(verdict)
}

/// The verdict in the file, if it was given on this host and QEMU.
fn recall(text: &str, key: &str) -> Option<bool> {
    let mut lines = text.lines();
    if lines.next()? != key {
        return None;
    }
    match lines.next()? {
        "works" => Some(true),
        "fails" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_counts_only_where_it_was_given() {
        assert_eq!(recall("host qemu\nworks\n", "host qemu"), Some(true));
        assert_eq!(recall("host qemu\nfails\n", "host qemu"), Some(false));
        assert_eq!(recall("host qemu\nworks\n", "host qemu2"), None);
        assert_eq!(recall("", "host qemu"), None);
        assert_eq!(recall("host qemu\n", "host qemu"), None);
    }

    #[test]
    fn accelerators_have_names() {
        assert_eq!(Choice::parse("auto").unwrap(), Choice::Auto);
        assert_eq!(Choice::parse("tcg").unwrap(), Choice::Fixed(Accel::Tcg));
        assert!(Choice::parse("hvf").is_err());
    }
}
