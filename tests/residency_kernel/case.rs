//! A test that may lack what it needs.

use libtest_mimic::{Failed, Trial};

/// A test, and why it cannot run here.
pub(crate) struct Case {
    name: &'static str,
    run: fn(),
    lacking: Option<String>,
}

impl Case {
    pub(crate) fn new(name: &'static str, run: fn()) -> Self {
        Self { name, run, lacking: None }
    }

    pub(crate) fn needs(mut self, met: bool, reason: impl Into<String>) -> Self {
        if !met && self.lacking.is_none() {
            self.lacking = Some(reason.into());
        }
        self
    }

    pub(crate) fn trial(self) -> Trial {
        let name = match &self.lacking {
            None => self.name.to_owned(),
            Some(reason) => format!("{} (skipped: {reason})", self.name),
        };
        let run = self.run;
        Trial::test(name, move || {
            // A panic's message has been printed by then.
            std::panic::catch_unwind(run).map_err(|_| Failed::without_message())
        })
        .with_ignored_flag(self.lacking.is_some())
    }
}
