//! Sync objects of core DRM (`drm_syncobj.c`).

use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::gpu::Inode;
use super::node::XeNode;
use super::sync::{Fence, Syncobj, lock};
use crate::error::Errno;
use crate::sim::user_memory::{self, WriteAccess};
use crate::uapi::drm::*;

/// Exported sync objects by the inode of their descriptor.
static EXPORTED: Mutex<Vec<(Inode, Weak<Syncobj>)>> = Mutex::new(Vec::new());

/// Longest sleep between two looks at fences.
const TICK: Duration = Duration::from_millis(4);

fn inode_of(fd: BorrowedFd<'_>) -> Result<Inode, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev as u64, stat.st_ino as u64))
}

fn monotonic_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

impl XeNode {
    pub(super) fn syncobj_create(&self, arg: &mut SyncobjCreate) -> Result<(), Errno> {
        if arg.flags & !DRM_SYNCOBJ_CREATE_SIGNALED != 0 {
            return Err(Errno::EINVAL);
        }
        let syncobj = Arc::new(Syncobj::default());
        if arg.flags != 0 {
            syncobj.replace(Some(Fence::signalled()));
        }
        arg.handle = lock(&self.syncobjs).insert(syncobj);
        Ok(())
    }

    pub(super) fn syncobj_destroy(&self, arg: &mut SyncobjDestroy) -> Result<(), Errno> {
        if arg.pad != 0 {
            return Err(Errno::EINVAL);
        }
        lock(&self.syncobjs).remove(arg.handle).map(drop).ok_or(Errno::EINVAL)
    }

    /// Sync files (`EXPORT_SYNC_FILE`) stand for fences of other drivers too and are not simulated.
    pub(super) fn syncobj_to_fd(&self, arg: &mut SyncobjHandleToFd) -> Result<(), Errno> {
        let arg = &mut arg.0;
        if arg.pad != 0 || arg.flags != 0 || arg.point != 0 {
            return Err(Errno::EINVAL);
        }
        let syncobj = self.syncobj(arg.handle).ok_or(Errno::EINVAL)?;
        let file = rustix::fs::memfd_create("sim-syncobj", rustix::fs::MemfdFlags::CLOEXEC)?;
        let inode = inode_of(std::os::fd::AsFd::as_fd(&file))?;
        let mut exported = lock(&EXPORTED);
        exported.retain(|(_, syncobj)| syncobj.strong_count() != 0);
        exported.push((inode, Arc::downgrade(&syncobj)));
        arg.fd = file.into_raw_fd();
        Ok(())
    }

    pub(super) fn syncobj_from_fd(&self, arg: &mut SyncobjFdToHandle) -> Result<(), Errno> {
        let arg = &mut arg.0;
        if arg.pad != 0 || arg.flags != 0 || arg.point != 0 || arg.fd < 0 {
            return Err(Errno::EINVAL);
        }
        // SAFETY: fstat of a number checks it; the borrowed descriptor is not kept.
        let inode = inode_of(unsafe { BorrowedFd::borrow_raw(arg.fd) }).map_err(|_| Errno::EINVAL)?;
        let known = lock(&EXPORTED).iter().find(|(known, _)| *known == inode).and_then(|(_, s)| s.upgrade());
        arg.handle = lock(&self.syncobjs).insert(known.ok_or(Errno::EINVAL)?);
        Ok(())
    }

    fn named(&self, handles: u64, count: u32) -> Result<Vec<Arc<Syncobj>>, Errno> {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        let handles: Vec<u32> = user_memory::read_array(handles, count as usize)?;
        handles.into_iter().map(|handle| self.syncobj(handle).ok_or(Errno::ENOENT)).collect()
    }

    pub(super) fn syncobj_reset(&self, arg: &mut SyncobjReset) -> Result<(), Errno> {
        if arg.0.pad != 0 {
            return Err(Errno::EINVAL);
        }
        for syncobj in self.named(arg.0.handles, arg.0.count_handles)? {
            syncobj.replace(None);
        }
        Ok(())
    }

    pub(super) fn syncobj_signal(&self, arg: &mut SyncobjSignal) -> Result<(), Errno> {
        if arg.0.pad != 0 {
            return Err(Errno::EINVAL);
        }
        for syncobj in self.named(arg.0.handles, arg.0.count_handles)? {
            let fence = Arc::new(Fence::default());
            syncobj.replace(Some(fence.clone()));
            self.gpu.signaller.signal(&fence);
        }
        Ok(())
    }

