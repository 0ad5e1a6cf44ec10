//! Memory settings that undo placement, or that get in the way.

use crate::doctor::checks;
use crate::doctor::facts::{Capability, Facts, number, text};
use crate::doctor::finding::{Finding, short};
use crate::error::Errno;
use crate::outcome::Bytes;

const THP: &str = "/sys/kernel/mm/transparent_hugepage";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let mode = huge_page_mode(facts);
    vec![
        huge_pages(facts, &mode),
        khugepaged(facts, &mode),
        swap(facts),
        overcommit(facts),
        address_limit(facts),
        lock_limit(facts),
    ]
}

/// The word in brackets of `always [madvise] never`.
fn huge_page_mode(facts: &Facts<'_>) -> Result<String, Errno> {
    let modes = text(facts.system, &format!("{THP}/enabled"))?;
    let chosen = modes.split_ascii_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    chosen.map(str::to_owned).ok_or(Errno::ENODATA)
}

fn huge_pages(facts: &Facts<'_>, mode: &Result<String, Errno>) -> Finding {
    match mode.as_deref() {
        Ok("never") => Finding::degraded(
            &checks::THP,
            "never: blocks of 2 MiB migrate page by page",
            format!("echo madvise > {THP}/enabled"),
        ),
        Ok(mode) => Finding::ok(&checks::THP, mode),
        // Where sysfs is not, nothing is said about the kernel.
        Err(&Errno::ENOENT) if facts.system.list("/sys/kernel/mm").is_ok() => Finding::degraded(
            &checks::THP,
            "this kernel has none: blocks of 2 MiB migrate page by page",
            "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE=y",
        ),
        Err(errno) => Finding::unknown(
            &checks::THP,
            format!("{THP}/enabled cannot be read: {}", short(*errno)),
            "make /sys readable",
        ),
    }
}

fn khugepaged(facts: &Facts<'_>, mode: &Result<String, Errno>) -> Finding {
    let limit = format!("{THP}/khugepaged/max_ptes_swap");
    let pulled = match number(facts.system, &limit) {
        Ok(0) => return Finding::ok(&checks::KHUGEPAGED, "leaves VRAM pages alone (max_ptes_swap is 0)"),
        Ok(pulled) => pulled,
        Err(Errno::ENOENT) if facts.system.list("/sys/kernel/mm").is_ok() => {
            return Finding::not_applicable(&checks::KHUGEPAGED, "this kernel has none");
        }
        Err(errno) => {
            return Finding::unknown(
                &checks::KHUGEPAGED,
                format!("{limit} cannot be read: {}", short(errno)),
                "make /sys readable",
            );
        }
    };
    match mode.as_deref() {
        Ok("never") => Finding::ok(&checks::KHUGEPAGED, "does nothing: huge pages are off"),
        Ok("madvise") => Finding::ok(
            &checks::KHUGEPAGED,
            format!(
                "takes up to {pulled} VRAM pages of a 2 MiB block back to RAM, in memory with MADV_HUGEPAGE only"
            ),
        ),
        _ => Finding::degraded(
            &checks::KHUGEPAGED,
            format!(
                "takes back to RAM what lies in VRAM in single pages: up to {pulled} of a 2 MiB block, in any memory"
            ),
            format!("echo 0 > {limit}, or madvise the memory MADV_NOHUGEPAGE"),
        ),
    }
}

fn swap(facts: &Facts<'_>) -> Finding {
    let areas = match text(facts.system, "/proc/swaps") {
        Ok(areas) => areas.lines().skip(1).count(),
        Err(Errno::ENOENT) if facts.kernel.release.is_ok() => {
            return Finding::ok(&checks::SWAP, "none: this kernel is built without");
        }
        Err(errno) => {
            return Finding::unknown(
                &checks::SWAP,
                format!("/proc/swaps cannot be read: {}", short(errno)),
                "mount proc on /proc",
            );
        }
    };
    if areas == 0 {
        return Finding::ok(
            &checks::SWAP,
            "none, so that every page that is neither present nor absent is in VRAM",
        );
    }
    if facts.process.has(Capability::SysAdmin) == Some(true) && !facts.process.in_user_namespace {
        return Finding::ok(
            &checks::SWAP,
            "in use; this process may see which pages are swapped and which are in VRAM",
        );
    }
    Finding::degraded(
        &checks::SWAP,
        "in use: while pages are being swapped, residency counts VRAM pages exactly but cannot always tell which they are",
        "mlock the memory before it migrates, or run with CAP_SYS_ADMIN, or: swapoff -a",
    )
}

fn overcommit(facts: &Facts<'_>) -> Finding {
    match number(facts.system, "/proc/sys/vm/overcommit_memory") {
        Ok(2) => Finding::degraded(
            &checks::OVERCOMMIT,
            "strict (2): private memory counts in full as soon as it is mapped, used or not",
            "sysctl vm.overcommit_memory=0, or raise vm.overcommit_ratio",
        ),
        Ok(mode) => Finding::ok(&checks::OVERCOMMIT, if mode == 1 { "always (1)" } else { "heuristic (0)" }),
        Err(errno) => Finding::unknown(
            &checks::OVERCOMMIT,
            format!("/proc/sys/vm/overcommit_memory cannot be read: {}", short(errno)),
            "mount proc on /proc",
        ),
    }
}

fn address_limit(facts: &Facts<'_>) -> Finding {
    match facts.process.limit("Max address space") {
        Ok(None) => Finding::ok(&checks::ADDRESS_LIMIT, "none"),
        Ok(Some(limit)) => Finding::degraded(
            &checks::ADDRESS_LIMIT,
            format!("{}: reservations of address space count, used or not", Bytes(limit)),
            "ulimit -v unlimited",
        ),
        Err(errno) => limits_unreadable(&checks::ADDRESS_LIMIT, errno),
    }
}

fn lock_limit(facts: &Facts<'_>) -> Finding {
    match facts.process.limit("Max locked memory") {
        Ok(None) => Finding::ok(&checks::LOCK_LIMIT, "none"),
        Ok(Some(limit)) => Finding::ok(
            &checks::LOCK_LIMIT,
            format!("{}, which matters only to memory locked on purpose (ulimit -l)", Bytes(limit)),
        ),
        Err(errno) => limits_unreadable(&checks::LOCK_LIMIT, errno),
    }
}

fn limits_unreadable(check: &'static crate::doctor::Check, errno: Errno) -> Finding {
    Finding::unknown(
        check,
        format!("/proc/self/limits does not tell: {}", short(errno)),
        "mount proc on /proc",
    )
}
