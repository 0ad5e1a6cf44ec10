//! Calls with something wrong about them.

use super::{Random, Step};

/// For a verb: arguments, and values that are wrong for them (or that one would think wrong).
pub(crate) type Mistakes = (&'static str, &'static [(&'static str, &'static [&'static str])]);

impl Step {
    /// The step with one argument put wrong, if the table knows of its verb.
    pub(crate) fn with_mistake(mut self, table: &[Mistakes], random: &mut Random) -> Self {
        let Some((_, mistakes)) = table.iter().find(|(verb, _)| *verb == self.verb) else { return self };
        let (name, values) = *random.pick(mistakes);
        let value = *random.pick(values);
        self.args.retain(|(own, _)| own != name);
        self.with(name, value)
    }
}
