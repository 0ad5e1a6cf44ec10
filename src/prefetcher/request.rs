//! A request that is being described.

use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::Prefetcher;
use super::options::{OnProgress, Prepare, Priority, Progress};
use super::pending::Pending;
use super::queue::Terms;
use super::task::{CALL, Task};
use super::worker::Full;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::outcome::Observe;
use crate::range::{PageRange, page_size};

/// A background prefetch that is being described; [`submit`](Self::submit) hands it to the threads.
#[must_use = "nothing happens until `submit`"]
pub struct Request<'p> {
    prefetcher: &'p Prefetcher,
    range: PageRange,
    to: Option<Location>,
    priority: Priority,
    observe: Observe,
    prepare: Prepare,
    chunk: u64,
    on_progress: Option<OnProgress>,
}

impl<'p> Request<'p> {
    pub(super) fn new(prefetcher: &'p Prefetcher, range: PageRange) -> Self {
        Self {
            prefetcher,
            range,
            to: None,
            priority: Priority::default(),
            observe: Observe::default(),
            prepare: Prepare::default(),
            chunk: prefetcher.chunk,
            on_progress: None,
        }
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

    /// Which request is worked on first. A higher one gets in between the chunks of a lower one.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// How closely to look at the result; the default is [`Observe::Cheaply`].
    pub fn observe(mut self, observe: Observe) -> Self {
        self.observe = observe;
        self
    }

    /// What to do to system memory before it moves; the default is nothing.
    pub fn prepare(mut self, prepare: Prepare) -> Self {
        self.prepare = prepare;
        self
    }

    /// Bytes of a chunk, a power of two of at least a page, instead of what the prefetcher was built with.
    pub fn chunk(mut self, bytes: u64) -> Self {
        self.chunk = bytes;
        self
    }

    /// Hears of progress after each chunk, on a thread of the prefetcher, and stops the request with [`ControlFlow::Break`].
    ///
    /// It should be quick: the thread does nothing else meanwhile. It may submit and cancel requests; waiting for one from in
    /// here can wait for ever. A panic ends the request with [`ErrorKind::Other`].
    pub fn on_progress(mut self, hear: impl FnMut(Progress) -> ControlFlow<()> + Send + 'static) -> Self {
        self.on_progress = Some(Box::new(hear));
        self
    }

    /// Hands the request to the threads, without waiting for anything.
    ///
    /// The memory is not borrowed. Freeing or remapping it meanwhile is safe: the driver then finds nothing to move at
    /// those addresses, or moves what is there by then, without changing a byte of it.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::Busy`]: the queue is full.
    /// * [`ErrorKind::InvalidArgument`]: no target was given, or the chunk is no power of two of at least a page.
    /// * [`ErrorKind::ForeignProcess`]: the prefetcher was inherited over `fork`.
    pub fn submit(self) -> Result<Pending> {
        self.submit_until(None)
    }

    /// As [`submit`](Self::submit), and waits up to `patience` for room in the queue.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit); [`ErrorKind::Busy`] when the queue was full all the time.
    pub fn submit_timeout(self, patience: Duration) -> Result<Pending> {
        // A century, where the clock cannot count as far as was asked.
        const LONG: Duration = Duration::from_secs(100 * 365 * 86_400);
        let now = Instant::now();
        self.submit_until(now.checked_add(patience).or_else(|| now.checked_add(LONG)))
    }

    fn submit_until(self, until: Option<Instant>) -> Result<Pending> {
        const SUBMIT: &str = "Prefetcher::submit";
        let Self { prefetcher, range, to, priority, observe, prepare, chunk, on_progress } = self;
        prefetcher.owner.check(SUBMIT)?;
        let invalid = |reason: &'static str| Error::new(ErrorKind::InvalidArgument, SUBMIT).because(reason);
        let to =
            to.ok_or_else(|| invalid("no target was given").hint_is("say .to(gpu.vram()) or .to_system()"))?;
        if !chunk.is_power_of_two() || chunk < page_size() {
            return Err(invalid("a chunk is a power of two of at least a page"));
        }
        let task = Task::new(range, on_progress);
        let shared = prefetcher.shared();
        if range.is_empty() {
            task.take_in_hand(true);
            task.put_down();
            return Ok(Pending::new(task, std::sync::Weak::new(), None, prefetcher.owner));
        }
        let budgeted = shared.budget.as_ref().is_some_and(|budget| budget.location() == to);
        let terms = Terms { target: shared.target(&to), priority, observe, prepare, chunk, budgeted };
        match shared.submit(&task, terms, until) {
            Ok(ticket) => {
                Ok(Pending::new(task, std::sync::Arc::downgrade(shared), Some(ticket), prefetcher.owner))
            }
            Err(Full::Queue) => Err(Error::new(ErrorKind::Busy, SUBMIT)
                .over(range)
                .because("the queue is full")
                .hint_is("wait for an earlier request, use submit_timeout, or build with a longer queue")),
            Err(Full::Closing) => {
                Err(Error::new(ErrorKind::Cancelled, CALL).because("the prefetcher is being dropped"))
            }
        }
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("range", &self.range)
            .field("to", &self.to)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}
