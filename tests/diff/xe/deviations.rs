//! Where the simulated xe is knowingly different from the real driver, and why it stays so.
//!
//! Some differences scripts keep clear of instead, because everything behind them would differ (see the generator):
//!
//! * `mprotect` of memory that the GPU has mapped or holds. The kernel tells drivers, and `userfaultfd` tells nobody: the simulation
//!   goes on using what it had mapped, and a touch brings back a whole block where the kernel stops at the edge of the mapping.

use super::generate::USER_POINTERS;
use crate::frame::{Deviation, Mismatch, Step, Then};
use crate::memory::{HUGE, PAGES, READ_AROUND, expand};

pub(super) const KNOWN: &[Deviation] = &[
    Deviation {
        name: "mremap of memory in pieces",
        why: "what the simulation watches or holds is cut out of its mapping, and the kernel moves one mapping at a time",
        is: |mismatch, _| {
            mismatch.step.verb == "remap" && mismatch.real == "ok" && mismatch.sim.starts_with("EFAULT")
        },
        then: Then::Stop,
    },
    Deviation {
        name: "a touch beside a hole that was filled again",
        why: "the kernel brings back all of a block that lies in one mapping. New memory may have closed the hole in it, and the \
              simulation is not told of new memory; or it is a mapping of its own, and the simulation brings back all of the block",
        is: filled_hole,
        then: Then::Stop,
    },
    Deviation {
        name: "memory replaced while it comes back",
        why: "a touch lets its thread go when the registration for device pages ends, and the one for mere watching begins after \
              that: `userfaultfd` has no step from one to the other. What is mapped over in between nobody is told of",
        is: replaced_unseen,
        then: Then::Stop,
    },
    Deviation {
        name: "memory that the process may not write to, under a read-only mirror",
        why: "the driver moves it like any other; `UFFDIO_MOVE` takes writable memory only, and the simulation does not open what \
              the process has closed, not even for a moment",
        is: closed_memory,
        then: Then::Stop,
    },
    Deviation {
        name: "a user pointer to memory in VRAM",
        why: "a bug of Linux 7.3: of a huge page in VRAM it maps the beginning, whatever the user pointer's place in it, so that the \
              GPU writes to other pages of the process; the simulation writes where it should",
        is: misplaced_user_pointer,
        then: Then::Stop,
    },
    Deviation {
        name: "a fence whose page the GPU uses",
        why: "whoever waits for a fence looks at it, and that brings its page back. Whether this happens before the GPU's fault has \
              mapped the page, which then stays mapped in system memory, or afterwards, so that the next access of the GPU moves it, \
              is a matter of time, on both sides",
        is: fence_in_use,
        then: Then::Stop,
    },
    Deviation {
        name: "memory that the process may not read, under a read-only mirror",
        why: "a bug of Linux 6.16 to 7.3: a GPU fault on it is served again and again (`__xe_svm_handle_pagefault` retries whatever \
              cannot be had), for ever, with the VM locked; the simulation gives up",
        is: endless_fault,
        then: Then::Stop,
    },
    Deviation {
        name: "a mirror that can be written to again",
        why: "page tables that were written while it was read-only stay as they are (a mirror that is bound merges with its neighbours, \
              and all of them get its flags), and Linux 7.3 takes a GPU's write fault on them for served, again and again: \
              `xe_svm_range_is_valid` does not know of permissions. The simulation lets the GPU write",
        is: stale_read_only,
        then: Then::Stop,
    },
    READ_AROUND,
    Deviation {
        name: "a part of a huge page in VRAM",
        why: "the same bug of Linux 7.3 under a mirror: a range that is smaller than the huge page its memory is in (the block moved, \
              and the GPU's mappings there are smaller) is mapped to the beginning of that page; the simulation writes where it should",
        is: misplaced_part,
        then: Then::Stop,
    },
];

