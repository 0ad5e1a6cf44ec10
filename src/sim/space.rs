//! The address space of this process, with what its simulated devices hold made visible to residency.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::Result;
use crate::pagemap::{Space, SpaceInner};
use crate::range::PageRange;
use crate::residency::{self, Overlay, OverlayGuard};

/// Pages in simulated VRAM are absent from the page tables; this says where they are.
#[derive(Debug)]
struct SimulatedVram {
    space: Weak<SpaceInner>,
}

impl Overlay for SimulatedVram {
    fn held(&self, range: PageRange, report: &mut dyn FnMut(PageRange)) {
        let Some(space) = self.space.upgrade().map(Space::from_inner) else { return };
        // In a forked child, or when the engine has ended, nothing is held.
        let Ok(placement) = space.placement(range) else { return };
        for run in placement.iter().filter(|run| run.region.is_some()) {
            report(run.range);
        }
    }
}

struct Registered {
    overlay: Arc<SimulatedVram>,
    _guard: OverlayGuard,
}

/// The space that all simulated devices of this process share, as [`Space::of_process`] makes it.
///
/// # Errors
///
/// As [`Space::of_process`].
pub(crate) fn of_process() -> Result<Space> {
    static CURRENT: Mutex<Option<Registered>> = Mutex::new(None);
    let space = Space::of_process()?;
    let inner = Arc::downgrade(space.inner());
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    if !current.as_ref().is_some_and(|registered| registered.overlay.space.ptr_eq(&inner)) {
        let overlay = Arc::new(SimulatedVram { space: inner });
        let guard = residency::register_overlay(&overlay);
        *current = Some(Registered { overlay, _guard: guard });
    }
    Ok(space)
}
