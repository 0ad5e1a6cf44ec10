//! Scripts: steps, and where they come from.

use std::fmt;
use std::path::Path;

use super::random::Random;
use super::step::Step;
use super::{BadStep, Model};

/// A named list of steps. As text: one step a line; lines that begin with `#` are comments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
}

impl Script {
    /// The script that a seed means.
    pub(crate) fn of_seed(model: &dyn Model, seed: u64, steps: usize) -> Self {
        let steps = model.generate(&mut Random::new(seed), steps);
        Self { name: format!("seed {seed}"), steps }
    }

    /// Reads a saved one.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let failed = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, steps: parse(&text).map_err(|error| failed(&error))? })
    }
}

/// The steps in a text.
pub(crate) fn parse(text: &str) -> Result<Vec<Step>, BadStep> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::parse).collect()
}

/// The text of steps.
pub(crate) fn print(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{step}\n")).collect()
}
