//! What is known to fail on a virtual GPU, and why. Everything else that fails is news.

use super::guest::Record;
use super::outcome::Outcome;
use super::pattern::fits;

/// Subtests that fail, or make the kernel complain.
struct Known {
    program: &'static str,
    subtests: &'static [&'static str],
    /// Kernels, from the first to the last series; all when absent.
    kernels: Option<((u32, u32), (u32, u32))>,
    why: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        program: "xe_exec_store",
        subtests: &["long-shader-bb-check"],
        kernels: None,
        why: "runs a shader: there are no execution units",
    },
    Known {
        program: "xe_vm",
        subtests: &["bind-array-conflict-error-inject"],
        kernels: None,
        why: "orders the driver to fail, which takes a kernel built with CONFIG_DRM_XE_DEBUG",
    },
    Known {
        program: "xe_vm",
        subtests: &["out-of-memory"],
        kernels: None,
        why: "binds pieces of 512 MiB until VRAM is full, and has none here; passes with `--profile vram=2G --memory 6144`",
    },
    Known {
        program: "xe_vm",
        subtests: &["overcommit-nonfault-vram-lr-external-nodefer"],
        kernels: None,
        why: "binds more than VRAM before there is a queue: xe evicts, and maps anew only what a queue is stopped for, so that the first \
              queue writes by old page tables (seen in the driver's trace events on 7.3)",
    },
    Known {
        program: "xe_pat",
        subtests: &["pat-index-xe2", "pt-caching-update-pat-and-pte"],
        kernels: None,
        why: "every pixel of every format, in an emulator: not in two minutes",
    },
];

/// What a subtest's result means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passed, or was skipped by its own decision.
    Fine,
    /// It failed as is known, for this reason.
    Known(&'static str),
    /// It was to fail and passed.
    Better(&'static str),
    /// It failed, or the kernel complained.
    News,
}

#[derive(Debug)]
pub(super) struct Judged {
    pub(super) record: Record,
    pub(super) verdict: Verdict,
}

pub(super) fn judge(records: Vec<Record>, series: (u32, u32)) -> Vec<Judged> {
    let judged = |record: Record| {
        let known = KNOWN.iter().find(|known| known.holds(&record, series)).map(|known| known.why);
        let verdict = verdict(&record, known);
        Judged { record, verdict }
    };
    records.into_iter().map(judged).collect()
}

fn verdict(record: &Record, known: Option<&'static str>) -> Verdict {
    let failed = matches!(record.outcome, Outcome::Failed(_)) || !record.complaints.is_empty();
    match (failed, known) {
        (true, Some(why)) => Verdict::Known(why),
        (true, None) => Verdict::News,
        (false, Some(why)) if record.outcome == Outcome::Passed => Verdict::Better(why),
        (false, _) => Verdict::Fine,
    }
}

impl Known {
    fn holds(&self, record: &Record, series: (u32, u32)) -> bool {
        self.program == record.test.program
            && self.subtests.iter().any(|pattern| fits(pattern, &record.test.subtest))
            && self.kernels.is_none_or(|(first, last)| first <= series && series <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::super::selection::Test;
    use super::*;
    use std::time::Duration;

    fn record(outcome: Outcome, complaints: &[&str]) -> Record {
        Record {
            test: Test { program: "xe_vm".into(), subtest: "a-b".into() },
            outcome,
            complaints: complaints.iter().map(|text| (*text).to_owned()).collect(),
            time: Duration::ZERO,
            output: String::new(),
        }
    }

    #[test]
    fn only_what_is_listed_may_fail() {
        let failed = || Outcome::Failed("x".into());
        assert_eq!(verdict(&record(failed(), &[]), None), Verdict::News);
        assert_eq!(verdict(&record(failed(), &[]), Some("why")), Verdict::Known("why"));
        assert_eq!(verdict(&record(Outcome::Passed, &["WARNING"]), None), Verdict::News);
        assert_eq!(verdict(&record(Outcome::Passed, &[]), Some("why")), Verdict::Better("why"));
        assert_eq!(verdict(&record(Outcome::Skipped("y".into()), &[]), Some("why")), Verdict::Fine);
    }

    #[test]
    fn an_entry_holds_for_its_program_subtests_and_kernels() {
        let known = Known { program: "xe_vm", subtests: &["a-*"], kernels: Some(((6, 18), (7, 2))), why: "" };
        let it = record(Outcome::Passed, &[]);
        assert!(known.holds(&it, (6, 18)) && known.holds(&it, (7, 2)));
        assert!(!known.holds(&it, (7, 3)));
        assert!(!Known { subtests: &["b-*"], ..known }.holds(&it, (7, 2)));
        assert!(KNOWN.iter().all(|known| !known.why.is_empty() && !known.subtests.is_empty()));
    }
}
