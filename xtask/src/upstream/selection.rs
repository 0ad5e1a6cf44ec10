//! Which subtests are run.

use super::packages::Packages;
use super::pattern::fits;
use anyhow::{Result, bail};
use std::fmt;

/// A program of the suite.
#[derive(Debug)]
struct Program {
    name: &'static str,
    /// GPUs that it needs.
    gpus: usize,
    /// What is run unless everything is asked for.
    usual: &'static [&'static str],
}

const fn all(name: &'static str) -> Program {
    Program { name, gpus: 1, usual: &["*"] }
}

/// What exercises shared virtual memory and what it stands on. Left out are display, performance counters, power
/// management, virtualisation and content protection, which the virtual GPU does not have.
const PROGRAMS: &[Program] = &[
    Program {
        name: "xe_exec_system_allocator",
        gpus: 1,
        // Thousands of combinations of the same ingredients; each ingredient, and the races.
        usual: &[
            "once-*",
            "many-stride-*",
            "many-64k-*",
            "twice-large-*",
            "many-execqueues-*",
            "threads-shared-vm-many-stride-malloc*",
            "process-many-malloc*",
            "threads-shared-*",
            "fault",
            "partial-*",
            "unaligned-*",
            "evict-*",
            "processes-evict-*",
            "madvise-*",
            "pat-index-*",
            "prefetch-*",
        ],
    },
    all("xe_madvise"),
    all("xe_svm_usrptr_madvise"),
    all("xe_prefetch_fault"),
    all("xe_page_reclaim"),
    Program {
        name: "xe_exec_fault_mode",
        gpus: 1,
        usual: &["once-*", "many-userptr*", "many-execqueues-rebind*", "invalid-*", "many-invalid-*"],
    },
    all("xe_vm"),
    all("xe_waitfence"),
    Program {
        name: "xe_exec_basic",
        gpus: 1,
        usual: &["once-*", "many-basic*", "many-execqueues-many-vm-*"],
    },
    all("xe_exec_atomic"),
    all("xe_exec_store"),
    Program { name: "xe_exec_compute_mode", gpus: 1, usual: &["once-*", "twice-userptr*", "lr-*", "non-*"] },
    all("xe_exec_mix_modes"),
    Program {
        name: "xe_exec_threads",
        gpus: 1,
        usual: &["threads-basic", "threads-mixed-shared-vm-*basic*"],
    },
    Program { name: "xe_evict", gpus: 1, usual: &["evict-small*", "evict-threads-small*", "evict-*-small*"] },
    all("xe_query"),
    all("xe_create"),
    all("xe_mmap"),
    all("xe_pat"),
    all("xe_copy_basic"),
    all("xe_dma_buf_sync"),
    all("xe_userptr_pressure"),
    all("xe_exec_queue_property"),
    all("xe_tlb"),
    Program { name: "xe_multigpu_svm", gpus: 2, usual: &["*"] },
    Program { name: "xe_peer2peer", gpus: 2, usual: &["*"] },
];

/// One subtest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) program: String,
    pub(super) subtest: String,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.program, self.subtest)
    }
}

/// What shares a guest: the subtests of one program.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) gpus: usize,
    pub(super) tests: Vec<Test>,
}

/// The subtests that the options choose.
pub(super) fn select(packages: &Packages, chosen: &[String], everything: bool) -> Result<Vec<Group>> {
    let wanted: Vec<(&str, &str)> =
        chosen.iter().map(|text| text.split_once('@').unwrap_or((text, ""))).collect();
    let mut groups = Vec::new();
    for (name, gpus, usual) in programs(&wanted) {
        if !packages.has(name) {
            bail!("{} has no program {name}", packages.version);
        }
        let mut patterns: Vec<&str> =
            wanted.iter().filter(|(program, _)| *program == name).map(|(_, subtest)| *subtest).collect();
        if patterns.iter().all(|pattern| pattern.is_empty()) {
            patterns = if everything { vec!["*"] } else { usual.to_vec() };
        }
        let subtests = packages.subtests(name)?;
        let chosen = subtests.into_iter().filter(|subtest| patterns.iter().any(|it| fits(it, subtest)));
        let tests: Vec<Test> = chosen.map(|subtest| Test { program: name.to_owned(), subtest }).collect();
        if tests.is_empty() {
            bail!("{name} has no subtest like {}", patterns.join(" or "));
        }
        groups.push(Group { gpus, tests });
    }
    Ok(groups)
}

/// The programs to run: those of the list, or the named ones, which need not be on it.
fn programs<'a>(wanted: &[(&'a str, &'a str)]) -> Vec<(&'a str, usize, &'static [&'static str])> {
    if wanted.is_empty() {
        return PROGRAMS.iter().map(|program| (program.name, program.gpus, program.usual)).collect();
    }
    let mut found: Vec<(&str, usize, &'static [&'static str])> = Vec::new();
    for (name, _) in wanted {
        if !found.iter().any(|(known, ..)| known == name) {
            let listed = PROGRAMS.iter().find(|program| program.name == *name);
            found.push(listed.map_or((name, 1, &["*"] as &[&str]), |it| (name, it.gpus, it.usual)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_programs_are_run_once_each_and_need_not_be_on_the_list() {
        let found = programs(&[("xe_vm", "a"), ("xe_vm", "b"), ("xe_multigpu_svm", ""), ("xe_pm", "")]);
        let names: Vec<(&str, usize)> = found.iter().map(|(name, gpus, _)| (*name, *gpus)).collect();
        assert_eq!(names, [("xe_vm", 1), ("xe_multigpu_svm", 2), ("xe_pm", 1)]);
        assert_eq!(programs(&[]).len(), PROGRAMS.len());
    }
}
