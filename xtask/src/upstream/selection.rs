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
    /// Their memory.
    vram: &'static str,
    /// What is run unless everything is asked for.
    usual: &'static [&'static str],
}

/// Little memory, so that tests which fill it come to their end.
const LITTLE: &str = "256M";
/// For tests that make thousands of things in it.
const ENOUGH: &str = "1G";

const fn all(name: &'static str) -> Program {
    part(name, &["*"])
}

const fn part(name: &'static str, usual: &'static [&'static str]) -> Program {
    Program { name, gpus: 1, vram: LITTLE, usual }
}

/// What exercises shared virtual memory and what it stands on. Left out are display, performance counters, power
/// management, virtualisation and content protection, which the virtual GPU does not have.
const PROGRAMS: &[Program] = &[
    // Thousands of combinations of the same ingredients: here each ingredient by itself, and the races.
    part(
        "xe_exec_system_allocator",
        &[
            "once-*",
            "many-stride-malloc*",
            "many-stride-mmap-free*",
            "twice-large-malloc*",
            "many-execqueues-malloc*",
            "threads-shared-*",
            "process-many-malloc*",
            "fault",
            "partial-*",
            "unaligned-*",
            "evict-*",
            "processes-evict-*",
            "madvise-*",
            "pat-index-*",
        ],
    ),
    all("xe_madvise"),
    all("xe_svm_usrptr_madvise"),
    all("xe_prefetch_fault"),
    all("xe_page_reclaim"),
    part(
        "xe_exec_fault_mode",
        &["once-*", "many-userptr*", "many-execqueues-rebind*", "invalid-*", "many-invalid-*"],
    ),
    all("xe_vm"),
    all("xe_waitfence"),
    part("xe_exec_basic", &["once-*", "many-basic*", "many-execqueues-many-vm-*"]),
    all("xe_exec_atomic"),
    all("xe_exec_store"),
    part("xe_exec_compute_mode", &["once-*", "twice-userptr*", "lr-*", "non-*"]),
    all("xe_exec_mix_modes"),
    part("xe_exec_threads", &["threads-basic", "threads-mixed-shared-vm-*basic*"]),
    part("xe_evict", &["evict-small*", "evict-threads-small*", "evict-*-small*"]),
    all("xe_query"),
    Program { name: "xe_create", gpus: 1, vram: ENOUGH, usual: &["*"] },
    all("xe_mmap"),
    // Not those that look at caches for minutes, which no virtual GPU has.
    part("xe_pat", &["userptr-*", "prime-*", "bo-*", "pat-s*", "l2-*"]),
    all("xe_copy_basic"),
    all("xe_dma_buf_sync"),
    all("xe_userptr_pressure"),
    all("xe_exec_queue_property"),
    all("xe_tlb"),
    Program { name: "xe_multigpu_svm", gpus: 2, vram: LITTLE, usual: &["*"] },
    Program { name: "xe_peer2peer", gpus: 2, vram: LITTLE, usual: &["*"] },
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
    pub(super) vram: &'static str,
    pub(super) tests: Vec<Test>,
}

/// The subtests that the options choose.
pub(super) fn select(packages: &Packages, chosen: &[String], everything: bool) -> Result<Vec<Group>> {
    let wanted: Vec<(&str, &str)> =
        chosen.iter().map(|text| text.split_once('@').unwrap_or((text, ""))).collect();
    let mut groups = Vec::new();
    for Chosen { name, gpus, vram, usual } in programs(&wanted) {
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
        groups.push(Group { gpus, vram, tests });
    }
    Ok(groups)
}

/// A program by the name that the user or the list gave it.
struct Chosen<'a> {
    name: &'a str,
    gpus: usize,
    vram: &'static str,
    usual: &'static [&'static str],
}

impl Program {
    fn chosen(&self) -> Chosen<'static> {
        Chosen { name: self.name, gpus: self.gpus, vram: self.vram, usual: self.usual }
    }
}

/// The programs to run: those of the list, or the named ones, which need not be on it.
fn programs<'a>(wanted: &[(&'a str, &'a str)]) -> Vec<Chosen<'a>> {
    if wanted.is_empty() {
        return PROGRAMS.iter().map(Program::chosen).collect();
    }
    let mut found: Vec<Chosen<'a>> = Vec::new();
    for (name, _) in wanted {
        if !found.iter().any(|known| known.name == *name) {
            let unlisted = Chosen { name, gpus: 1, vram: LITTLE, usual: &["*"] };
            let listed = PROGRAMS.iter().find(|program| program.name == *name);
            found.push(listed.map_or(unlisted, |it| it.chosen()));
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
        let names: Vec<(&str, usize)> = found.iter().map(|it| (it.name, it.gpus)).collect();
        assert_eq!(names, [("xe_vm", 1), ("xe_multigpu_svm", 2), ("xe_pm", 1)]);
        assert_eq!(programs(&[]).len(), PROGRAMS.len());
    }
}
