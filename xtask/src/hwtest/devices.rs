//! The devices of a ground, as the suite sees them.

use crate::command;
use crate::lab::Vendor;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// A device, or a place where one might have been.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Device {
    /// What the names of its tests begin with; empty for what is no device.
    pub(crate) label: String,
    #[serde(default)]
    pub(crate) driver: String,
    pub(crate) name: String,
    /// Why it cannot be tested.
    pub(crate) lacking: Option<String>,
}

/// Asks the suite's binary.
pub(crate) fn of(binary: &Path, ground: &str) -> Result<Vec<Device>> {
    parse(&command::output(Command::new(binary).args(["--ground", ground, "--devices"]))?)
}

fn parse(text: &str) -> Result<Vec<Device>> {
    text.lines()
        .map(|line| {
            serde_json::from_str(line).with_context(|| format!("the suite named a device as {line:?}"))
        })
        .collect()
}

/// Those that can be tested, of these vendors, and if `wanted` is given, with this label or with this in their name.
pub(crate) fn choose(all: &[Device], vendors: &[Vendor], wanted: Option<&str>) -> Result<Vec<Device>> {
    let of_vendor = |device: &&Device| vendors.iter().any(|vendor| vendor.module() == device.driver);
    let Some(wanted) = wanted else {
        return Ok(all.iter().filter(of_vendor).filter(|device| device.lacking.is_none()).cloned().collect());
    };
    let exact = all.iter().filter(|device| device.label == wanted).collect::<Vec<_>>();
    let fits = |device: &&Device| !device.label.is_empty() && device.name.contains(wanted);
    let fitting = if exact.is_empty() { all.iter().filter(fits).collect() } else { exact };
    if fitting.is_empty() {
        let labels: Vec<&str> =
            all.iter().map(|device| device.label.as_str()).filter(|label| !label.is_empty()).collect();
        bail!(
            "no device {wanted:?}; there are: {}",
            if labels.is_empty() { "none".into() } else { labels.join(", ") }
        );
    }
    if let Some((device, reason)) = fitting.iter().find_map(|device| Some((device, device.lacking.as_ref()?)))
    {
        bail!("{} ({}) cannot be tested: {reason}", device.label, device.name);
    }
    Ok(fitting.into_iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = r#"{"label":"xe0","driver":"xe","name":"Intel A","lacking":null}
{"label":"xe1","driver":"xe","name":"Intel B","lacking":"too old"}
{"label":"amdgpu2","driver":"amdgpu","name":"AMD C","lacking":null}
{"label":"","name":"/dev/kfd","lacking":"permission denied"}
"#;

    #[test]
    fn usable_devices_are_chosen_by_vendor_label_or_name() {
        let all = parse(SEEN).unwrap();
        let labels = |vendors: &[Vendor], wanted| -> Vec<String> {
            choose(&all, vendors, wanted).unwrap().into_iter().map(|device| device.label).collect()
        };
        assert_eq!(labels(&Vendor::ALL, None), ["xe0", "amdgpu2"]);
        assert_eq!(labels(&[Vendor::Amd], None), ["amdgpu2"]);
        assert_eq!(labels(&Vendor::ALL, Some("xe0")), ["xe0"]);
        assert_eq!(labels(&Vendor::ALL, Some("AMD")), ["amdgpu2"]);
    }

    #[test]
    fn what_cannot_be_tested_is_refused_with_the_reason() {
        let all = parse(SEEN).unwrap();
        let refused = |wanted| choose(&all, &Vendor::ALL, Some(wanted)).unwrap_err().to_string();
        assert!(refused("xe1").contains("too old"));
        assert!(refused("kfd").contains("xe0, xe1, amdgpu2"));
        assert!(parse("{}").is_err());
    }
}
