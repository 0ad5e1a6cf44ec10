//! Where the simulation is knowingly different.

use super::subject::HAZARD;
use crate::frame::{Deviation, Mismatch, Step, Then};
use crate::memory::{HUGE, PAGES, READ_AROUND, expand};

pub(super) const KNOWN: &[Deviation] = &[
    Deviation {
        name: "a touch that never ends",
        why: "amdgpu 7.3.4 counts a range's pages in VRAM, and after splits sometimes too few: when the count is used up, svm_migrate_vram_to_ram \
              takes the range for one in system memory, and svm_migrate_to_ram then returns from every touch of the pages that are left \
              without having done anything. The simulation counts the same, and says so at the same step, but brings them back",
        is: |mismatch, _| mismatch.real.starts_with("hangs") && mismatch.sim.starts_with(HAZARD),
        then: Then::Stop,
    },
    Deviation {
        name: "discarded pages that show old content",
        why: "amdgpu 7.3.4 clears VRAM when it is allocated for a range (svm_range_vram_node_new), and moves a page that is absent there without \
              writing to it (svm_migrate_copy_to_vram copies pages that have a source only). A page that was in VRAM, was discarded and is \
              moved again while the range still has its VRAM shows what VRAM held before. The simulation shows zeros, which is what \
              MADV_DONTNEED promises",
        is: |mismatch, steps| {
            mismatch.step.verb == "read" && stale_where_discarded(mismatch, &discarded(steps))
        },
        then: Then::GoOn,
    },
    READ_AROUND,
    Deviation {
        name: "an edge that moved memory makes",
        why: "memory that `mremap` put between other memory of the same kind stays a mapping of its own if anything of the mapping that it came \
              from was ever touched (its pages keep their numbers), and a GPU fault next to it makes a range up to that edge. What the \
              simulation watches is cut out of its mapping; the rest counts as never touched, and joins",
        is: |mismatch, steps| moved_edge(mismatch, steps),
        then: Then::Stop,
    },
];

/// Pages that went to VRAM in the simulation only, all of them in blocks in which an end of moved memory lies, by a later GPU fault.
fn moved_edge(mismatch: &Mismatch, steps: &[Step]) -> bool {
    if mismatch.step.verb != "where" || !mismatch.step.args.is_empty() {
        return false;
    }
    let number = |step: &Step, name: &str| step.number(name, 0).unwrap_or(0);
    let explained = |page: u64| {
        let block = page / HUGE;
        let edge = |step: &Step| {
            let ends = |at: u64| [at, at + step.number("pages", 1).unwrap_or(1)];
            step.verb == "remap"
                && [number(step, "at"), number(step, "to")]
                    .into_iter()
                    .flat_map(ends)
                    .any(|end| end / HUGE == block)
        };
        let faults = |step: &Step| {
            step.verb == "gpu" && [number(step, "at"), number(step, "to")].iter().any(|at| at / HUGE == block)
        };
        steps.iter().position(edge).is_some_and(|moved| steps[moved..].iter().any(faults))
    };
    let (real, sim) = (expand(&mismatch.real), expand(&mismatch.sim));
    real.len() == sim.len()
        && real
            .iter()
            .zip(&sim)
            .zip(0..)
            .filter(|((real, sim), _)| real != sim)
            .all(|((real, sim), page)| real == "absent" && sim == "device" && explained(page))
}

/// Whether pages differ only where they may be stale, by having words on the real side that are zero in the simulation.
fn stale_where_discarded(mismatch: &Mismatch, may_be_stale: &[bool]) -> bool {
    let at = mismatch.step.number("at", 0).unwrap_or(0) as usize;
    let (real, sim) = (expand(&mismatch.real), expand(&mismatch.sim));
    real.len() == sim.len()
        && real.iter().zip(&sim).enumerate().filter(|(_, (real, sim))| real != sim).all(
            |(page, (real, sim))| {
                let more = |real: &str, sim: &str| real == sim || sim == "0";
                let (real, sim) = (words(real), words(sim));
                may_be_stale.get(at + page) == Some(&true) && more(real.0, sim.0) && more(real.1, sim.1)
            },
        )
}

/// First and second word of a page, as `read` tells them.
fn words(page: &str) -> (&str, &str) {
    page.split_once('+').unwrap_or((page, "0"))
}

/// Pages that were discarded since they were mapped, and those that they were copied or moved to.
fn discarded(steps: &[Step]) -> Vec<bool> {
    let mut discarded = vec![false; PAGES as usize];
    for step in steps {
        let number = |name: &str, default| step.number(name, default).unwrap_or(default) as usize;
        let (at, to) = (number("at", 0).min(PAGES as usize), number("to", 0).min(PAGES as usize));
        let pages = number("pages", 1).min(discarded.len() - at);
        let copied = pages.min(discarded.len() - to);
        match step.verb.as_str() {
            "discard" => discarded[at..at + pages].fill(true),
            "map" | "unmap" => discarded[at..at + pages].fill(false),
            _ => {}
        }
        if step.verb == "remap" || step.text("op") == Some("copy") {
            for page in 0..copied {
                discarded[to + page] |= discarded[at + page];
            }
        }
    }
    discarded
}
