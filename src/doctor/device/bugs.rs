//! Kernels known to be bad, and why.

use crate::device::Driver;
use crate::doctor::checks;
use crate::doctor::facts::{Facts, KernelVersion};
use crate::doctor::finding::Finding;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Affected {
    Yes,
    No,
    /// No release near enough was tried.
    Unknown,
}

struct Bug {
    driver: Driver,
    /// Only GPUs with memory of their own are concerned.
    needs_vram: bool,
    affected: fn(KernelVersion) -> Affected,
    /// What happens.
    effect: &'static str,
    cure: &'static str,
}

const BUGS: &[Bug] = &[
    Bug {
        driver: Driver::Xe,
        needs_vram: true,
        affected: |version| is_series(version, 6, 17),
        effect: "a prefetch into VRAM crashes the kernel (NULL in xe_migrate_vram, seen on 6.17.13); this crate never issues one here",
        cure: "use Linux 6.18 or newer; until then leave migration to GPU page faults",
    },
    Bug {
        driver: Driver::Xe,
        needs_vram: true,
        affected: |version| is_series(version, 6, 16),
        effect: "a prefetch into VRAM is accepted and moves nothing (seen on 6.16.12)",
        cure: "use Linux 6.18 or newer; until then leave migration to GPU page faults",
    },
    Bug {
        driver: Driver::Kfd,
        needs_vram: false,
        affected: set_attr_null,
        effect: "SVM attributes set before every GPU has an address space crash the kernel (svm_range_set_attr, seen on 6.16.12 and 6.18.15); \
                 this crate acquires all GPUs first",
        cure: "use Linux 7.3.4 or newer (or 6.12.117 of that series); until then set attributes through this crate or ROCm only",
    },
    Bug {
        driver: Driver::Kfd,
        needs_vram: true,
        affected: eviction_deadlock,
        effect: "a prefetch for which the driver evicts other memory of the process never ends when another thread waits to change the \
                 process's mappings meanwhile, as khugepaged, mmap and munmap do (svm_range_evict_svm_bo_worker, seen on 7.2.12)",
        cure: "use Linux 7.3.4 or newer; until then give prefetches a budget (Policy::Refuse or Policy::Evict), so that the driver \
               need not evict",
    },
    Bug {
        driver: Driver::Kfd,
        needs_vram: false,
        affected: mappings_left_behind,
        effect: "a GPU that loses access to memory (SvmAttribute::NoAccess) keeps it mapped, even when the memory is unmapped, and reaches \
                 pages that may be anyone's by then (svm_range_set_attr, seen on 6.16.12, 6.17.13, 6.18.15 and 7.2.12)",
        cure: "use Linux 7.3.4 or newer; until then take no access away, but unmap the memory",
    },
];

/// Of every amdgpu that was looked at, and nothing that a program which does not move memory meets.
const MEMORY_IN_VRAM: &str = " that a program meets by itself; memory in VRAM must not be moved by mremap or a Vec that grows, nor touched \
                            while amdgpu evicts it: amdgpu loses it, and may hang or crash (seen on 7.3.4; the module kfd says more)";

/// Of every xe that was looked at, and nothing that a program without a read-only mirror meets.
const UNREADABLE_MEMORY: &str = " that a program meets by itself; memory under a read-only mirror must stay readable: a GPU access to \
                                 PROT_NONE memory there never ends (seen on 7.3.4; xe::MirrorOptions::read_only says more)";

fn is_series(version: KernelVersion, major: u32, minor: u32) -> Affected {
    if version.is_of_series(major, minor) { Affected::Yes } else { Affected::No }
}

/// Releases that were looked at: the bug is in 6.16.12 and 6.18.15, its fix in 6.12.117 and 7.3.4.
fn set_attr_null(version: KernelVersion) -> Affected {
    by_releases(version, &[(6, 16, 12), (6, 18, 15)], &[(6, 12, 117), (7, 3, 4)])
}

/// Releases whose source was read. In 7.3.4 the driver evicts where it is, and only if the lock of the mappings is free.
fn eviction_deadlock(version: KernelVersion) -> Affected {
    by_releases(version, &[(6, 18, 15), (7, 2, 12)], &[(7, 3, 4)])
}

