//! A GPU's view of this process: the same addresses, the same bytes.
//!
//! A [`Mirror`] is the address space in which a GPU sees the process. On xe it is a fault-mode VM in which the whole of the
//! CPU's addresses is bound with `CPU_ADDR_MIRROR`; on KFD it is the process's own compute context, in which ranges are given
//! attributes. Nothing is copied or pinned: pages move between system memory and VRAM under the same addresses, and the kernel
//! brings them back when the CPU touches them.
//!
//! # What is safe
//!
//! Mirroring, prefetching and querying never change a byte that the CPU can see, so they are safe on `&[T]`, even while other
//! threads write. Letting GPU *code* run on a mirrored address space is the unsafe act: it can write anywhere the process can,
//! with no regard for references. Whoever submits that code answers for it.
//!
//! # When a GPU is reset
//!
//! What is in VRAM while a driver resets its GPU may be lost, and the kernel does not always say so. Seen on Linux 7.3:
//!
//! * **xe** repeats the copy of its own that a reset interrupted. A device it gives up answers `DeviceLost` from then on, and a
//!   prefetch during which that happened is an error too.
//! * **amdgpu** reports success for a migration whose copy a reset cancelled, and from then on migrates without copying: pages
//!   change places, every call succeeds, and what is read afterwards is zero. A mirror therefore listens to the driver's log of
//!   resets. The prefetch during which a reset began, and every later one on that mirror, answers
//!   [`DeviceLost`](crate::ErrorKind::DeviceLost) and moves nothing more into danger. A new mirror tries with one page of its own
//!   whether the driver copies again; until amdgpu is loaded anew it may not.
//!
//! Nobody can be told of a plain load: a CPU touch of a page whose way back fails reads what is left, and the next call on the
//! mirror is the first to say so. A prefetch with [`Observe::Nothing`](crate::Observe::Nothing) does not look.
//!
//! When xe lets go of a GPU (unbound, removed), data comes back intact. KFD sends `SIGBUS` to every process that uses the GPU instead,
//! and removal waits until they have ended. A process that handles the signal should save what it has in system memory and
//! exit, without touching what is in VRAM: amdgpu cannot bring it back any more (7.3 even corrupts itself when asked to).

use std::sync::{Arc, Mutex};

use crate::channel::ProcessGuard;
use crate::device::Device;
use crate::error::Result;
use crate::range::PageRange;
use crate::xe;

mod advice;
mod granularity;
mod journal;
mod observe;
mod obstacles;
mod prefetch;
mod refusal;
mod space;
mod trial;

pub use advice::{Advice, Advise};
pub(crate) use journal::{JournalReader, now};
pub use journal::{Memory, Request, RequestKind, RequestResult};
pub use prefetch::Prefetch;

use advice::AdviceBook;
use journal::Journal;
use observe::Scratch;
use space::Space;

/// The address space in which a GPU sees this process, made by [`Gpu::mirror`](crate::Gpu::mirror).
///
/// Dropping it removes what it made: the VM on xe; on KFD, whose context lives as long as the process, nothing. Data in VRAM
/// comes back on its own when touched.
///
/// When the GPU is lost ([`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost): driver unbound, device pulled out), drop the
/// mirror and every [`Gpu`](crate::Gpu) and [`Device`] of it *before* unmapping memory that it has used. The kernel's xe (seen with
/// 7.3.4) still watches the addresses for as long as the file is open, and a `munmap` then makes it write to page
/// tables that left with the device, which crashes the kernel's thread.
///
/// Belongs to the process that made it: in a forked child every call answers
/// [`ErrorKind::ForeignProcess`](crate::ErrorKind::ForeignProcess).
#[derive(Debug)]
pub struct Mirror {
    space: Space,
    device: Device,
    owner: ProcessGuard,
    advice: AdviceBook,
    journal: Arc<Journal>,
    scratch: Mutex<Vec<Scratch>>,
}

impl Mirror {
    pub(crate) fn new(device: &Device) -> Result<Self> {
        Self::over(Space::new(device)?, device)
    }

