//! Small text files.

use crate::doctor::system::System;
use crate::error::Errno;

/// The text of a file without white space around it.
pub(in crate::doctor) fn text(system: &dyn System, path: &str) -> Result<String, Errno> {
    let bytes = system.read(path)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The decimal number in a file. A file with anything else in it counts as not there.
pub(in crate::doctor) fn number(system: &dyn System, path: &str) -> Result<u64, Errno> {
    text(system, path)?.parse().map_err(|_| Errno::ENODATA)
}

/// A number of sysfs in hexadecimal, with or without `0x`.
pub(in crate::doctor) fn hex(text: &str) -> Option<u64> {
    let text = text.trim();
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// The last component of a path.
pub(in crate::doctor) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
