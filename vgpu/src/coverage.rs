//! The record of what a driver asked for and the model does not know, as a readable list.

use std::fmt;

/// A titled list of lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// What the lines are about.
    pub title: String,
    /// One line each, sorted by address or code.
    pub lines: Vec<String>,
}

/// Everything unknown that was met, and the counters beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The lists; an empty one is kept, so that "nothing unknown" can be told from "not recorded".
    pub sections: Vec<Section>,
}

impl Coverage {
    /// Appends a list.
    pub fn section(&mut self, title: &str, lines: Vec<String>) {
        self.sections.push(Section { title: title.into(), lines });
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in &self.sections {
            writeln!(f, "## {} ({})", section.title, section.lines.len())?;
            for line in &section.lines {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}
