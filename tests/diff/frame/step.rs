//! One operation of a script: a verb and named arguments, as one line of text.

use std::fmt;
use std::str::FromStr;

/// Why a step cannot be done: it is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadStep(pub(crate) String);

impl fmt::Display for BadStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A verb and its arguments, in the order in which they are written.
///
/// Neither names nor values contain blanks or `=`; numbers are decimal, or hexadecimal after `0x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) verb: String,
    pub(crate) args: Vec<(String, String)>,
}

impl Step {
    pub(crate) fn new(verb: &str) -> Self {
        Self { verb: verb.to_owned(), args: Vec::new() }
    }

    /// With one more argument.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.args.push((name.to_owned(), value.to_string()));
        self
    }

    /// With one more argument, unless it has its default value.
    #[must_use]
    pub(crate) fn with_unless<T: fmt::Display + PartialEq>(self, default: T, name: &str, value: T) -> Self {
        if value == default { self } else { self.with(name, value) }
    }

    /// The text of an argument.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.args.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The text of an argument without which the step makes no sense.
    pub(crate) fn required(&self, name: &str) -> Result<&str, BadStep> {
        self.text(name).ok_or_else(|| BadStep(format!("{} needs {name}=", self.verb)))
    }

    /// A number, or its default.
    pub(crate) fn number(&self, name: &str, default: u64) -> Result<u64, BadStep> {
        match self.text(name) {
            Some(text) => {
                number(text).ok_or_else(|| BadStep(format!("{}: {name}={text} is not a number", self.verb)))
            }
            None => Ok(default),
        }
    }
}

/// A number as steps write them.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verb)?;
        self.args.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

impl FromStr for Step {
    type Err = BadStep;

    fn from_str(line: &str) -> Result<Self, BadStep> {
        let mut words = line.split_whitespace();
        let verb = words.next().ok_or_else(|| BadStep("an empty line is no step".to_owned()))?;
        let mut step = Self::new(verb);
        for word in words {
            let (name, value) =
                word.split_once('=').ok_or_else(|| BadStep(format!("{word}: not of the form name=value")))?;
            step = step.with(name, value);
        }
        Ok(step)
    }
}
