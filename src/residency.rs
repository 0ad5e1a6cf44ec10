//! Where this process's pages are: in system memory, in VRAM, in swap, or nowhere. No privilege needed.
//!
//! The kernel moves pages of ordinary memory to a GPU and back without a word. [`of`] looks:
//!
//! ```
//! use drm_pagemap::residency::{self, Place};
//!
//! # fn main() -> drm_pagemap::Result<()> {
//! let data = vec![1.0f32; 1 << 20];
//! let residency = residency::of(&data)?;
//! println!("{residency}");
//! assert_eq!(residency.summary().bytes(Place::System), residency.summary().total());
//! # Ok(())
//! # }
//! ```
//!
//! # How it is known
//!
//! A page in device-private memory (`MEMORY_DEVICE_PRIVATE`, what xe and amdgpu migrate to on discrete GPUs) has a page table
//! entry that is not present. `PAGEMAP_SCAN` (since kernel 6.7) and `/proc/self/pagemap` show such an entry as
//! "swapped". That is the first look. Where it finds such entries, they are told from true swap:
//!
//! | first rule that applies | then |
//! |---|---|
//! | the entry types are visible (`CAP_SYS_ADMIN`) | a type below those of device pages is swap; a [`Calibration`] decides the rest |
//! | no swap area exists | `mincore` says 1: device; 0: a marker. Not asked on kernels built without swap, some of which answer wrongly |
//! | the mapping is shared or hugetlb | never a device |
//! | `smaps` counts no slot in the mapping | as without swap |
//! | slots counted = entries with `mincore` 0 | `mincore` says 1: device; 0: swap. Proof, unless there are userfaultfd markers |
//! | otherwise | `mincore` 0: swap; the others are ambiguous one by one, but their number is known ([`Ambiguity`]) |
//!
//! Memory that is locked (`mlock`) before it is migrated is never swapped, and so never ambiguous.
//!
//! # What it costs
//!
//! Milliseconds per GiB of memory in system memory on a small virtual machine with kernel 6.18; `cargo bench --bench residency`
//! measures the machine at hand. The kernel takes four times as long for a page that it reports as for one that it passes over, so
//! of large mappings a scan asks for everything *but* small pages in system memory (since kernel 6.11, which tells where a mapping ends;
//! before that a scan costs what `PAGEMAP_SCAN` costs for present pages: 3.2 ms for 4 KiB pages). [`Depth`] says what pages in
//! VRAM and in swap add.
//!
//! | | absent | 4 KiB pages | huge pages | every other page |
//! |---|---|---|---|---|
//! | [`Scanner::scan`] | 0.006 | 0.6 | 0.05 | 2.5 |
//! | [`Scanner::device_bytes`] | 0.006 | 0.6 | 0.04 | 0.5 |
//! | reading `/proc/self/pagemap` | 0.37 | 14 | 0.6 | 9 |
//! | reading `/proc/self/smaps` | 0.16 | 35 | 0.3 | 11 |
//!
//! # What it cannot know
//!
//! * Which device holds a page: the kernel shows that to nobody without privilege.
//! * Device-coherent memory (VRAM on a coherent link to the CPU, and APUs whose driver migrates nothing) has present entries and
//!   looks like system memory; [`Scanner::with_coherent`] asks for it.
//! * A page held exclusively by a device for atomics (it is in system memory) and a page with a hardware memory error look like
//!   device pages; only a [`Calibration`] tells.
//! * Other threads and devices go on moving pages. An answer is a photograph.

use crate::error::Result;
use crate::range::PageRange;

mod bar;
mod calibration;
mod cells;
mod collect;
mod decide;
mod kernel;
mod map;
mod overlay;
mod place;
mod procfs;
mod resolve;
mod run;
mod scanner;
mod summary;
mod support;
mod svg;
#[cfg(test)]
mod tests;
mod vma;

pub use bar::Bar;
pub use calibration::Calibration;
pub use map::{Ambiguity, Residency};
pub use overlay::{Overlay, OverlayGuard, register as register_overlay};
pub use place::Place;
pub use run::Run;
pub use scanner::{Depth, Scanner};
pub use summary::{Composition, Summary};
pub use support::Support;

/// Where the pages of a slice are. Rounds outward to whole pages.
///
/// Opens the page map and sets up buffers for this one look; a [`Scanner`] does that once for many.
///
/// # Errors
///
/// As [`Scanner::new`] and [`Scanner::scan`].
pub fn of<T>(slice: &[T]) -> Result<Residency> {
    of_range(PageRange::covering(slice))
}

/// Where the pages of a range are. The range need not be mapped.
///
/// # Errors
///
/// As [`Scanner::new`] and [`Scanner::scan`].
pub fn of_range(range: PageRange) -> Result<Residency> {
    let mut residency = Residency::new();
    Scanner::new()?.scan(range, &mut residency)?;
    Ok(residency)
}
