//! Residency as text: a bar of cells, and a summary for people.

use std::fmt;

use super::cells::{bytes, cells, percent};
use super::map::Residency;
use super::place::Place;

impl Place {
    /// The character that stands for the place in a [`Bar`]: `█` device, `▒` system, `░` zero, `s` swap, `?` ambiguous, `!`
    /// marker, `#` guard, `·` absent. Distinct without colour.
    #[must_use]
    pub const fn glyph(self) -> char {
        match self {
            Self::Device => '█',
            Self::System => '▒',
            Self::Zero => '░',
            Self::Swap => 's',
            Self::Ambiguous => '?',
            Self::Marker => '!',
            Self::Guard => '#',
            Self::Absent => '·',
        }
    }

    /// The parameter of the ANSI escape (`ESC [ n m`) that sets the place's colour.
    const fn ansi(self) -> &'static str {
        match self {
            Self::Device => "32",
            Self::System => "34",
            Self::Zero => "36",
            Self::Swap => "33",
            Self::Ambiguous => "35",
            Self::Marker | Self::Guard => "31",
            Self::Absent => "90",
        }
    }
}

/// A range as one line of text; made by [`Residency::bar`].
#[derive(Clone, Debug)]
#[must_use = "a bar does nothing until it is displayed"]
pub struct Bar {
    cells: Vec<Place>,
    coloured: bool,
}

impl Bar {
    /// Whether ANSI escapes colour the bar (off by default). The caller knows whether the text goes to a terminal and
    /// whether its user wants colours.
    ///
    /// ```
    /// # fn main() -> drm_pagemap::Result<()> {
    /// use std::io::IsTerminal;
    /// let wanted = std::env::var_os("NO_COLOR").is_none() && std::io::stdout().is_terminal();
    /// println!("{}", drm_pagemap::residency::of(&[0u8; 8192])?.bar(40).coloured(wanted));
    /// # Ok(())
    /// # }
    /// ```
    pub fn coloured(mut self, coloured: bool) -> Self {
        self.coloured = coloured;
        self
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for same in self.cells.chunk_by(|a, b| a == b) {
            let place = same[0];
            if self.coloured {
                write!(f, "\x1b[{}m", place.ansi())?;
            }
            same.iter().try_for_each(|place| write!(f, "{}", place.glyph()))?;
        }
        if self.coloured && !self.cells.is_empty() {
            write!(f, "\x1b[0m")?;
        }
        Ok(())
    }
}

impl Residency {
    /// The range as `width` characters of text, each the [`glyph`](Place::glyph) of the place that most of its share of the
    /// range is in. Empty when nothing was scanned.
    pub fn bar(&self, width: usize) -> Bar {
        Bar { cells: cells(self, width), coloured: false }
    }
}

/// One line for people: size, addresses, and the bytes in each place that has any.
impl fmt::Display for Residency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(range) = self.range() else { return f.write_str("not scanned") };
        let summary = self.summary();
        let total = summary.total();
        write!(f, "{} at {range}", bytes(total))?;
        let mut separator = ": ";
        for place in Place::ALL {
            let count = summary.bytes(place);
            if count == 0 {
                continue;
            }
            write!(f, "{separator}{place} {} ({})", bytes(count), percent(count, total))?;
            separator = ", ";
            let huge = summary.huge_bytes(place);
            if huge == count {
                write!(f, " in huge pages")?;
            } else if huge > 0 {
                write!(f, " of which {} in huge pages", bytes(huge))?;
            }
        }
        if summary.bytes(Place::Ambiguous) > 0 {
            let (least, most) = summary.device_bytes().into_inner();
            if least == most {
                write!(f, "; exactly {} are on a device", bytes(least))?;
            } else {
                write!(f, "; {} to {} are on a device", bytes(least), bytes(most))?;
            }
        }
        Ok(())
    }
}
