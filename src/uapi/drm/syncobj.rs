//! Sync objects: fences with a handle.

abi! {
    header "drm/drm.h";

    /// Creates a sync object.
    struct SyncobjCreate("drm_syncobj_create", 8) for DRM_IOCTL_SYNCOBJ_CREATE = iowr(b'd', 0xBF) 0xC008_64BF {
        /// Out: the handle.
        handle: u32 => 0;
        /// `DRM_SYNCOBJ_CREATE_*`.
        flags: u32 => 4;
    }

    /// Destroys a sync object.
    struct SyncobjDestroy("drm_syncobj_destroy", 8)
        for DRM_IOCTL_SYNCOBJ_DESTROY = iowr(b'd', 0xC0) 0xC008_64C0 {
        /// The handle.
        handle: u32 => 0;
        /// Must be zero.
        pad: u32 => 4;
    }

    /// A handle and the descriptor that stands for it. `point` is newer than 6.12; kernels without it take the argument as
    /// it is, ignore the field, and refuse the timeline flags.
    struct SyncobjHandle("drm_syncobj_handle", 24) {
        /// The handle.
        handle: u32 => 0;
        /// `DRM_SYNCOBJ_*_FLAGS_*`.
        flags: u32 => 4;
        /// The descriptor.
        fd: i32 => 8;
        /// Must be zero.
        pad: u32 => 12;
        /// Point on the timeline, with the timeline flags.
        point: u64 => 16;
    }

    /// Waits for sync objects. `ETIME` when the time is over.
    struct SyncobjWait("drm_syncobj_wait", 40) for DRM_IOCTL_SYNCOBJ_WAIT = iowr(b'd', 0xC3) 0xC028_64C3 {
        /// Address of an array of handles (`u32`).
        handles: u64 => 0;
        /// Point in time, `CLOCK_MONOTONIC` in ns.
        timeout_nsec: i64 => 8;
        /// Elements at [`handles`](Self::handles).
        count_handles: u32 => 16;
        /// `DRM_SYNCOBJ_WAIT_FLAGS_*`.
        flags: u32 => 20;
        /// Out: index of the first that was signalled, unless all were waited for.
        first_signaled: u32 => 24;
        /// Must be zero.
        pad: u32 => 28;
        /// When the fences should be done, with [`DRM_SYNCOBJ_WAIT_FLAGS_WAIT_DEADLINE`]. Since 6.6.
        deadline_nsec: u64 => 32;
    }

    /// Waits for points on timelines. `ETIME` when the time is over.
    struct SyncobjTimelineWait("drm_syncobj_timeline_wait", 48)
        for DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT = iowr(b'd', 0xCA) 0xC030_64CA {
        /// Address of an array of handles (`u32`).
        handles: u64 => 0;
        /// Address of an array of points (`u64`).
        points: u64 => 8;
        /// Point in time, `CLOCK_MONOTONIC` in ns.
        timeout_nsec: i64 => 16;
        /// Elements of both arrays.
        count_handles: u32 => 24;
        /// `DRM_SYNCOBJ_WAIT_FLAGS_*`.
        flags: u32 => 28;
        /// Out: index of the first that was signalled, unless all were waited for.
        first_signaled: u32 => 32;
        /// Must be zero.
        pad: u32 => 36;
        /// When the fences should be done, with [`DRM_SYNCOBJ_WAIT_FLAGS_WAIT_DEADLINE`]. Since 6.6.
        deadline_nsec: u64 => 40;
    }

    /// Several sync objects.
    struct SyncobjArray("drm_syncobj_array", 16) {
        /// Address of an array of handles (`u32`).
        handles: u64 => 0;
        /// Elements there.
        count_handles: u32 => 8;
        /// Must be zero.
        pad: u32 => 12;
    }

    /// Several sync objects, each with a point on its timeline.
    struct SyncobjTimelineArray("drm_syncobj_timeline_array", 24) {
        /// Address of an array of handles (`u32`).
        handles: u64 => 0;
        /// Address of an array of points (`u64`).
        points: u64 => 8;
        /// Elements of both arrays.
        count_handles: u32 => 16;
        /// For a query, `DRM_SYNCOBJ_QUERY_FLAGS_*`.
        flags: u32 => 20;
    }

    requests {
        /// Makes a descriptor for a sync object.
        SyncobjHandleToFd(SyncobjHandle) for DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD = iowr(b'd', 0xC1) 0xC018_64C1;
        /// Makes a handle for a descriptor.
        SyncobjFdToHandle(SyncobjHandle) for DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE = iowr(b'd', 0xC2) 0xC018_64C2;
        /// Takes the fences out of sync objects.
        SyncobjReset(SyncobjArray) for DRM_IOCTL_SYNCOBJ_RESET = iowr(b'd', 0xC4) 0xC010_64C4;
        /// Signals sync objects.
        SyncobjSignal(SyncobjArray) for DRM_IOCTL_SYNCOBJ_SIGNAL = iowr(b'd', 0xC5) 0xC010_64C5;
        /// Reads the points that timelines have reached.
        SyncobjQuery(SyncobjTimelineArray) for DRM_IOCTL_SYNCOBJ_QUERY = iowr(b'd', 0xCB) 0xC018_64CB;
        /// Signals points on timelines.
        SyncobjTimelineSignal(SyncobjTimelineArray)
            for DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL = iowr(b'd', 0xCD) 0xC018_64CD;
    }

    constants {
        /// Create it signalled.
        DRM_SYNCOBJ_CREATE_SIGNALED: u32 = 1 << 0;
        /// The descriptor is a sync file.
        DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE: u32 = 1 << 0;
        /// Import to a point on the timeline. Newer than 6.12.
        DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_TIMELINE: u32 = 1 << 1;
        /// Make a sync file.
        DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE: u32 = 1 << 0;
        /// Export a point of the timeline. Newer than 6.12.
        DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_TIMELINE: u32 = 1 << 1;
        /// Wait for all, not for any.
        DRM_SYNCOBJ_WAIT_FLAGS_WAIT_ALL: u32 = 1 << 0;
        /// Wait for fences to appear, too.
        DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT: u32 = 1 << 1;
        /// Wait only for fences to appear.
        DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE: u32 = 1 << 2;
        /// The deadline field is set. Since 6.6.
        DRM_SYNCOBJ_WAIT_FLAGS_WAIT_DEADLINE: u32 = 1 << 3;
        /// Points that were submitted, not those reached.
        DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED: u32 = 1 << 0;
    }
}
