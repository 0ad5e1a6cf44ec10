//! How a prefetcher is made.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::space::Lane;
use super::worker::{Shared, Worker};
use super::{Inner, Prefetcher};
use crate::budget::Budget;
use crate::channel::ProcessGuard;
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::mirror::Mirror;
use crate::range::page_size;

/// A prefetcher that is being described; [`build`](Self::build) starts it.
#[derive(Debug)]
#[must_use = "nothing is started until `build`"]
pub struct Builder {
    mirror: Arc<Mirror>,
    budget: Option<Arc<Budget>>,
    threads: usize,
    queue: usize,
    chunk: u64,
    helper_spaces: bool,
}

/// A chunk that takes drivers a few milliseconds: long enough that the call costs nothing, short enough to cancel.
const CHUNK: u64 = 32 << 20;
const QUEUE: usize = 1024;

impl Builder {
    pub(super) fn new(mirror: Arc<Mirror>) -> Self {
        Self { mirror, budget: None, threads: 1, queue: QUEUE, chunk: CHUNK, helper_spaces: false }
    }

    /// How many threads prefetch; the default is 1. More than one only gain where the driver lets them: see
    /// [`helper_spaces`](Self::helper_spaces).
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// How many requests may wait, or have chunks that were not begun; the default is 1024.
    pub fn queue_limit(mut self, requests: usize) -> Self {
        self.queue = requests;
        self
    }

    /// Bytes of a chunk, a power of two of at least a page; the default is 32 MiB. The unit of progress, of cancellation, of
    /// sharing between threads, and the most that neighbours are made together. Below 2 MiB, drivers that work in blocks of that
    /// size move more than a chunk at once, and the next chunk finds its pages there already.
    pub fn chunk(mut self, bytes: u64) -> Self {
        self.chunk = bytes;
        self
    }

    /// Gives each thread a mirrored address space of its own, in which it moves pages, so that several threads migrate at once;
    /// then the pages are mapped in the user's address space, chunk by chunk. xe only.
    ///
    /// Costs a VM for each thread, which lives as long as the prefetcher, and a second ioctl for each chunk.
    pub fn helper_spaces(mut self, helper_spaces: bool) -> Self {
        self.helper_spaces = helper_spaces;
        self
    }

    /// Asks a budget before each request into the VRAM region that it is for. Each request is judged as a whole, when its turn
    /// comes.
    pub fn budget(mut self, budget: Arc<Budget>) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::InvalidArgument`]: no thread, a queue of no request, a chunk that is no power of two of at least a page, or a
    ///   budget for another GPU.
    /// * [`ErrorKind::Unsupported`]: helper address spaces on KFD.
    /// * [`ErrorKind::OutOfMemory`]: the system gives no more threads (`EAGAIN`).
    /// * Otherwise as [`Gpu::mirror`](crate::Gpu::mirror), for helper address spaces, and
    ///   [`Scanner::new`](crate::residency::Scanner::new).
    ///
    /// After an error nothing is left behind.
    pub fn build(self) -> Result<Prefetcher> {
        const BUILD: &str = "Prefetcher::builder";
        let invalid = |reason: &'static str| Error::new(ErrorKind::InvalidArgument, BUILD).because(reason);
        if self.threads == 0 || self.queue == 0 {
            return Err(invalid("it takes a thread, and a queue of at least one request"));
        }
        if !self.chunk.is_power_of_two() || self.chunk < page_size() {
            return Err(invalid("a chunk is a power of two of at least a page"));
        }
        let device = self.mirror.device();
        if self.budget.as_ref().is_some_and(|budget| budget.region().device() != device) {
            return Err(invalid("the budget is for memory of another GPU than the mirror's"));
        }
        let lane = || if self.helper_spaces { Lane::helper(&self.mirror) } else { Ok(Lane::Own) };
        let lanes = (0..self.threads).map(|_| lane()).collect::<Result<Vec<Lane>>>()?;
        let shared = Arc::new(Shared::new(self.mirror.clone(), self.budget, self.queue));
        let mut prefetcher = Prefetcher {
            inner: ManuallyDrop::new(Inner {
                shared: shared.clone(),
                threads: Vec::with_capacity(self.threads),
            }),
            owner: ProcessGuard::current()?,
            chunk: self.chunk,
        };
        for (number, lane) in lanes.into_iter().enumerate() {
            let worker = Worker::new(shared.clone(), lane)?;
            let thread = std::thread::Builder::new()
                .name(format!("drm-prefetch-{number}"))
                .spawn(move || worker.run())
                .map_err(|error| thread_error(&error))?;
            prefetcher.inner.threads.push(thread);
        }
        Ok(prefetcher)
    }
}

fn thread_error(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::OutOfMemory, "pthread_create")
        .errno_is(Errno::from_raw(error.raw_os_error().unwrap_or(0)))
        .because("no more threads can be had")
        .hint_is("build with fewer threads, or raise the limit on processes (ulimit -u)")
}
