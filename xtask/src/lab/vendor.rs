//! What differs between the GPUs of the lab: driver, its parameters, memory.

use anyhow::{Result, bail};
use std::fmt;

/// Whose GPU the guest gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Vendor {
    Intel,
    Amd,
}

impl Vendor {
    pub(crate) const ALL: [Self; 2] = [Self::Intel, Self::Amd];

    /// The vendors behind `--gpu intel|amd|all`.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>> {
        if text == "all" {
            return Ok(Self::ALL.to_vec());
        }
        match Self::ALL.iter().find(|vendor| vendor.name() == text) {
            Some(vendor) => Ok(vec![*vendor]),
            None => bail!("no GPU called {text:?}: intel, amd or all"),
        }
    }

    /// The name on command lines, also the virtual GPU's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Intel => "intel",
            Self::Amd => "amd",
        }
    }

    /// The kernel driver's module.
    pub(crate) fn module(self) -> &'static str {
        match self {
            Self::Intel => "xe",
            Self::Amd => "amdgpu",
        }
    }

    /// Parameters of the driver's module that a virtual GPU needs.
    pub(crate) fn parameters(self) -> &'static str {
        match self {
            // No display and no virtual functions are modelled; the firmware's log would only cost time.
            Self::Intel => "probe_display=0 max_vfs=0 guc_log_level=0",
            // No security processor, no power management unit, no display. Recovery would turn a fault of the
            // virtual GPU into a storm of resets.
            Self::Amd => "fw_load_type=0 ip_block_mask=0x1f dc=0 gpu_recovery=0",
        }
    }

    /// Further parameters for a guest in which the driver is to reset a GPU that hangs, as it does by default.
    pub(crate) fn parameters_for_resets(self) -> &'static [&'static str] {
        match self {
            Self::Intel => &[],
            Self::Amd => &["gpu_recovery=1"],
        }
    }

    /// Guest memory that is comfortable with this driver, in MiB.
    pub(crate) fn memory_mib(self) -> u32 {
        match self {
            Self::Intel => 1024,
            Self::Amd => 2048,
        }
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The virtual GPUs of one vendor in a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpus {
    pub(crate) vendor: Vendor,
    /// With none, the driver is loaded all the same.
    pub(crate) count: usize,
    /// `KEY=VALUE,...` for the device model; empty for its default.
    pub(crate) profile: String,
}

impl Gpus {
    /// Adds `KEY=VALUE` to the profile unless it says something about `key` already.
    pub(crate) fn prefer(&mut self, key: &str, value: &str) {
        let said = |item: &str| item.strip_prefix(key).is_some_and(|rest| rest.starts_with('='));
        if !self.profile.split(',').any(said) {
            let comma = if self.profile.is_empty() { "" } else { "," };
            self.profile.push_str(&format!("{comma}{key}={value}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_command_line() {
        assert_eq!(Vendor::parse_list("intel").unwrap(), [Vendor::Intel]);
        assert_eq!(Vendor::parse_list("all").unwrap(), [Vendor::Intel, Vendor::Amd]);
        assert!(Vendor::parse_list("nvidia").unwrap_err().to_string().contains("nvidia"));
    }

    #[test]
    fn a_preference_gives_way_to_what_the_profile_says() {
        let profile = |text: &str| {
            let mut gpus = Gpus { vendor: Vendor::Intel, count: 1, profile: text.into() };
            gpus.prefer("vram", "256M");
            gpus.profile
        };
        assert_eq!(profile(""), "vram=256M");
        assert_eq!(profile("media"), "media,vram=256M");
        assert_eq!(profile("vram=2G,media"), "vram=2G,media");
    }
}
