//! The choices that make one device differ from another.

use std::str::FromStr;

/// A profile: vendor-neutral choices, and those that only one vendor knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Size of the device's memory in bytes, a power of two; `None` is the model's usual size.
    pub vram: Option<u64>,
    /// Keep translations until they are invalidated, as hardware does. Finds missing invalidations.
    pub tlb: bool,
    /// Intel: a second unit with the media engines.
    pub media: bool,
    /// Intel: report compression metadata beside the memory (flat CCS).
    pub flat_ccs: bool,
}

impl Default for Profile {
    fn default() -> Self {
        Profile { vram: None, tlb: true, media: false, flat_ccs: false }
    }
}

impl FromStr for Profile {
    type Err = String;

    /// Comma-separated: `vram=SIZE` (`2G`, `512M`), and `tlb`, `media`, `ccs`, each also with `no-` before it.
    fn from_str(text: &str) -> Result<Profile, String> {
        let mut profile = Profile::default();
        for item in text.split(',').filter(|item| !item.is_empty() && *item != "default") {
            if let Some(size) = item.strip_prefix("vram=") {
                profile.vram = Some(parse_size(size)?);
                continue;
            }
            let (name, on) = item.strip_prefix("no-").map_or((item, true), |name| (name, false));
            let field = match name {
                "tlb" => &mut profile.tlb,
                "media" => &mut profile.media,
                "ccs" => &mut profile.flat_ccs,
                _ => return Err(format!("unknown item {item:?}; there are vram=SIZE, tlb, media, ccs")),
            };
            *field = on;
        }
        Ok(profile)
    }
}

/// Reads a size: digits, and `M` or `G` behind them.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().find(|(_, c)| !c.is_ascii_digit()) {
        Some((i, _)) => text.split_at(i),
        None => (text, ""),
    };
    let shift = match unit {
        "" => 0,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return Err(format!("unknown unit {unit:?}; there are M and G")),
    };
    let size = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    size.filter(|s| s.is_power_of_two()).ok_or_else(|| format!("{text:?} is no power of two"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles() {
        assert_eq!("default".parse(), Ok(Profile::default()));
        assert_eq!(
            "media,ccs,no-tlb,vram=2G".parse(),
            Ok(Profile { vram: Some(2 << 30), tlb: false, media: true, flat_ccs: true })
        );
        assert!("vram=3G".parse::<Profile>().is_err());
        assert!("turbo".parse::<Profile>().is_err());
    }
}
