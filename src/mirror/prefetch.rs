//! Moving pages ahead of use.

use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::outcome::{Observe, Outcome};
use crate::range::PageRange;

use super::Mirror;
use super::journal::{Memory, RequestKind, RequestResult};
use super::space::Target;

const CALL: &str = "Mirror::prefetch";

/// A prefetch that is being described; [`run`](Self::run) makes it.
#[derive(Clone, Debug)]
#[must_use = "nothing moves until `run`"]
pub struct Prefetch<'m> {
    mirror: &'m Mirror,
    range: PageRange,
    to: Option<Location>,
    observe: Observe,
}

impl<'m> Prefetch<'m> {
    pub(super) fn new(mirror: &'m Mirror, range: PageRange) -> Self {
        Self { mirror, range, to: None, observe: Observe::default() }
    }

    /// Where to. There is no default.
    pub fn to(mut self, location: Location) -> Self {
        self.to = Some(location);
        self
    }

    /// Back to system memory.
    pub fn to_system(self) -> Self {
        self.to(Location::System)
    }

    /// How closely to look at the result; the default is [`Observe::Cheaply`].
    pub fn observe(mut self, observe: Observe) -> Self {
        self.observe = observe;
        self
    }

    /// Moves the pages, blocking until the driver is done, and says what came of it.
    ///
    /// On xe one `DRM_IOCTL_XE_VM_BIND` with `DRM_XE_VM_BIND_OP_PREFETCH` (since kernel 6.18 for VRAM); on KFD one
    /// `AMDKFD_IOC_SVM` that grants the GPU access and sets `PREFETCH_LOC` (KFD 1.5, since kernel 5.14). With
    /// [`Observe::Nothing`] that is all. Otherwise the pages are looked at before and after, and what did not move is tried once
    /// more in 2 MiB blocks, because both drivers stop at the first block that they cannot move.
    ///
    /// A range may span holes and memory that cannot move: those parts are in [`Outcome::refusals`], the rest moves. An empty
    /// range succeeds and does nothing.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::InvalidArgument`]: no target was given.
    /// * [`ErrorKind::Unsupported`]: the GPU has no memory of its own, or this kernel's driver cannot prefetch to it; or the
    ///   target is memory of another GPU that this driver cannot prefetch to.
    /// * [`ErrorKind::DeviceLost`]: the GPU was removed or is wedged. When it was removed, data is intact in system memory. When
    ///   the driver gave it up in the middle of a copy (wedged), pages that were being copied may have lost their content:
    ///   xe 7.3 answers success all the same, so an observed prefetch asks whether the device is still there.
    ///   Drop the mirror and the [`Gpu`](crate::Gpu) before you free the memory: see [`Mirror`]. On amdgpu also when the driver
    ///   has reset the GPU since the mirror was made: see [When a GPU is reset](crate::mirror#when-a-gpu-is-reset).
    /// * [`ErrorKind::ForeignProcess`]: the mirror was inherited over `fork`.
    /// * [`ErrorKind::MemoryKind`], [`ErrorKind::NotMapped`]: only with [`Observe::Nothing`], where the driver refuses the whole
    ///   range because part of it is read-only or unmapped.
    /// * [`ErrorKind::OutOfMemory`], [`ErrorKind::TryAgain`]: as the kernel says.
    pub fn run(self) -> Result<Outcome> {
        let Self { mirror, range, to, observe } = self;
        mirror.owner.check(CALL)?;
        let to = to.ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, CALL)
                .because("no target was given")
                .hint_is("say .to(gpu.vram()) or .to_system()")
        })?;
        if range.is_empty() {
            return Ok(Outcome::nothing());
        }
        let target = mirror.space.target(&mirror.device, &to)?;
        let memory = if target.is_vram() { Memory::Vram } else { Memory::System };
        let make = || make(mirror, range, target, observe);
        mirror.journal.note(RequestKind::Prefetch, range, Some(memory), make, RequestResult::of_outcome)
    }
}

fn make(mirror: &Mirror, range: PageRange, target: Target, observe: Observe) -> Result<Outcome> {
    if observe == Observe::Nothing {
        mirror.space.prefetch(range, target)?;
        return Ok(Outcome::unobserved(range.len()));
    }
    let mut scratch = mirror.scratch()?;
    let outcome = scratch.prefetch(&mirror.space, range, target, observe);
    mirror.keep(scratch);
    outcome
}
