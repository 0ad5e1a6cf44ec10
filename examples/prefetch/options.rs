//! The command line.

use anyhow::{Result, bail};
use lexopt::prelude::*;

const HELP: &str = "\
Puts a buffer into VRAM, shows where its pages are, and checks that no byte is lost.

Usage: cargo run --release --example prefetch -- [OPTIONS]

  --size SIZE        bytes, with K, M or G for binary multiples   [default: 256M]
  --device DEVICE    an index or part of a name as `--example info` shows them, or `simulated`
                     [default: the first GPU with shared virtual memory, else the simulated one]
  --direction WAY    to-vram, to-system or both                   [default: both]
  --json             one JSON object instead of text
  --help             this text";

/// Which prefetches to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToVram,
    ToSystem,
    Both,
}

/// What the command line asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) size: usize,
    pub(crate) device: Option<String>,
    pub(crate) direction: Direction,
    pub(crate) json: bool,
}

impl Options {
    /// `None` when only the help text was wanted.
    pub(crate) fn from_arguments() -> Result<Option<Self>> {
        let mut options = Self { size: 256 << 20, device: None, direction: Direction::Both, json: false };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("size") => options.size = size(&parser.value()?.string()?)?,
                Long("device") => options.device = Some(parser.value()?.string()?),
                Long("direction") => {
                    options.direction = match parser.value()?.string()?.as_str() {
                        "to-vram" => Direction::ToVram,
                        "to-system" => Direction::ToSystem,
                        "both" => Direction::Both,
                        other => bail!("--direction takes to-vram, to-system or both, not {other:?}"),
                    }
                }
                Long("json") => options.json = true,
                Short('h') | Long("help") => {
                    println!("{HELP}");
                    return Ok(None);
                }
                other => bail!("{}; --help lists the options", other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

fn size(text: &str) -> Result<usize> {
    let refuse = |why: &str| {
        anyhow::anyhow!("--size {text}: {why}; write bytes or a binary multiple such as 64M or 2G")
    };
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: usize = digits.parse().map_err(|_| refuse("not a size"))?;
    let bytes = number.checked_mul(1 << shift).ok_or_else(|| refuse("larger than the address space"))?;
    if bytes < size_of::<u64>() {
        return Err(refuse("at least 8 bytes are needed"));
    }
    Ok(bytes)
}
