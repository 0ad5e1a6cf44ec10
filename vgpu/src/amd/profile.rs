//! The choices that make one AMD device differ from another.

use std::str::FromStr;

use super::asic::{Asic, MI200, VEGA10};

/// What to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmdProfile {
    /// The device.
    pub asic: &'static Asic,
    /// All devices of the process form a hive.
    pub hive: bool,
    /// Bytes of memory per device, a power of two.
    pub vram: u64,
    /// Keep translations until they are invalidated, as hardware does. Finds missing invalidations.
    pub tlb: bool,
}

/// Memory unless the profile says otherwise.
const USUAL_VRAM: u64 = 1 << 30;
/// The least that the driver can start with.
const LEAST_VRAM: u64 = 128 << 20;

impl Default for AmdProfile {
    fn default() -> Self {
        AmdProfile { asic: &MI200, hive: false, vram: USUAL_VRAM, tlb: true }
    }
}

impl FromStr for AmdProfile {
    type Err = String;

    /// Comma-separated: a device (`mi200`, `vega10`), `xgmi` for a hive, `vram=SIZE`, `tlb` or `no-tlb`.
    fn from_str(text: &str) -> Result<AmdProfile, String> {
        let mut profile = AmdProfile::default();
        for item in text.split(',').filter(|item| !item.is_empty() && *item != "default") {
            match item {
                "mi200" => profile.asic = &MI200,
                "vega10" => profile.asic = &VEGA10,
                "xgmi" => profile.hive = true,
                "tlb" => profile.tlb = true,
                "no-tlb" => profile.tlb = false,
                _ => match item.strip_prefix("vram=") {
                    Some(size) => profile.vram = crate::profile::parse_size(size)?,
                    None => {
                        let known = "mi200, vega10, xgmi, vram=SIZE, tlb, no-tlb";
                        return Err(format!("unknown item {item:?}; there are {known}"));
                    }
                },
            }
        }
        if profile.hive && !profile.asic.xgmi {
            return Err(format!("{} has no XGMI links", profile.asic.name));
        }
        if profile.vram < LEAST_VRAM {
            return Err(format!("the driver needs at least {} MiB of memory", LEAST_VRAM >> 20));
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles() {
        assert_eq!("default".parse(), Ok(AmdProfile::default()));
        let vega: AmdProfile = "vega10,vram=256M,no-tlb".parse().unwrap();
        assert_eq!((vega.asic.device, vega.vram, vega.tlb), (0x6860, 256 << 20, false));
        assert!("xgmi".parse::<AmdProfile>().unwrap().hive);
        assert!("vega10,xgmi".parse::<AmdProfile>().unwrap_err().contains("links"));
        assert!("vram=64M".parse::<AmdProfile>().is_err());
        assert!("mi300".parse::<AmdProfile>().unwrap_err().contains("mi200"));
    }
}