/// Contents that differ, all of them in blocks that moved as a whole, that the edge of a GPU mapping cuts, and that the GPU used.
fn misplaced_part(mismatch: &Mismatch, steps: &[Step]) -> bool {
    let is = |step: &Step, verbs: &[&str]| verbs.contains(&step.verb.as_str());
    let place = |step: &Step, name: &str| {
        let (at, pages) = (step.number(name, 0).unwrap_or(0), step.number("pages", 1).unwrap_or(1));
        (at, at.saturating_add(pages))
    };
    let touches = |step: &Step, name: &str, block: u64| {
        place(step, name).0 / HUGE <= block && block * HUGE < place(step, name).1
    };
    let cuts = |step: &Step, block: u64| {
        let (start, end) = place(step, "at");
        [start, end].iter().any(|edge| edge / HUGE == block && edge % HUGE != 0)
    };
    let misplaced = |block: u64| {
        let whole =
            |step: &Step| step.number("to", 0) == Ok(block * HUGE) && step.number("pages", 1) == Ok(HUGE);
        let Some(moved) = steps.iter().position(|step| is(step, &["remap"]) && whole(step)) else {
            return false;
        };
        let binds =
            |step: &&Step| is(step, &["bind", "op", "madvise"]) && step.text("op") != Some("prefetch");
        let used =
            |step: &Step| is(step, &["gpu"]) && (touches(step, "at", block) || touches(step, "from", block));
        steps.iter().filter(binds).any(|step| cuts(step, block)) && steps[moved..].iter().any(used)
    };
    if !is(&mismatch.step, &["read"]) {
        return false;
    }
    let first = mismatch.step.number("at", 0).unwrap_or(0);
    let (real, sim) = (expand(&mismatch.real), expand(&mismatch.sim));
    let differing = (first..).zip(real.iter().zip(&sim)).filter(|(_, (real, sim))| real != sim);
    real.len() == sim.len() && { differing }.all(|(page, _)| misplaced(page / HUGE))
}

/// Words that the GPU wrote through a user pointer, which are found at different places.
fn misplaced_user_pointer(mismatch: &Mismatch, steps: &[Step]) -> bool {
    let through_pointer = |text: &str| {
        text.split_whitespace().any(|run| {
            let page =
                run.split_once('@').and_then(|(_, at)| at.split(['*', '+']).next()?.parse::<u64>().ok());
            page.is_some_and(|page| page >= USER_POINTERS)
        })
    };
    mismatch.step.verb == "read"
        && steps.iter().any(|step| step.text("op") == Some("userptr"))
        && (through_pointer(&mismatch.real) || through_pointer(&mismatch.sim))
}

/// The simulation holds on to a range of which a part was replaced right behind a touch in the same block.
fn replaced_unseen(mismatch: &Mismatch, steps: &[Step]) -> bool {
    let blocks = |step: &Step| {
        let (at, pages) = (step.number("at", 0).unwrap_or(0), step.number("pages", 1).unwrap_or(1));
        at / HUGE..(at + pages).div_ceil(HUGE)
    };
    let meet = |a: &Step, b: &Step| blocks(a).start < blocks(b).end && blocks(b).start < blocks(a).end;
    let touches = |step: &Step| matches!(step.verb.as_str(), "read" | "write");
    let replaces = |step: &Step| matches!(step.verb.as_str(), "map" | "unmap" | "remap");
    matches!(mismatch.step.verb.as_str(), "bind" | "binds")
        && mismatch.real.starts_with("ok")
        && mismatch.sim == "EBUSY"
        && steps.windows(2).any(|two| touches(&two[0]) && replaces(&two[1]) && meet(&two[0], &two[1]))
}

/// Of each page whether the protection it got last is such a one.
fn pages_with(steps: &[Step], is: impl Fn(Option<&str>) -> bool) -> Vec<bool> {
    let mut all = vec![false; PAGES as usize];
    for step in steps.iter().filter(|step| matches!(step.verb.as_str(), "map" | "protect")) {
        let (at, pages) = (step.number("at", 0).unwrap_or(0), step.number("pages", 1).unwrap_or(1));
        if let Some(pages) = all.get_mut(at as usize..(at + pages) as usize) {
            pages.fill(is(step.text("prot")));
        }
    }
    all
}

fn binds_read_only(step: &Step) -> bool {
    step.text("flags").is_some_and(|flags| flags.split('+').any(|flag| flag == "readonly"))
}