fn mappings_left_behind(version: KernelVersion) -> Affected {
    by_releases(version, &[(6, 16, 12), (6, 17, 13), (6, 18, 15), (7, 2, 12)], &[(7, 3, 4)])
}

/// A stable series gets a fix once and keeps it; between the releases that were looked at, and in series without one, nothing is
/// known. The last of `fixed` is of the development series.
fn by_releases(version: KernelVersion, seen: &[(u32, u32, u32)], fixed: &[(u32, u32, u32)]) -> Affected {
    if fixed.last().is_some_and(|(major, minor, _)| version.is_at_least(*major, minor + 1)) {
        return Affected::No;
    }
    let same = |point: &&(u32, u32, u32)| version.is_of_series(point.0, point.1);
    let Some(stable) = version.stable else { return Affected::Unknown };
    if seen.iter().find(same).is_some_and(|point| stable <= point.2) {
        return Affected::Yes;
    }
    if fixed.iter().find(same).is_some_and(|point| stable >= point.2) {
        return Affected::No;
    }
    Affected::Unknown
}

/// One finding for each bug this kernel has or may have, or one that says there is none.
pub(super) fn check(facts: &Facts<'_>, driver: Driver, has_vram: bool) -> Vec<Finding> {
    let Some(version) = facts.kernel.version else {
        return vec![Finding::unknown(
            &checks::KERNEL_BUGS,
            "the kernel's version cannot be read",
            "make /proc/sys/kernel/osrelease readable",
        )];
    };
    let concerned = BUGS.iter().filter(|bug| bug.driver == driver && (has_vram || !bug.needs_vram));
    let found: Vec<Finding> = concerned
        .filter_map(|bug| match (bug.affected)(version) {
            Affected::Yes => Some(Finding::degraded(
                &checks::KERNEL_BUGS,
                format!("Linux {version}: {}", bug.effect),
                bug.cure,
            )),
            Affected::Unknown => Some(Finding::unknown(
                &checks::KERNEL_BUGS,
                format!("whether this kernel has this bug is not known: {}", bug.effect),
                bug.cure,
            )),
            Affected::No => None,
        })
        .collect();
    if found.is_empty() {
        let avoidable = match driver {
            Driver::Kfd if has_vram => MEMORY_IN_VRAM,
            Driver::Xe => UNREADABLE_MEMORY,
            _ => "",
        };
        return vec![Finding::ok(&checks::KERNEL_BUGS, format!("none known of Linux {version}{avoidable}"))];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affected(release: &str) -> Affected {
        set_attr_null(KernelVersion::parse(release).unwrap())
    }

    #[test]
    fn only_what_was_seen_is_said() {
        for (release, expected) in [
            ("6.18.15", Affected::Yes),
            ("6.18.3", Affected::Yes),
            ("6.16.12", Affected::Yes),
            ("6.18.44", Affected::Unknown),
            ("6.18.0-5-generic", Affected::Unknown),
            ("6.12.117", Affected::No),
            ("6.12.118+deb13-amd64", Affected::No),
            ("6.12.74", Affected::Unknown),
            ("6.17.13", Affected::Unknown),
            ("7.2.12", Affected::Unknown),
            ("7.3.4+deb13-amd64", Affected::No),
            ("7.3.1", Affected::Unknown),
            ("7.4-rc1", Affected::No),
            ("8.0.1", Affected::No),
        ] {
            assert_eq!(affected(release), expected, "{release}");
        }
    }

    #[test]
    fn an_eviction_that_waits_for_itself() {
        for (release, expected) in [
            ("7.2.12+deb13-amd64", Affected::Yes),
            ("7.2.13", Affected::Unknown),
            ("6.18.15", Affected::Yes),
            ("6.17.13", Affected::Unknown),
            ("7.3.4", Affected::No),
            ("7.4.0", Affected::No),
        ] {
            assert_eq!(eviction_deadlock(KernelVersion::parse(release).unwrap()), expected, "{release}");
        }
    }
}
