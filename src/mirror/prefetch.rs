//! Moving pages ahead of use.

use std::borrow::Borrow;

use crate::error::{Error, ErrorKind, Result};
use crate::location::{Fallback, Location, VramRegion};
use crate::outcome::{Observe, Outcome};
use crate::range::PageRange;

use super::Mirror;
use super::advice::Settings;
use super::journal::{Memory, RequestKind, RequestResult};
use super::space::{Goal, Space, Target};

const PREFETCH: &str = "Mirror::prefetch";

/// A prefetch that is being described; [`run`](Self::run) makes it.
#[derive(Clone, Debug)]
#[must_use = "nothing moves until `run`"]
pub struct Prefetch<'m> {
    plan: Plan<'m>,
    to: Goal,
    fallback: Fallback,
}

/// A prefetch but for its target: small, and never borrowed where nothing is looked at, so that it stays in registers.
#[derive(Clone, Copy, Debug)]
struct Plan<'m> {
    mirror: &'m Mirror,
    range: PageRange,
    observe: Observe,
}

impl<'m> Prefetch<'m> {
    #[inline]
    pub(super) fn new(mirror: &'m Mirror, range: PageRange) -> Self {
        let plan = Plan { mirror, range, observe: Observe::default() };
        Self { plan, to: Goal::Unsaid, fallback: Fallback::default() }
    }

    /// Where to. There is no default.
    ///
    /// On xe the place may be the memory of another xe GPU (since kernel 7.0), if a fast link connects the two: the driver is
    /// advised to prefer it, asked to prefetch to where it is advised, and then advised as before. What page belongs to which
    /// GPU the kernel does not tell: pages that were in VRAM before count as already there, whose ever it was.
    #[inline(always)]
    pub fn to(mut self, location: impl Borrow<Location>) -> Self {
        self.to = Space::goal(&self.plan.mirror.device, location.borrow());
        self
    }

    /// Back to system memory.
    pub fn to_system(self) -> Self {
        self.to(Location::System)
    }

    /// What to do when no fast link leads to the GPU whose memory the pages are to go to; the default is to refuse. Where they went
    /// is in [`Outcome::fallback`]. Says nothing about memory of the mirror's own GPU.
    ///
    /// ```
    /// use drm_pagemap::sim::Machine;
    /// use drm_pagemap::sim::xe::{Platform, XeConfig, XeGpu};
    /// use drm_pagemap::{Buffer, Fallback, Gpu};
    ///
    /// let card = || XeGpu::new(XeConfig::new(Platform::Battlemage).vram(64 << 20));
    /// let machine = Machine::new().with_xe(card()?).with_xe(card()?); // no link between them
    /// let gpus: Vec<Gpu> = Gpu::discover_in(&machine).into_iter().collect();
    /// let (gpu, peer) = (&gpus[0], &gpus[1]);
    ///
    /// let mirror = gpu.mirror()?;
    /// let data = Buffer::from_slice(&[1.0f32; 1 << 20])?;
    /// let outcome = mirror.prefetch(&data).to(peer.vram()).fallback(Fallback::OwnVram).run()?;
    /// assert_eq!(outcome.fallback(), Some(Fallback::OwnVram));
    /// # Ok::<(), drm_pagemap::Error>(())
    /// ```
    #[inline]
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// How closely to look at the result; the default is [`Observe::Cheaply`].
    #[inline]
    pub fn observe(mut self, observe: Observe) -> Self {
        self.plan.observe = observe;
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
    /// * [`ErrorKind::NoInterconnect`] (`ENOLINK`): the target is memory of another GPU, no fast link leads there, and no
    ///   [`fallback`](Self::fallback) was named.
    /// * [`ErrorKind::DeviceLost`]: the GPU was removed or is wedged. When it was removed, data is intact in system memory. When
    ///   the driver gave it up in the middle of a copy (wedged), pages that were being copied may have lost their content:
    ///   xe 7.3 answers success all the same, so an observed prefetch asks whether the device is still there.
    ///   Drop the mirror and the [`Gpu`](crate::Gpu) before you free the memory: see [`Mirror`]. On amdgpu also when the driver
    ///   has reset the GPU since the mirror was made: see [When a GPU is reset](crate::mirror#when-a-gpu-is-reset).
    /// * [`ErrorKind::ForeignProcess`]: the mirror was inherited over `fork`.
    /// * [`ErrorKind::MemoryKind`], [`ErrorKind::NotMapped`]: only with [`Observe::Nothing`], where the driver refuses the whole
    ///   range because part of it is read-only or unmapped.
    /// * [`ErrorKind::OutOfMemory`], [`ErrorKind::TryAgain`], [`ErrorKind::Busy`]: as the kernel says. Where the driver gives up an
    ///   observed prefetch into VRAM because the pages kept changing, that is no error: it is in [`Outcome::refusals`].
    #[inline]
    pub fn run(self) -> Result<Outcome> {
        match self.to {
            Goal::At(target) => self.plan.run_to(target),
            goal => self.plan.run_elsewhere(goal, self.fallback),
        }
    }
}

impl Plan<'_> {
    /// To system memory or memory of the mirror's own GPU.
    #[inline]
    fn run_to(self, target: Target) -> Result<Outcome> {
        if self.observe == Observe::Nothing && !self.range.is_empty() {
            self.mirror.prefetch_unobserved(self.range, target)?;
            return Ok(Outcome::unobserved(self.range.len()));
        }
        self.run_observed(target)
    }

