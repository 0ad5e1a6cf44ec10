//! Where the simulation is knowingly different.

use crate::frame::{Deviation, Then};

pub(super) const KNOWN: &[Deviation] = &[Deviation {
    name: "a touch that never ends",
    why: "amdgpu 7.3.4 counts a range's pages in VRAM, and after splits sometimes too few: when the count is used up, svm_migrate_vram_to_ram \
          takes the range for one in system memory, and svm_migrate_to_ram then returns from every touch of the pages that are left \
          without having done anything. The simulation brings them back",
    is: |mismatch, _| {
        mismatch.real.starts_with("hangs") && matches!(mismatch.step.verb.as_str(), "read" | "write")
    },
    then: Then::Stop,
}];
