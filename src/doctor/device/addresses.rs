//! Whether the GPU can form every address the process can have.

use crate::device::Driver;
use crate::doctor::checks;
use crate::doctor::facts::{Facts, hex, text};
use crate::doctor::finding::Finding;

/// `end` is the first address the GPU cannot form.
pub(super) fn check(facts: &Facts<'_>, driver: Driver, end: u64) -> Finding {
    /// x86 gives a process addresses below this unless it asks for higher ones, with four levels of page tables or five.
    const FOUR_LEVELS: u64 = 1 << 47;
    const FIVE_LEVELS: u64 = 1 << 56;
    let gpu = format!("the GPU forms addresses of {} bits", bits(end));
    let highest = highest_mapping(facts);
    if let Some(highest) = highest.filter(|highest| *highest > end) {
        return Finding::degraded(
            &checks::ADDRESSES,
            format!("{gpu}, and this process has a mapping that ends at {highest:#x}"),
            "keep memory that the GPU is to see below its limit: pass mmap a low address as a hint",
        );
    }
    match facts.kernel.five_level_paging {
        Ok(true) if end < FIVE_LEVELS => {
            let (runtime, cure) = match driver {
                Driver::Xe => (
                    "; Intel's compute runtime refuses altogether",
                    "if a program asks for such addresses, or uses that runtime: boot with no5lvl",
                ),
                Driver::Kfd => ("", "if a program asks for such addresses: boot with no5lvl"),
            };
            let observed = format!(
                "{gpu}, this CPU those of 57 (la57): memory that a program asks for above 2^47 cannot be mirrored{runtime}"
            );
            Finding::degraded(&checks::ADDRESSES, observed, cure)
        }
        Ok(true) => {
            Finding::ok(&checks::ADDRESSES, format!("{gpu}, enough for five levels of page tables (la57)"))
        }
        Ok(false) if end >= FOUR_LEVELS => {
            Finding::ok(&checks::ADDRESSES, format!("{gpu}, processes here have addresses of 47"))
        }
        _ => match highest {
            Some(highest) => Finding::ok(
                &checks::ADDRESSES,
                format!("{gpu}, the mappings of this process end at {highest:#x}"),
            ),
            None => Finding::unknown(
                &checks::ADDRESSES,
                format!("{gpu}; how many the CPU has is not to be seen here"),
                "make /proc/self/maps readable",
            ),
        },
    }
}

fn bits(end: u64) -> u32 {
    end.checked_next_power_of_two().map_or(64, u64::trailing_zeros)
}

/// Where the highest mapping ends, in the user's half of the address space: the vsyscall page is beyond.
fn highest_mapping(facts: &Facts<'_>) -> Option<u64> {
    let maps = text(facts.system, "/proc/self/maps").ok()?;
    let end = |line: &str| hex(line.split_ascii_whitespace().next()?.split_once('-')?.1);
    maps.lines().filter_map(end).filter(|end| *end < 1 << 57).max()
}