    fn run_observed(self, target: Target) -> Result<Outcome> {
        let mirror = self.mirror;
        mirror.owner.check(PREFETCH)?;
        if self.range.is_empty() {
            return Ok(Outcome::nothing());
        }
        let observed = || {
            let mut scratch = mirror.scratch()?;
            let outcome = scratch.prefetch(&mirror.space, self.range, target, self.observe);
            mirror.keep(scratch);
            outcome
        };
        mirror.note_prefetch(self.range, target, observed, RequestResult::of_outcome)
    }

    #[cold]
    fn run_elsewhere(self, goal: Goal, fallback: Fallback) -> Result<Outcome> {
        self.mirror.owner.check(PREFETCH)?;
        match goal {
            Goal::At(target) => self.run_to(target),
            Goal::Peer(region) => self.run_to_peer(*region, fallback),
            Goal::Unsaid => Err(Error::new(ErrorKind::InvalidArgument, PREFETCH)
                .because("no target was given")
                .hint_is("say .to(gpu.vram()) or .to_system()")),
            Goal::OtherGpu => Err(unsupported("the target is memory of another GPU")
                .hint_is("prefetch through a mirror of the GPU that owns the memory")),
            Goal::NoVram => {
                Err(unsupported("the GPU has no memory of its own; it works on system memory directly"))
            }
        }
    }

    /// xe names memory of other devices in advice only.
    fn run_to_peer(self, region: VramRegion, fallback: Fallback) -> Result<Outcome> {
        let mirror = self.mirror;
        if self.range.is_empty() {
            return Ok(Outcome::nothing());
        }
        let preferred = Settings { preferred: Some(Location::Vram(region)), ..Settings::default() };
        let prefetch = || match self.observe {
            Observe::Nothing => {
                mirror.prefetch_noted(self.range, Target::PEER)?;
                Ok(Outcome::unobserved(self.range.len()))
            }
            _ => self.run_observed(Target::PEER),
        };
        let error = match mirror.advice.during(&mirror.space, self.range, &preferred, prefetch) {
            Err(error) if error.kind() == ErrorKind::NoInterconnect => error,
            done => return done,
        };
        let target = match fallback {
            Fallback::Refuse => {
                return Err(error.hint_is(
                    "name a fallback; or prefetch through a mirror of the GPU that owns the memory",
                ));
            }
            Fallback::OwnVram => mirror.space.nearest()?,
            Fallback::System => Target::SYSTEM,
        };
        let instead = if target.is_vram() { Fallback::OwnVram } else { Fallback::System };
        Ok(self.run_to(target)?.fell_back(instead))
    }
}

impl Mirror {
    /// The one call, and nothing else while nobody reads events: not to a peer. The driver's own objects know which process they
    /// belong to.
    fn prefetch_unobserved(&self, range: PageRange, target: Target) -> Result<()> {
        if self.journal.is_read() {
            return self.prefetch_noted(range, target);
        }
        self.space.prefetch_own(range, target)
    }

    #[cold]
    fn prefetch_noted(&self, range: PageRange, target: Target) -> Result<()> {
        let prefetch = || self.space.prefetch(range, target);
        self.note_prefetch(range, target, prefetch, RequestResult::of_call)
    }

    fn note_prefetch<T>(
        &self,
        range: PageRange,
        target: Target,
        request: impl FnOnce() -> Result<T>,
        result_of: impl FnOnce(&Result<T>) -> RequestResult,
    ) -> Result<T> {
        let memory = if target.is_vram() { Memory::Vram } else { Memory::System };
        self.journal.note(RequestKind::Prefetch, range, Some(memory), request, result_of)
    }
}

#[cold]
fn unsupported(reason: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, PREFETCH).because(reason)
}
