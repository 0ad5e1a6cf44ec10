//! Devices that the kernel knows nothing of.
//!
//! A software device of this process holds memory that is *absent* from the page tables: it took the pages out, and brings
//! them back when they are touched. The kernel's answer for such a page is "absent". A device that registers here is
//! asked for each range that is scanned, and its pages are reported as [`Place::Device`](super::Place::Device).
//!
//! While none is registered, a scan pays one atomic load.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::place::Class;
use super::run::{Run, push_joined};
use crate::range::PageRange;

/// A software device that holds pages of this process.
///
/// # Examples
///
/// ```
/// use drm_pagemap::residency::{self, Overlay, Place};
/// use drm_pagemap::PageRange;
/// use std::sync::Arc;
///
/// /// A device that holds the pages of one range.
/// struct Holder(PageRange);
///
/// impl Overlay for Holder {
///     fn held(&self, range: PageRange, report: &mut dyn FnMut(PageRange)) {
///         if let Some(part) = self.0.intersection(range) {
///             report(part);
///         }
///     }
/// }
///
/// # fn main() -> drm_pagemap::Result<()> {
/// let nowhere = PageRange::new(0, drm_pagemap::range::page_size())?; // never mapped
/// let device = Arc::new(Holder(nowhere));
/// let guard = residency::register_overlay(&device);
/// assert_eq!(residency::of_range(nowhere)?.place_at(0), Some(Place::Device));
/// drop(guard);
/// assert_eq!(residency::of_range(nowhere)?.place_at(0), Some(Place::Absent));
/// # Ok(())
/// # }
/// ```
pub trait Overlay: Send + Sync {
    /// Calls `report` once for each part of `range` whose pages the device holds, in ascending order and without overlap.
    /// Parts outside of `range` are cut off; a part that begins before the end of an earlier one is ignored up to there.
    ///
    /// Must not touch the memory of `range`, and must not scan residency itself. Only pages that the kernel reports as
    /// absent become device pages: what the page tables hold is where they say.
    fn held(&self, range: PageRange, report: &mut dyn FnMut(PageRange));
}

struct Entry {
    id: usize,
    overlay: Weak<dyn Overlay>,
}

static REGISTERED: AtomicUsize = AtomicUsize::new(0);
static ENTRIES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

fn entries() -> MutexGuard<'static, Vec<Entry>> {
    // The list is whole between any two statements that hold the lock.
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps an [`Overlay`] registered until it is dropped. The device itself is not kept alive by it.
#[must_use = "the overlay is unregistered when this is dropped"]
pub struct OverlayGuard {
    id: usize,
}

impl fmt::Debug for OverlayGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverlayGuard").finish_non_exhaustive()
    }
}

impl Drop for OverlayGuard {
    fn drop(&mut self) {
        let mut entries = entries();
        entries.retain(|entry| entry.id != self.id);
        REGISTERED.store(entries.len(), Ordering::Release);
    }
}

/// Has `overlay` asked for the pages it holds in every scan of this process that begins from now on, until the guard is
/// dropped or the last `Arc` of the device is.
pub fn register<O: Overlay + 'static>(overlay: &Arc<O>) -> OverlayGuard {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let overlay: Weak<O> = Arc::downgrade(overlay);
    let mut entries = entries();
    // Taken under the lock, so that the list is sorted by it.
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    entries.push(Entry { id, overlay });
    REGISTERED.store(entries.len(), Ordering::Release);
    OverlayGuard { id }
}

/// The first overlay that was registered after the one with `id`. Taken out of the list under the lock and asked without
/// it, so that a device may register and unregister while it is asked.
fn next_after(id: usize) -> Option<(usize, Arc<dyn Overlay>)> {
    let entries = entries();
    let first = entries.partition_point(|entry| entry.id <= id);
    entries[first..].iter().find_map(|entry| Some((entry.id, entry.overlay.upgrade()?)))
}

/// Whether any device is registered.
pub(super) fn any() -> bool {
    REGISTERED.load(Ordering::Acquire) != 0
}

/// Turns absent runs into device runs where a registered device holds their pages. `spare` is scratch.
pub(super) fn apply(range: PageRange, runs: &mut Vec<Run>, spare: &mut Vec<Run>) {
    if !any() {
        return;
    }
    let mut last = 0;
    while let Some((id, overlay)) = next_after(last) {
        last = id;
        spare.clear();
        lay_over(overlay.as_ref(), range, runs, spare);
        std::mem::swap(runs, spare);
    }
}

fn lay_over(overlay: &dyn Overlay, range: PageRange, runs: &[Run], out: &mut Vec<Run>) {
    let mut rest = runs.iter().copied();
    let mut current = rest.next();
    let mut advance = |to: u64, held: bool, out: &mut Vec<Run>| {
        while let Some(run) = current {
            if run.start() >= to {
                return;
            }
            let (front, back) =
                if run.end() > to { (run.until(to), Some(run.since(to))) } else { (run, None) };
            let class = if held && front.class() == Class::Absent { Class::Overlaid } else { front.class() };
            push_joined(out, front.with(class));
            current = back.or_else(|| rest.next());
        }
    };
    overlay.held(range, &mut |part| {
        let Some(part) = part.intersection(range) else { return };
        advance(part.start(), false, out);
        advance(part.end(), true, out);
    });
    advance(range.end(), false, out);
}
