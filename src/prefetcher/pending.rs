//! The handle of a request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::options::Progress;
use super::queue::Ticket;
use super::task::{Task, cancelled};
use super::worker::Shared;
use crate::channel::ProcessGuard;
use crate::error::Result;
use crate::outcome::Outcome;
use crate::range::PageRange;

/// A prefetch that is under way in the background: wait for it, `await` it, cancel it, or let go of it.
///
/// A [`Future`] on any executor; it needs no runtime of its own. Dropping the handle leaves the request under way, unless
/// [`cancel_on_drop`](Self::cancel_on_drop) was said.
///
/// The result is the merged [`Outcome`] of all chunks, or the first error. It is handed out once; asking again answers
/// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument). What was done before an error or a cancellation is in
/// [`so_far`](Self::so_far).
///
/// In a forked child, whose copy of the prefetcher has no threads, everything answers
/// [`ErrorKind::ForeignProcess`](crate::ErrorKind::ForeignProcess).
#[must_use = "let go of, the request goes on, and nobody hears what came of it"]
pub struct Pending {
    task: Arc<Task>,
    shared: Weak<Shared>,
    /// `None`: there was nothing to do.
    ticket: Option<Ticket>,
    owner: ProcessGuard,
    cancel_on_drop: bool,
}

const WAIT: &str = "Pending::wait";

impl Pending {
    pub(super) fn new(
        task: Arc<Task>,
        shared: Weak<Shared>,
        ticket: Option<Ticket>,
        owner: ProcessGuard,
    ) -> Self {
        Self { task, shared, ticket, owner, cancel_on_drop: false }
    }

    /// The pages that were asked for.
    #[must_use]
    pub fn range(&self) -> PageRange {
        self.task.range()
    }

    /// Waits for the result. Ends soon after [`cancel`](Self::cancel), and after the prefetcher is dropped.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled): by [`cancel`](Self::cancel), by the progress function, or because
    ///   the prefetcher was dropped.
    /// * [`ErrorKind::OutOfVram`](crate::ErrorKind::OutOfVram): refused by the [`Budget`](crate::Budget).
    /// * Otherwise as [`Prefetch::run`](crate::mirror::Prefetch::run).
    pub fn wait(self) -> Result<Outcome> {
        self.owner.check(WAIT)?;
        loop {
            if let Some(result) = self.task.wait(None) {
                return result;
            }
        }
    }

    /// Waits for the result for at most `patience`; `None` when it is not there by then.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&mut self, patience: Duration) -> Option<Result<Outcome>> {
        if let Err(error) = self.owner.check(WAIT) {
            return Some(Err(error));
        }
        self.task.wait(Some(patience))
    }

    /// Whether there is a result. In a forked child there never will be, which counts as done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !self.owner.is_owner() || self.task.is_finished()
    }

    /// How far it has come.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`](crate::ErrorKind::ForeignProcess).
    pub fn progress(&self) -> Result<Progress> {
        self.owner.check("Pending::progress")?;
        Ok(self.task.progress())
    }

    /// What came of the chunks that are done, also after the request failed or was cancelled.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`](crate::ErrorKind::ForeignProcess).
    pub fn so_far(&self) -> Result<Outcome> {
        self.owner.check("Pending::so_far")?;
        Ok(self.task.so_far())
    }

    /// Ends the request: what was not begun is not begun any more; a chunk that the driver has in hand is finished. The result
    /// is then [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), unless it was there before. Pages that have moved stay
    /// where they are.
    pub fn cancel(&self) {
        if !self.owner.is_owner() {
            return;
        }
        if let (Some(shared), Some(ticket)) = (self.shared.upgrade(), self.ticket) {
            shared.withdraw(ticket);
        }
        self.task.stop(cancelled("cancelled by its owner"));
    }

    /// Dropping the handle from now on cancels the request. Right where a future is raced against others.
    pub fn cancel_on_drop(mut self) -> Self {
        self.cancel_on_drop = true;
        self
    }
}

impl Future for Pending {
    type Output = Result<Outcome>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Err(error) = self.owner.check("Pending::poll") {
            return Poll::Ready(Err(error));
        }
        self.task.poll(context.waker())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.cancel_on_drop {
            self.cancel();
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("range", &self.range())
            .field("done", &self.is_done())
            .finish_non_exhaustive()
    }
}
