//! Memory to move.

use anyhow::{Context, Result};
use rustix::mm::Advice;

use super::Data;

/// `bytes` that the CPU has written, in huge pages where they fit and the kernel has them, or in none.
pub(crate) fn filled(bytes: u64, huge: bool) -> Result<Data> {
    let mut data = Data::zeroed(bytes as usize / 4)?;
    let range = data.range();
    if !huge {
        // SAFETY: the advice is about how the kernel backs the buffer's own pages; it changes no byte.
        unsafe {
            rustix::mm::madvise(range.start() as *mut _, range.len() as usize, Advice::LinuxNoHugepage)
        }
        .context("madvise(MADV_NOHUGEPAGE)")?;
    }
    data.iter_mut().enumerate().for_each(|(index, word)| *word = index as u32);
    Ok(data)
}

/// What the kernel believes to be available without swapping, in bytes.
pub(crate) fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