    pub(super) fn syncobj_timeline_signal(&self, arg: &mut SyncobjTimelineSignal) -> Result<(), Errno> {
        if arg.0.flags != 0 {
            return Err(Errno::EINVAL);
        }
        let syncobjs = self.named(arg.0.handles, arg.0.count_handles)?;
        let points: Vec<u64> = user_memory::read_array(arg.0.points, syncobjs.len())?;
        for (syncobj, point) in syncobjs.into_iter().zip(points) {
            let fence = Arc::new(Fence::default());
            syncobj.add_point(point, fence.clone());
            self.gpu.signaller.signal(&fence);
        }
        Ok(())
    }

    pub(super) fn syncobj_query(&self, arg: &mut SyncobjQuery, access: WriteAccess) -> Result<(), Errno> {
        if arg.0.flags & !DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED != 0 {
            return Err(Errno::EINVAL);
        }
        let submitted = arg.0.flags != 0;
        for (at, syncobj) in self.named(arg.0.handles, arg.0.count_handles)?.into_iter().enumerate() {
            let point = if submitted { syncobj.last_submitted() } else { syncobj.reached() };
            access.write(arg.0.points + 8 * at as u64, &point)?;
        }
        Ok(())
    }

    pub(super) fn syncobj_wait(&self, arg: &mut SyncobjWait) -> Result<(), Errno> {
        let known = DRM_SYNCOBJ_WAIT_FLAGS_WAIT_ALL
            | DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT
            | DRM_SYNCOBJ_WAIT_FLAGS_WAIT_DEADLINE;
        if arg.flags & !known != 0 {
            return Err(Errno::EINVAL);
        }
        let wanted =
            self.named(arg.handles, arg.count_handles)?.into_iter().map(|syncobj| (syncobj, 0)).collect();
        arg.first_signaled = self.wait_for(wanted, arg.flags, arg.timeout_nsec)?;
        Ok(())
    }

    pub(super) fn syncobj_timeline_wait(&self, arg: &mut SyncobjTimelineWait) -> Result<(), Errno> {
        let known = DRM_SYNCOBJ_WAIT_FLAGS_WAIT_ALL
            | DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT
            | DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE
            | DRM_SYNCOBJ_WAIT_FLAGS_WAIT_DEADLINE;
        if arg.flags & !known != 0 {
            return Err(Errno::EINVAL);
        }
        let syncobjs = self.named(arg.handles, arg.count_handles)?;
        let points: Vec<u64> = user_memory::read_array(arg.points, syncobjs.len())?;
        let wanted = syncobjs.into_iter().zip(points).collect();
        arg.first_signaled = self.wait_for(wanted, arg.flags, arg.timeout_nsec)?;
        Ok(())
    }

    /// Waits for all or any of the fences; answers which was first (`drm_syncobj_array_wait_timeout`).
    fn wait_for(&self, wanted: Vec<(Arc<Syncobj>, u64)>, flags: u32, deadline: i64) -> Result<u32, Errno> {
        let has = |flag| flags & flag != 0;
        let for_submit =
            has(DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT) || has(DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE);
        let available = has(DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE);
        loop {
            let epoch = self.gpu.signaller.epoch();
            let fences: Vec<Option<Arc<Fence>>> =
                wanted.iter().map(|(syncobj, point)| syncobj.fence(*point)).collect();
            if !for_submit && fences.iter().any(Option::is_none) {
                return Err(Errno::EINVAL);
            }
            let done = |fence: &Option<Arc<Fence>>| {
                fence.as_ref().is_some_and(|fence| available || fence.is_signalled())
            };
            let first = fences.iter().position(done);
            match first {
                Some(_) if has(DRM_SYNCOBJ_WAIT_FLAGS_WAIT_ALL) && !fences.iter().all(done) => {}
                Some(first) => return Ok(first as u32),
                None => {}
            }
            let left = deadline.saturating_sub(monotonic_ns());
            if left <= 0 {
                return Err(Errno::ETIME);
            }
            if self.gpu.is_unplugged() {
                return Err(Errno::ENODEV);
            }
            self.gpu.signaller.wait_since(epoch, TICK.min(Duration::from_nanos(left as u64)));
        }
    }
}
