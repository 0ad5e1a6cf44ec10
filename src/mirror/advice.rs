//! Advice: where pages should be when the GPU faults, and how it may use them.
//!
//! Drivers keep advice by address, not by allocation, so what is said of a buffer would go on to govern whatever is later
//! allocated there. Here advice is a guard: dropped, it is taken back, and advice given earlier for the same addresses is in
//! force again.

use std::fmt;
use std::mem::ManuallyDrop;

use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::range::PageRange;
use crate::xe::AtomicMode;

use super::Mirror;
use super::journal::{RequestKind, RequestResult};

mod book;
mod layers;

pub(super) use book::AdviceBook;
use layers::LayerId;

const CALL: &str = "Mirror::advise";

/// What one piece of advice says; unset parts leave things as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) preferred: Option<Location>,
    pub(super) atomics: Option<AtomicMode>,
    pub(super) granularity: Option<u64>,
}

bitflags::bitflags! {
    /// Which kinds of advice are meant.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Kinds: u8 {
        const PREFERRED = 1;
        const ATOMICS = 2;
        const GRANULARITY = 4;
    }
}

/// Whoever takes advice: a driver.
pub(super) trait Advisee {
    /// Gives advice.
    fn advise(&self, range: PageRange, settings: &Settings) -> Result<()>;

    /// Puts the kinds of advice that were set to what `now` says, or to the driver's defaults where it says nothing.
    fn restore(&self, range: PageRange, was: Kinds, now: &Settings) -> Result<()>;
}

impl Settings {
    /// Nothing is said: the driver's defaults.
    pub(super) const NOTHING: Self = Self { preferred: None, atomics: None, granularity: None };

    /// What something is said about.
    #[inline]
    pub(super) fn kinds(&self) -> Kinds {
        let mut kinds = Kinds::empty();
        kinds.set(Kinds::PREFERRED, self.preferred.is_some());
        kinds.set(Kinds::ATOMICS, self.atomics.is_some());
        kinds.set(Kinds::GRANULARITY, self.granularity.is_some());
        kinds
    }
}

/// Advice that is being described; [`apply`](Self::apply) gives it.
#[derive(Clone, Debug)]
#[must_use = "nothing is advised until `apply`"]
pub struct Advise<'m> {
    mirror: &'m Mirror,
    range: PageRange,
    settings: Settings,
}

impl<'m> Advise<'m> {
    #[inline]
    pub(super) const fn new(mirror: &'m Mirror, range: PageRange) -> Self {
        Self { mirror, range, settings: Settings::NOTHING }
    }

    /// The preferred location: where a GPU page fault brings pages. Moves nothing by itself.
    ///
    /// On xe (since kernel 6.18) the default is the memory of the GPU that faults. On KFD without XNACK there are no GPU page
    /// faults, and the preference is remembered only.
    #[inline]
    pub fn prefer(mut self, location: Location) -> Self {
        self.settings.preferred = Some(location);
        self
    }

    /// Who does atomic operations on the pages. xe only, since kernel 6.18.
    #[inline]
    pub fn atomics(mut self, mode: AtomicMode) -> Self {
        self.settings.atomics = Some(mode);
        self
    }

    /// The migration granularity: how many bytes, a power of two of at least a page, move together on a fault. KFD only; xe
    /// chooses 2 MiB, 64 KiB or 4 KiB by itself.
    #[inline]
    pub fn granularity(mut self, bytes: u64) -> Self {
        self.settings.granularity = Some(bytes);
        self
    }

    /// Gives the advice for the whole pages of the range. In force until the guard is dropped.
    ///
    /// On xe one `DRM_IOCTL_XE_MADVISE` for each kind of advice, on KFD one `AMDKFD_IOC_SVM` for all. Advice that overlaps
    /// advice of another guard overrides it for as long as both exist.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::InvalidArgument`]: nothing was said, or the granularity is no power of two of at least a page.
    /// * [`ErrorKind::Unsupported`]: the driver or this kernel does not take such advice.
    /// * [`ErrorKind::NoInterconnect`]: the preferred memory is another GPU's, and no fast path leads there.
    /// * [`ErrorKind::NotMapped`]: KFD only, part of the range is not mapped.
    /// * [`ErrorKind::DeviceLost`], [`ErrorKind::ForeignProcess`].
    ///
    /// When one of several kinds of advice fails, none of them stays.
    pub fn apply(self) -> Result<Advice<'m>> {
        let Self { mirror, range, settings } = self;
        mirror.owner.check(CALL)?;
        if settings.kinds().is_empty() {
            return Err(nothing_advised(range));
        }
        let give = || mirror.advice.give(&mirror.space, range, settings);
        let id = mirror.journal.note(RequestKind::Advice, range, None, give, RequestResult::of_call)?;
        Ok(Advice { mirror, range, id })
    }
}

#[cold]
fn nothing_advised(range: PageRange) -> Error {
    Error::new(ErrorKind::InvalidArgument, CALL)
        .over(range)
        .because("nothing is advised")
        .hint_is("say .prefer(location), .atomics(mode) or .granularity(bytes)")
}

/// Advice in force. Dropped, it is taken back; see [`Advise::apply`].
#[must_use = "dropped, the advice is taken back"]
pub struct Advice<'m> {
    mirror: &'m Mirror,
    range: PageRange,
    id: Option<LayerId>,
}

impl Advice<'_> {
    /// The pages it is for.
    #[must_use]
    pub const fn range(&self) -> PageRange {
        self.range
    }

    /// Takes the advice back, and says whether the driver took that. Dropping does the same and cannot say.
    ///
    /// # Errors
    ///
    /// As [`Advise::apply`].
    pub fn reset(self) -> Result<()> {
        // What `Drop` would do; there is nothing else to drop.
        ManuallyDrop::new(self).take_back()
    }

    /// Leaves the advice in force for good: until the mirror is dropped on xe, until the memory is unmapped on KFD. Guards made
    /// before no longer override it when they are dropped.
    pub fn keep(mut self) {
        let Some(id) = self.id.take() else { return };
        // In a forked child the book's lock may be held by a thread that does not exist there.
        if self.mirror.owner.is_owner() {
            self.mirror.advice.keep(self.range, id);
        }
    }

    #[inline]
    fn take_back(&mut self) -> Result<()> {
        let Some(id) = self.id.take() else { return Ok(()) };
        self.mirror.owner.check("Advice::reset")?;
        let take_back = || self.mirror.advice.take_back(&self.mirror.space, self.range, id);
        self.mirror.journal.note(RequestKind::Advice, self.range, None, take_back, RequestResult::of_call)
    }
}

impl Drop for Advice<'_> {
    fn drop(&mut self) {
        // The device may be gone, or the memory unmapped: then there is nothing left to take back.
        let _ = self.take_back();
    }
}

impl fmt::Debug for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Advice").field("range", &self.range).finish_non_exhaustive()
    }
}
