//! One window of device memory, seen from outside.

use std::time::Duration;

use super::engine::now;
use super::engine::request::{NodeId, Reply, Request, WindowState};
use super::space::{Space, unit};
use super::vram::RegionId;
use crate::error::Result;
use crate::range::PageRange;

/// A piece of the address space that is one allocation of device memory: a handle that outlives the window, and then says so.
///
/// What is told is true at that moment, and may be no longer when it is read.
#[derive(Clone, Debug)]
pub struct Window {
    space: Space,
    node: NodeId,
}

impl Window {
    pub(crate) fn new(space: Space, node: NodeId) -> Self {
        Self { space, node }
    }

    fn state(&self) -> Option<WindowState> {
        match self.space.ask("Window", Request::WindowState { node: self.node }) {
            Ok(Reply::Window(state)) => state,
            _ => None,
        }
    }

    /// Whether any page of the window is still the device's.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.state().is_some()
    }

    /// Its addresses; `mremap` changes them.
    #[must_use]
    pub fn range(&self) -> Option<PageRange> {
        self.state().map(|state| PageRange::from_aligned(state.start, state.start + state.bytes))
    }

    /// The region it is in.
    #[must_use]
    pub fn region(&self) -> Option<RegionId> {
        self.state().map(|state| RegionId(state.region))
    }

    /// Pages whose contents are the device's; 0 when it is gone.
    #[must_use]
    pub fn live_pages(&self) -> u64 {
        self.state().map_or(0, |state| u64::from(state.live_pages))
    }

    /// How long the timeslice still lasts; zero if it is over, or there is none.
    #[must_use]
    pub fn timeslice_left(&self) -> Duration {
        let expires = self.state().map_or(0, |state| state.expires_ns);
        Duration::from_nanos(expires.saturating_sub(now()))
    }

    /// Waits until no page of the window is the device's any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`](crate::ErrorKind::ForeignProcess) in a forked child.
    pub fn wait_detached(&self) -> Result<()> {
        const CALL: &str = "Window::wait_detached";
        unit(CALL, self.space.ask(CALL, Request::WaitDetached { node: self.node, token: 0 })?)
    }

    /// Sends the window back to system memory, whatever its timeslice: as `drm_pagemap_evict_to_ram`, three tries, and
    /// success is that it is gone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) when it is still there after three tries.
    #[doc(alias = "drm_pagemap_evict_to_ram")]
    pub fn evict(&self) -> Result<()> {
        const CALL: &str = "Window::evict";
        unit(CALL, self.space.ask(CALL, Request::EvictWindow { node: self.node })?)
    }
}

impl Space {
    /// The window of device memory that holds the byte at `at`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`](crate::ErrorKind::ForeignProcess) in a forked child.
    pub fn window_at(&self, at: u64) -> Result<Option<Window>> {
        match self.ask("Space::window_at", Request::WindowAt { at })? {
            Reply::Window(state) => Ok(state.map(|state| Window::new(self.clone(), state.node))),
            _ => Ok(None),
        }
    }
}
