//! What all handles of a space have in common.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::capabilities::Capabilities;
use super::copy_threads::CopyThreads;
use super::engine::request::Request;
use super::engine::slots::{Claim, Line};
use super::failure::closed;
use super::vma::Maps;
use crate::channel::ProcessGuard;
use crate::error::Result;

/// How long dropping the last handle waits for the data to be back. A driver's copy that hangs must not hang the process.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(super) guard: ProcessGuard,
    pub(super) capabilities: Capabilities,
    /// `None` only while being dropped.
    pub(super) line: Option<Arc<Line>>,
    pub(super) maps: Option<Maps>,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) copies: Arc<CopyThreads>,
}

impl Inner {
    pub(crate) fn claim(&self, call: &'static str) -> Result<Claim> {
        self.guard.check(call)?;
        self.line.as_ref().map(Line::claim).ok_or_else(|| closed(call))
    }

    pub(crate) fn line(&self) -> Option<&Arc<Line>> {
        self.line.as_ref()
    }

    pub(crate) fn is_owner(&self) -> bool {
        self.guard.is_owner()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let line = self.line.take();
        if !self.guard.is_owner() {
            // A child's copy: the thread, and most of the memory, exist in the parent only.
            std::mem::forget((line, self.maps.take(), thread));
            return;
        }
        let ended = line
            .as_ref()
            .is_some_and(|line| line.claim().call_within(Request::Shutdown, SHUTDOWN_PATIENCE).is_some());
        match thread {
            // The last handle may be dropped by a copy thread, but never by the engine's own.
            Some(thread) if ended => drop(thread.join()),
            // The engine goes on without us, so that no data is lost.
            thread => std::mem::forget((line, thread)),
        }
    }
}
