//! What the command line asks of the suite, besides what the test runner understands.

use std::path::PathBuf;

use super::ground::Ground;

/// The suite's own arguments, and the rest for the test runner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) ground: Ground,
    /// Only the device of this label.
    pub(crate) device: Option<String>,
    /// A file that names tests to leave out, one a line: those that a run before this one has done.
    pub(crate) without: Option<PathBuf>,
    pub(crate) task: Task,
    pub(crate) rest: Vec<String>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Run the tests, or whatever else the test runner's arguments say.
    Test,
    /// Name the ground's devices, one JSON object a line.
    Devices,
    /// Name the tests and their needs, one JSON object a line.
    Describe,
}

impl Options {
    /// Takes the suite's own arguments out of all; `HW_GROUND` is the ground where none is given.
    pub(crate) fn from_arguments(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut ground = std::env::var("HW_GROUND").ok();
        let mut options =
            Self { ground: Ground::Simulated, device: None, without: None, task: Task::Test, rest: vec![] };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument.clone(), None),
            };
            let mut value =
                || attached.clone().or_else(|| arguments.next()).ok_or(format!("{name} needs a value"));
            match name.as_str() {
                "--ground" => ground = Some(value()?),
                "--device" => options.device = Some(value()?),
                "--without" => options.without = Some(value()?.into()),
                "--devices" => options.task = Task::Devices,
                "--describe" => options.task = Task::Describe,
                _ => options.rest.push(argument),
            }
        }
        options.ground = match ground.as_deref() {
            None | Some("simulated") => Ground::Simulated,
            Some("lab") => Ground::Lab,
            Some("hardware") => Ground::Hardware,
            Some(other) => return Err(format!("unknown ground {other:?}: simulated, lab or hardware")),
        };
        Ok(options)
    }

    /// The names of tests to leave out.
    pub(crate) fn left_out(&self) -> Result<Vec<String>, String> {
        let Some(path) = &self.without else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}
