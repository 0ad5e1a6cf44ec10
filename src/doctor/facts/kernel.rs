//! The running kernel.

use super::config::KernelConfig;
use super::files::text;
use super::version::KernelVersion;
use crate::doctor::system::System;
use crate::error::Errno;

/// The running kernel: its name, its command line and how it was built.
pub(in crate::doctor) struct Kernel {
    pub(in crate::doctor) release: Result<String, Errno>,
    pub(in crate::doctor) version: Option<KernelVersion>,
    /// The words of the command line.
    pub(in crate::doctor) command_line: Result<Vec<String>, Errno>,
    /// How it was built, or each place that was tried with the reason why it says nothing.
    pub(in crate::doctor) config: Result<KernelConfig, Vec<(String, Errno)>>,
    /// Whether the CPU has more than one level of page tables beyond 48 bits (`la57`) in use; x86 only.
    pub(in crate::doctor) five_level_paging: Result<bool, Errno>,
    /// It runs in a virtual machine; x86 only.
    pub(in crate::doctor) virtualised: Result<bool, Errno>,
}

impl Kernel {
    pub(super) fn read(system: &dyn System) -> Self {
        let release = text(system, "/proc/sys/kernel/osrelease");
        let flags = cpu_flags(system);
        let has = |flag: &str| flags.as_ref().map(|flags| flags.iter().any(|f| f == flag)).map_err(|e| *e);
        Self {
            version: release.as_deref().ok().and_then(KernelVersion::parse),
            command_line: text(system, "/proc/cmdline")
                .map(|line| line.split_ascii_whitespace().map(str::to_owned).collect()),
            config: KernelConfig::read(system, release.as_deref().map_err(|errno| *errno)),
            // The kernel takes the flag away when it does not use five levels (`no5lvl`, or not built in).
            five_level_paging: has("la57"),
            virtualised: has("hypervisor"),
            release,
        }
    }

    /// The setting of an option, or `None` when no configuration is readable.
    pub(in crate::doctor) fn is_set(&self, option: &str) -> Option<bool> {
        self.config.as_ref().ok().map(|config| config.get(option).is_set())
    }

    /// The version is known and older than the series.
    pub(in crate::doctor) fn is_older_than(&self, major: u32, minor: u32) -> bool {
        self.version.is_some_and(|version| !version.is_at_least(major, minor))
    }

    pub(in crate::doctor) fn has_word(&self, word: &str) -> bool {
        self.command_line.as_ref().is_ok_and(|words| words.iter().any(|w| w == word))
    }

    /// The value of each `key=value` of the command line.
    pub(in crate::doctor) fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let words = self.command_line.iter().flatten();
        words.filter_map(move |word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Flags of the first CPU, as x86 lists them; `ENODATA` on other processors.
fn cpu_flags(system: &dyn System) -> Result<Vec<String>, Errno> {
    let cpus = text(system, "/proc/cpuinfo")?;
    let line = cpus.lines().find_map(|line| {
        let (key, flags) = line.split_once(':')?;
        (key.trim() == "flags").then_some(flags)
    });
    let flags = line.ok_or(Errno::ENODATA)?;
    Ok(flags.split_ascii_whitespace().map(str::to_owned).collect())
}
