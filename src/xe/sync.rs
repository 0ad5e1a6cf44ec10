//! What an operation waits for, and what it signals.

use super::exec_queue::BindQueue;
use super::fence::UserFence;
use super::syncobj::Syncobj;
use crate::error::Result;
use crate::uapi::IoctlArg;
use crate::uapi::xe::{DRM_XE_SYNC_FLAG_SIGNAL, SyncEntry, VmBind};

/// The in- and out-fences of one bind or submission.
///
/// Which are allowed depends on the VM: one in fault mode signals a [`UserFence`] only, and waits for sync objects only where
/// there is page-table work to delay. [`Vm::bind`](super::Vm::bind) refuses the rest before the driver gets it wrong.
#[derive(Debug, Default)]
pub struct Syncs<'a> {
    entries: Vec<SyncEntry>,
    fence: Option<&'a mut UserFence>,
    bind_queue: u32,
}

impl<'a> Syncs<'a> {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new(), fence: None, bind_queue: 0 }
    }

    /// Waits for a binary sync object before the operation.
    #[must_use]
    pub fn wait(mut self, syncobj: &'a Syncobj) -> Self {
        self.entries.push(SyncEntry::syncobj(syncobj.handle(), 0));
        self
    }

    /// Waits for a point (not 0) of a timeline before the operation.
    #[must_use]
    pub fn wait_point(mut self, timeline: &'a Syncobj, point: u64) -> Self {
        self.entries.push(SyncEntry::timeline_syncobj(timeline.handle(), point, 0));
        self
    }

    /// Signals a binary sync object when the operation is complete. Not on long-running VMs.
    #[must_use]
    pub fn signal(mut self, syncobj: &'a Syncobj) -> Self {
        self.entries.push(SyncEntry::syncobj(syncobj.handle(), DRM_XE_SYNC_FLAG_SIGNAL));
        self
    }

    /// Signals a point (not 0) of a timeline when the operation is complete. Not on long-running VMs.
    #[must_use]
    pub fn signal_point(mut self, timeline: &'a Syncobj, point: u64) -> Self {
        self.entries.push(SyncEntry::timeline_syncobj(timeline.handle(), point, DRM_XE_SYNC_FLAG_SIGNAL));
        self
    }

    /// Writes a user fence when the operation is complete. The driver takes one for each operation; a second replaces the
    /// first.
    #[must_use]
    pub fn fence(mut self, fence: &'a mut UserFence) -> Self {
        self.fence = Some(fence);
        self
    }

    /// Orders a bind on a queue of its own instead of the VM's.
    #[must_use]
    pub fn on(mut self, queue: &'a BindQueue) -> Self {
        self.bind_queue = queue.id();
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.fence.is_none()
    }

    pub(super) fn waits(&self) -> bool {
        self.entries.iter().any(|entry| entry.flags & DRM_XE_SYNC_FLAG_SIGNAL == 0)
    }

    pub(super) fn signals_syncobj(&self) -> bool {
        self.entries.iter().any(|entry| entry.flags & DRM_XE_SYNC_FLAG_SIGNAL != 0)
    }

    pub(super) const fn bind_queue(&self) -> u32 {
        self.bind_queue
    }

    /// The entries as the kernel takes them, the fence among them.
    pub(super) fn arm<'s>(&'s mut self) -> Result<Armed<'s, 'a>> {
        if let Some(fence) = &mut self.fence {
            let entry = fence.arm(VmBind::NAME)?;
            self.entries.push(entry);
        }
        Ok(Armed { syncs: self })
    }
}

/// [`Syncs`] whose fence expects the operation.
pub(super) struct Armed<'s, 'a> {
    syncs: &'s mut Syncs<'a>,
}

impl Armed<'_, '_> {
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.syncs.entries.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn address(&self) -> u64 {
        if self.syncs.entries.is_empty() { 0 } else { self.syncs.entries.as_ptr() as u64 }
    }

    pub(super) fn settle(self, result: &Result<()>) {
        if let Some(fence) = &mut self.syncs.fence {
            fence.settle(result);
        }
    }
}
