//! What a check found.

use std::fmt;

use crate::error::{Errno, Error};

/// One precondition that is looked at: the same on every machine.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// A stable name for programs, as `device.open`. What comes before the dot is the subject.
    pub id: &'static str,
    /// A name for people.
    pub title: &'static str,
    /// Where the rule comes from: a file or function of the kernel, or what was measured.
    pub source: &'static str,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Status {
    /// Shared virtual memory does not work because of this.
    Problem,
    /// It works with less: slower, not everywhere, or with less to be seen.
    Degraded,
    /// It could not be observed.
    Unknown,
    /// As it should be.
    Ok,
    /// It does not matter here.
    NotApplicable,
}

impl Status {
    /// A word for people and programs: `problem`, `degraded`, `unknown`, `ok`, `not applicable`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::NotApplicable => "not applicable",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An error as part of an observation: call, reason and errno. What to try is left to the cure.
pub(super) fn in_words(error: &Error) -> String {
    match error.errno() {
        Some(errno) => format!("{}: {} ({})", error.call(), error.reason(), short(errno)),
        None => format!("{}: {}", error.call(), error.reason()),
    }
}

/// The errno's name, or its number where it has none.
pub(super) fn short(errno: Errno) -> String {
    errno.name().map_or_else(|| errno.to_string(), str::to_owned)
}

/// What an error says to try, or to look for the driver's reason.
pub(super) fn cure_of(error: &Error) -> String {
    error.hint().unwrap_or("look for the driver's reason: dmesg").to_owned()
}

/// The cure of what could not be looked at because of something else that is reported.
pub(super) const FIRST_THE_REST: &str = "cure the problem above first";

/// What a check found: an observation, how it is to be taken, and what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    check: &'static Check,
    status: Status,
    observed: String,
    cure: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static Check, observed: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, observed: observed.into(), cure: None }
    }

    pub(super) fn not_applicable(check: &'static Check, observed: impl Into<String>) -> Self {
        Self { check, status: Status::NotApplicable, observed: observed.into(), cure: None }
    }

    pub(super) fn problem(
        check: &'static Check,
        observed: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { check, status: Status::Problem, observed: observed.into(), cure: Some(cure.into()) }
    }

    pub(super) fn degraded(
        check: &'static Check,
        observed: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { check, status: Status::Degraded, observed: observed.into(), cure: Some(cure.into()) }
    }

    /// `observed` says why it is unknown; the cure says how it could become known.
    pub(super) fn unknown(
        check: &'static Check,
        observed: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { check, status: Status::Unknown, observed: observed.into(), cure: Some(cure.into()) }
    }

    /// The check.
    #[must_use]
    pub fn check(&self) -> &'static Check {
        self.check
    }

    /// How it went.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// What was observed, in words; for [`Status::Unknown`], why nothing could be.
    #[must_use]
    pub fn observed(&self) -> &str {
        &self.observed
    }

    /// What helps, in one line. There for every problem, degradation and unknown.
    #[must_use]
    pub fn cure(&self) -> Option<&str> {
        self.cure.as_deref()
    }
}