/// The GPU wrote after a mirror was bound read-only, used, and bound as it was, and the real driver never finished.
fn stale_read_only(mismatch: &Mismatch, steps: &[Step]) -> bool {
    let endless = mismatch.real == "ok fence=ETIME" || mismatch.real.starts_with("hangs");
    let mirrors =
        |step: &Step| step.text("flags").is_some_and(|flags| flags.split('+').any(|f| f == "mirror"));
    let Some(closed) = steps.iter().position(binds_read_only) else { return false };
    let prefetched = steps[closed..].iter().position(|step| step.text("op") == Some("prefetch"));
    let opened = steps[closed..].iter().rposition(|step| mirrors(step) && !binds_read_only(step));
    endless
        && mismatch.step.verb == "gpu"
        && mismatch.sim == "ok fence=ok"
        && prefetched.is_some_and(|used| opened.is_some_and(|opened| used < opened))
}

/// The GPU read a page that may not be read after a read-only mirror was bound, and the real driver never finished: that step is
/// given up, or if the simulation was slow too, a later one hangs at the lock of the VM.
fn endless_fault(mismatch: &Mismatch, steps: &[Step]) -> bool {
    let hangs = mismatch.real.starts_with("hangs");
    let endless = hangs || mismatch.real == "ok fence=ETIME" && mismatch.sim == "ok fence=EIO";
    let unreadable = pages_with(steps, |protection| protection == Some("none"));
    let reads_unreadable = |step: &Step| {
        let (from, pages) = (step.number("from", 0).unwrap_or(0), step.number("pages", 1).unwrap_or(1));
        step.verb == "gpu"
            && step.text("op") == Some("copy")
            && unreadable.iter().skip(from as usize).take(pages as usize).any(|&unreadable| unreadable)
    };
    endless
        && steps.iter().any(binds_read_only)
        && (reads_unreadable(&mismatch.step) || hangs && steps.iter().any(reads_unreadable))
}

/// Pages that went to VRAM on the real side only, all of them not writable for the process, after a read-only mirror was bound.
fn closed_memory(mismatch: &Mismatch, steps: &[Step]) -> bool {
    if mismatch.step.verb != "where" || !mismatch.step.args.is_empty() || !steps.iter().any(binds_read_only) {
        return false;
    }
    let closed = pages_with(steps, |protection| !matches!(protection, None | Some("rw")));
    let (real, sim) = (expand(&mismatch.real), expand(&mismatch.sim));
    real.len() == sim.len()
        && real
            .iter()
            .zip(&sim)
            .zip(closed)
            .filter(|((real, sim), _)| real != sim)
            .all(|((real, sim), closed)| real == "device" && sim != "device" && closed)
}

/// Pages that are in VRAM on one side only, all of them in blocks with a fence that somebody waited for.
fn fence_in_use(mismatch: &Mismatch, steps: &[Step]) -> bool {
    if mismatch.step.verb != "where" {
        return false;
    }
    let fences: Vec<u64> = { steps.iter().filter(|step| step.verb == "gpu" && step.text("fence").is_some()) }
        .filter_map(|step| Some(step.number("fence", 0).ok()? / HUGE))
        .collect();
    let first = mismatch.step.number("at", 0).unwrap_or(0);
    let (real, sim) = (expand(&mismatch.real), expand(&mismatch.sim));
    let moved = |place: &str| matches!(place, "system" | "device");
    real.len() == sim.len() && { (first..).zip(real.iter().zip(&sim)) }
        .filter(|(_, (real, sim))| real != sim)
        .all(|(page, (real, sim))| moved(real) && moved(sim) && fences.contains(&(page / HUGE)))
}

/// Pages that came back on one side only, all of them in blocks that a later mapping was put into.
fn filled_hole(mismatch: &Mismatch, steps: &[Step]) -> bool {
    if mismatch.step.verb != "where" {
        return false;
    }
    let (real, sim) = (expand(&mismatch.real), expand(&mismatch.sim));
    let was_used = |step: &Step| step.verb == "gpu" || step.text("op") == Some("prefetch");
    let Some(first_use) = steps.iter().position(was_used) else { return false };
    let filled = |block: u64| {
        steps[first_use..].iter().filter(|step| step.verb == "map").any(|step| {
            let (at, pages) = (step.number("at", 0).unwrap_or(0), step.number("pages", 1).unwrap_or(1));
            at < (block + 1) * HUGE && at + pages > block * HUGE && pages < HUGE
        })
    };
    real.len() == sim.len()
        && real.iter().zip(&sim).zip(0..).filter(|((real, sim), _)| real != sim).all(|((real, sim), page)| {
            let came_back = [real.as_str(), sim.as_str()];
            (came_back == ["system", "device"] || came_back == ["device", "system"]) && filled(page / HUGE)
        })
}
