//! Pages that the kernel maps because the CPU looked at their neighbours.

use super::{PAGES, expand};
use crate::frame::{Deviation, Mismatch, Step, Then};

/// A difference that every simulated device has.
pub(crate) const READ_AROUND: Deviation = Deviation {
    name: "pages of a file around one that was read",
    why: "of what a file has in memory the kernel maps sixteen pages at the first look at one of them, counted from the edge of the \
          mapping if that is near, but not where `userfaultfd` watches for writes, as the simulation does \
          (`uffd_disable_fault_around`), which also makes edges; of the CPU's looks it is not told",
    is: read_around,
    then: Then::Stop,
};

/// Pages of files that are mapped on one side only, all of them beside one that was read since they were mapped.
fn read_around(mismatch: &Mismatch, steps: &[Step]) -> bool {
    const AROUND: u64 = 16;
    if mismatch.step.verb != "where" || !mismatch.step.args.is_empty() {
        return false;
    }
    let (real, sim) = (expand(&mismatch.real), expand(&mismatch.sim));
    // For each page: whether it is a file's, and whether one of those around it was read since.
    let mut pages = vec![(false, false); PAGES as usize];
    for step in steps {
        let everything = if step.verb == "read" && step.args.is_empty() { PAGES } else { 1 };
        let (at, count) = (step.number("at", 0).unwrap_or(0), step.number("pages", everything).unwrap_or(1));
        let end = at.saturating_add(count).min(PAGES);
        match step.verb.as_str() {
            "map" => {
                let file = !matches!(step.text("kind"), None | Some("anon"));
                pages[at.min(end) as usize..end as usize].fill((file, false));
            }
            // A wait looks at its word; without an address, at one outside of the arena.
            "read" | "wait" if step.verb == "read" || step.text("at").is_some() => {
                let (first, last) = (at.saturating_sub(AROUND - 1), (end + AROUND - 1).min(PAGES));
                for page in &mut pages[first.min(last) as usize..last as usize] {
                    page.1 = true;
                }
            }
            _ => {}
        }
    }
    real.len() == sim.len()
        && real.iter().zip(&sim).zip(pages).filter(|((real, sim), _)| real != sim).all(
            |((real, sim), page)| {
                let mapped = [real.as_str(), sim.as_str()];
                (mapped == ["system", "absent"] || mapped == ["absent", "system"]) && page == (true, true)
            },
        )
}
