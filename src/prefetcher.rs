//! Prefetch in the background.
//!
//! Both drivers migrate inside the ioctl: whoever prefetches waits until the last page has moved, with one CPU. A [`Prefetcher`]
//! does that on threads of its own. Requests wait in a bounded queue, by priority; long ones are made in chunks, between which a
//! more urgent one gets in and a cancelled one ends; small neighbours are made together. Each request has a handle, a
//! [`Pending`], to wait for, `await`, or let go of.
//!
//! ```
//! use std::sync::Arc;
//! use drm_pagemap::{Buffer, Gpu, Prefetcher};
//!
//! let gpu = Gpu::simulated();
//! let mirror = Arc::new(gpu.mirror()?);
//! let prefetcher = Prefetcher::new(mirror)?;
//! let weights = Buffer::from_slice(&[0.5f32; 1 << 20])?;
//!
//! let pending = prefetcher.prefetch(&weights).to(gpu.vram()).submit()?;
//! // … prepare the next step …
//! let outcome = pending.wait()?;
//! assert!(outcome.is_complete(), "{outcome}");
//! # Ok::<(), drm_pagemap::Error>(())
//! ```
//!
//! A handle is a [`Future`] on any executor, and a request can be watched and stopped:
//!
//! ```
//! use std::ops::ControlFlow;
//! use std::sync::Arc;
//! use drm_pagemap::prefetcher::{Prefetcher, Priority};
//! use drm_pagemap::{Buffer, Gpu, Outcome};
//!
//! async fn bring(prefetcher: &Prefetcher, gpu: &Gpu, data: &[f32]) -> drm_pagemap::Result<Outcome> {
//!     prefetcher.prefetch(data).to(gpu.vram()).priority(Priority::HIGH).submit()?.await
//! }
//!
//! let gpu = Gpu::simulated();
//! let mirror = Arc::new(gpu.mirror()?);
//! let prefetcher = Prefetcher::builder(mirror).threads(2).helper_spaces(true).chunk(2 << 20).build()?;
//! let data = Buffer::<f32>::zeroed(2 << 20)?;
//! let half = |progress: drm_pagemap::prefetcher::Progress| {
//!     if progress.done * 2 < progress.total { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
//! };
//! let pending = prefetcher.prefetch(&data).to(gpu.vram()).on_progress(half).submit()?;
//! let error = pending.wait().unwrap_err();
//! assert_eq!(error.kind(), drm_pagemap::ErrorKind::Cancelled);
//! # let _ = bring;
//! # Ok::<(), drm_pagemap::Error>(())
//! ```
//!
//! # What is prefetched may be freed
//!
//! A request is a range of addresses, not a borrow. Prefetching changes no byte that the CPU can see, whatever is mapped at the
//! addresses: where nothing is, the driver skips it or answers `EFAULT`, and where something else is by then, that is moved, which
//! its owner does not notice. So no lifetime binds a request to its memory, and none is needed.
//!
//! # Several threads
//!
//! xe holds the lock of a VM for the whole of a migration, so threads that prefetch in one VM take turns, and GPU faults of
//! that VM wait. With [`Builder::helper_spaces`], each thread has a mirrored VM of its own in which it moves pages, and the
//! user's VM is locked only while its page tables are written. KFD has one address space for each process and takes one
//! prefetch at a time.
//!
//! # Shutdown
//!
//! Dropping the prefetcher cancels what was not begun, ends requests in progress after the chunk that the driver has in hand, and
//! joins the threads: it waits for at most one chunk for each thread, and for older work that a [`Budget`](crate::Budget) is just
//! sending back. [`Prefetcher::wait_idle_timeout`] before that lets
//! everything finish. A device that is lost ends requests with [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost); the
//! prefetcher itself stays usable, and a forked child is refused.

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::channel::ProcessGuard;
use crate::error::Result;
use crate::mirror::Mirror;
use crate::range::PageRange;

mod builder;
mod options;
mod pending;
mod prepare;
mod queue;
mod request;
mod share;
mod space;
mod task;
#[cfg(all(test, feature = "sim"))]
mod tests;
mod worker;

pub use builder::Builder;
pub use options::{Prepare, Priority, Progress, Stats};
pub use pending::Pending;
pub use request::Request;

use worker::Shared;

/// Threads that prefetch for a [`Mirror`], and the queue of what they are to do. See the [module](self).
pub struct Prefetcher {
    /// Left alone in a forked child, where its threads are not and its locks may be held for ever.
    inner: ManuallyDrop<Inner>,
    owner: ProcessGuard,
    chunk: u64,
}

struct Inner {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Prefetcher {
    /// A prefetcher with one thread; [`builder`](Self::builder) for more.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn new(mirror: Arc<Mirror>) -> Result<Self> {
        Self::builder(mirror).build()
    }

    /// Describes a prefetcher.
    pub fn builder(mirror: Arc<Mirror>) -> Builder {
        Builder::new(mirror)
    }

    /// Prepares to prefetch the pages of `data`, rounded outward to whole pages.
    pub fn prefetch<T>(&self, data: &[T]) -> Request<'_> {
        self.prefetch_range(PageRange::covering(data))
    }

    /// Prepares to prefetch the pages of `range`, exactly.
    pub fn prefetch_range(&self, range: PageRange) -> Request<'_> {
        Request::new(self, range)
    }

    /// Requests that wait, or have chunks that were not begun.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`](crate::ErrorKind::ForeignProcess).
    pub fn waiting(&self) -> Result<usize> {
        self.owner.check("Prefetcher::waiting")?;
        Ok(self.shared().waiting())
    }

    /// Waits for at most `patience` until nothing is left to do, and says whether that is so. All handles have their result
    /// then. Not from a progress function, which is part of what there is to do.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`](crate::ErrorKind::ForeignProcess).
    pub fn wait_idle_timeout(&self, patience: Duration) -> Result<bool> {
        self.owner.check("Prefetcher::wait_idle_timeout")?;
        Ok(self.shared().wait_idle(Instant::now().checked_add(patience)))
    }

    /// What has been done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// The mirror it prefetches for.
    #[must_use]
    pub fn mirror(&self) -> &Arc<Mirror> {
        &self.shared().mirror
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        if !self.owner.is_owner() {
            return;
        }
        // SAFETY: taken here and nowhere else, and not used after.
        let Inner { shared, threads } = unsafe { ManuallyDrop::take(&mut self.inner) };
        shared.close();
        // A progress function may own the last handle to the prefetcher. Its thread cannot wait for itself, nor for others that
        // may be waiting for the function to return: they end by themselves, after this.
        let current = std::thread::current().id();
        if threads.iter().any(|thread| thread.thread().id() == current) {
            return;
        }
        for thread in threads {
            // Threads catch the panics of what they run.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Prefetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefetcher")
            .field("threads", &self.inner.threads.len())
            .field("chunk", &self.chunk)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
