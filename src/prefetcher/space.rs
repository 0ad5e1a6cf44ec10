//! Through which address space a thread moves pages.

use crate::device::Driver;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::mirror::Mirror;
use crate::outcome::{Observe, Outcome};
use crate::range::PageRange;

/// One thread's way to the driver.
pub(super) enum Lane {
    /// The user's address space itself.
    Own,
    /// An address space of the thread's own, in which pages move; then they are mapped in the user's.
    Helper(Box<Mirror>),
}

impl Lane {
    /// A helper address space for a mirror.
    pub(super) fn helper(own: &Mirror) -> Result<Self> {
        if own.device().driver() != Driver::Xe {
            return Err(Error::new(ErrorKind::Unsupported, "Prefetcher::builder")
                .because("a process has one address space on KFD, so there is no second one to help")
                .hint_is("leave helper_spaces out; the driver takes one prefetch at a time"));
        }
        Ok(Self::Helper(Box::new(own.helper()?)))
    }

    pub(super) fn prefetch(
        &self,
        own: &Mirror,
        range: PageRange,
        target: &Location,
        observe: Observe,
    ) -> Result<Outcome> {
        let through =
            |mirror: &Mirror, observe| mirror.prefetch_range(range).to(target).observe(observe).run();
        let Self::Helper(helper) = self else { return through(own, observe) };
        let outcome = through(helper, observe)?;
        // The pages are there already, so this only writes the page tables of the user's address space.
        match through(own, Observe::Nothing) {
            Ok(_) => {}
            // Part of the range is of a kind that the driver refuses the whole range for; an observed prefetch goes around it.
            Err(error) if refuses_a_part(&error) && observe != Observe::Nothing => {
                let _ = through(own, Observe::Cheaply)?;
            }
            // The pages kept changing: they are where the outcome says, and a fault of the GPU maps them.
            Err(error) if lost_a_race(&error) && observe != Observe::Nothing => {}
            Err(error) => return Err(error),
        }
        Ok(outcome)
    }
}

fn lost_a_race(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Busy | ErrorKind::TryAgain)
}

fn refuses_a_part(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::MemoryKind | ErrorKind::NotMapped)
}
