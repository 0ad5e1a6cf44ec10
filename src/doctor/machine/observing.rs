//! What looking at residency and the simulated device need.

use crate::doctor::checks;
use crate::doctor::facts::{Capability, Facts, number};
use crate::doctor::finding::{FIRST_THE_REST, Finding, short};
use crate::error::Errno;
use crate::uapi::userfaultfd::UFFD_FEATURE_MOVE;

pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = page_map(facts);
    findings.push(mincore(facts));
    findings.extend(userfaultfd(facts));
    findings
}

fn page_map(facts: &Facts<'_>) -> Vec<Finding> {
    match facts.system.pagemap() {
        Ok(access) => {
            let types =
                facts.process.has(Capability::SysAdmin) == Some(true) && !facts.process.in_user_namespace;
            let seen = if types { "readable, with the types of its entries" } else { "readable" };
            let scan = if access.scan {
                Finding::ok(&checks::PAGEMAP_SCAN, "there: large ranges are looked at by one call")
            } else {
                Finding::degraded(
                    &checks::PAGEMAP_SCAN,
                    "this kernel has none: each page's word is read instead, three times as slow or more",
                    "use Linux 6.7 or newer",
                )
            };
            vec![Finding::ok(&checks::PAGEMAP, seen), scan]
        }
        Err(error) => {
            let reason = match error.errno() {
                Some(errno) => format!("{} ({})", error.reason(), short(errno)),
                None => error.reason().to_owned(),
            };
            vec![
                Finding::degraded(
                    &checks::PAGEMAP,
                    format!("where pages are cannot be seen: {reason}"),
                    error
                        .hint()
                        .unwrap_or("use a kernel with CONFIG_PROC_PAGE_MONITOR=y, and mount proc on /proc")
                        .to_owned(),
                ),
                Finding::unknown(
                    &checks::PAGEMAP_SCAN,
                    "not asked: the page map does not open",
                    FIRST_THE_REST,
                ),
            ]
        }
    }
}

fn mincore(facts: &Facts<'_>) -> Finding {
    match facts.kernel.is_set("SWAP") {
        Some(true) => Finding::ok(&checks::MINCORE, "safe: the kernel is built with swap"),
        Some(false) => Finding::ok(
            &checks::MINCORE,
            "not called: the kernel is built without swap, and some such kernels warn at it",
        ),
        // A kernel with swap has the list of its areas.
        None => match facts.system.read("/proc/swaps") {
            Ok(_) => Finding::ok(&checks::MINCORE, "safe: the kernel is built with swap"),
            Err(Errno::ENOENT) if facts.kernel.release.is_ok() => Finding::ok(
                &checks::MINCORE,
                "not called: the kernel has no /proc/swaps, so it is built without swap",
            ),
            Err(errno) => Finding::unknown(
                &checks::MINCORE,
                format!(
                    "/proc/swaps cannot be read ({}), so whether the kernel is built with swap is not to be seen",
                    short(errno)
                ),
                "mount proc on /proc",
            ),
        },
    }
}

fn userfaultfd(facts: &Facts<'_>) -> Vec<Finding> {
    let access = match facts.system.userfaultfd() {
        Ok(access) => access,
        Err(errno) => {
            let (observed, cure) = match errno {
                Errno::ENOSYS => (
                    "this kernel has none: no simulated device".to_owned(),
                    "use a kernel with CONFIG_USERFAULTFD=y".to_owned(),
                ),
                Errno::EPERM | Errno::EACCES => (
                    format!("refused even for faults of user mode ({}): no simulated device", short(errno)),
                    match facts.container.kind {
                        crate::doctor::facts::Confinement::Docker
                        | crate::doctor::facts::Confinement::Podman => {
                            "allow userfaultfd in the seccomp profile (or --security-opt seccomp=unconfined)"
                                .to_owned()
                        }
                        _ => "allow userfaultfd in the seccomp filter or sandbox of this process".to_owned(),
                    },
                ),
                other => (format!("does not open: {}", short(other)), "see man 2 userfaultfd".to_owned()),
            };
            return vec![
                Finding::degraded(&checks::USERFAULTFD, observed, cure),
                Finding::unknown(
                    &checks::UFFDIO_MOVE,
                    "not asked: userfaultfd does not open",
                    FIRST_THE_REST,
                ),
            ];
        }
    };
    let faults = if access.kernel_faults {
        Finding::ok(
            &checks::USERFAULTFD,
            "for all faults: system calls on simulated VRAM work as on real VRAM",
        )
    } else {
        let setting = number(facts.system, "/proc/sys/vm/unprivileged_userfaultfd")
            .map_or_else(|_| String::new(), |value| format!(" (vm.unprivileged_userfaultfd is {value})"));
        Finding::degraded(
            &checks::USERFAULTFD,
            format!(
                "for faults of user mode only{setting}: read(2), write(2) and the like on simulated VRAM fail with EFAULT"
            ),
            "sysctl vm.unprivileged_userfaultfd=1, or run with CAP_SYS_PTRACE; real GPUs do not need it",
        )
    };
    let moves = if access.features & UFFD_FEATURE_MOVE != 0 {
        Finding::ok(&checks::UFFDIO_MOVE, "there: the simulated device moves pages without copying")
    } else {
        Finding::degraded(
            &checks::UFFDIO_MOVE,
            "this kernel has none: no simulated device that moves pages",
            "use Linux 6.8 or newer",
        )
    };
    vec![faults, moves]
}