    /// Works in a VM that a runtime has made, or [adopted](xe::Vm::adopt), and has mirrored memory in
    /// ([`xe::Vm::mirror_all`], [`xe::Vm::mirror`]). Nothing is bound or unbound here: addresses that the VM does not mirror stay
    /// as they are, and a prefetch of them moves nothing, which the outcome says.
    ///
    /// Dropping the mirror drops `vm`: a VM that was created by it ends, one that was adopted does not.
    ///
    /// # Errors
    ///
    /// Those of the driver's query of memory regions; [`ErrorKind::ForeignProcess`](crate::ErrorKind::ForeignProcess).
    pub fn of_vm(vm: xe::Vm) -> Result<Self> {
        let device = Device::Xe(vm.device().clone());
        Self::over(Space::of_vm(vm)?, &device)
    }

    fn over(space: Space, device: &Device) -> Result<Self> {
        Ok(Self {
            space,
            device: device.clone(),
            owner: ProcessGuard::current()?,
            advice: AdviceBook::default(),
            journal: Arc::default(),
            scratch: Mutex::new(Vec::new()),
        })
    }

    /// A second address space of the same kind, in which pages can be moved for this one. What is asked through it counts as asked
    /// through this mirror.
    pub(crate) fn helper(&self) -> Result<Self> {
        Ok(Self { journal: self.journal.clone(), ..Self::new(&self.device)? })
    }

    /// The VM on xe, for queues and for what only xe has; `None` on KFD, where [`device`](Self::device) leads to the process.
    #[must_use]
    pub const fn vm(&self) -> Option<&xe::Vm> {
        self.space.vm()
    }

    /// Starts remembering what is asked through this mirror.
    pub(crate) fn journal(&self) -> Result<JournalReader> {
        self.owner.check("Events::of")?;
        Ok(JournalReader::new(self.journal.clone(), self.owner))
    }

    /// Prepares to move the pages of `data`, rounded outward to whole pages, to where the GPU or the CPU will use them.
    ///
    /// ```
    /// use drm_pagemap::{Buffer, Gpu};
    ///
    /// let gpu = Gpu::simulated();
    /// let mirror = gpu.mirror()?;
    /// let data = Buffer::from_slice(&[1.0f32; 1 << 20])?;
    /// let outcome = mirror.prefetch(&data).to(gpu.vram()).run()?;
    /// assert!(outcome.is_complete(), "{outcome}");
    /// # Ok::<(), drm_pagemap::Error>(())
    /// ```
    #[inline]
    #[must_use = "nothing moves until `run`"]
    pub fn prefetch<T>(&self, data: &[T]) -> Prefetch<'_> {
        self.prefetch_range(PageRange::covering(data))
    }

    /// Prepares to move the pages of `range`, exactly.
    #[inline]
    #[must_use = "nothing moves until `run`"]
    pub fn prefetch_range(&self, range: PageRange) -> Prefetch<'_> {
        Prefetch::new(self, range)
    }

    /// Prepares to advise how the pages of `data`, rounded outward to whole pages, are to be treated.
    ///
    /// ```
    /// use drm_pagemap::{Buffer, Gpu};
    ///
    /// let gpu = Gpu::simulated();
    /// let mirror = gpu.mirror()?;
    /// let data = Buffer::<u32>::zeroed(1 << 20)?;
    /// let advice = mirror.advise(&data).prefer(gpu.vram()).apply()?;
    /// drop(advice); // what was advised before is in force again
    /// # Ok::<(), drm_pagemap::Error>(())
    /// ```
    #[inline]
    pub fn advise<T>(&self, data: &[T]) -> Advise<'_> {
        self.advise_range(PageRange::covering(data))
    }

    /// Prepares to advise how the pages of `range`, exactly, are to be treated.
    #[inline]
    pub fn advise_range(&self, range: PageRange) -> Advise<'_> {
        Advise::new(self, range)
    }

    /// Takes back all advice given through this mirror for addresses inside `range`, whoever holds the guards. Advice that reaches
    /// beyond the range stays. For allocators: drivers keep advice by address, and the next owner of the addresses is another.
    ///
    /// No call to the driver where there is no such advice.
    ///
    /// # Errors
    ///
    /// As [`Advise::apply`]; all other advice is taken back nevertheless.
    pub fn reset_advice(&self, range: PageRange) -> Result<()> {
        self.owner.check("Mirror::reset_advice")?;
        let reset = || self.advice.reset(&self.space, range);
        self.journal.note(RequestKind::Advice, range, None, reset, RequestResult::of_call)
    }

    /// The GPU's device.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    fn scratch(&self) -> Result<Scratch> {
        let kept = self.scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        kept.map_or_else(Scratch::new, Ok)
    }

    fn keep(&self, scratch: Scratch) {
        self.scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(scratch);
    }
}
