//! Submission, and the fences that tell completion.

abi! {
    header "drm/xe_drm.h";

    /// One fence to wait for or to signal. The kernel does not check `extensions`: keep it zero.
    struct SyncEntry("drm_xe_sync", 48) {
        /// Zero.
        extensions: u64 => 0;
        /// `DRM_XE_SYNC_TYPE_*`.
        sync_type: u32 => 8 as "type";
        /// `DRM_XE_SYNC_FLAG_*`.
        flags: u32 => 12;
        /// Address of the user fence, a multiple of 8: a CPU address in a bind, a GPU address in an exec. For sync objects the
        /// handle, in the first four bytes; [`SyncEntry::syncobj`] puts it there.
        addr: u64 => 16 as "addr" | "handle";
        /// Value of the user fence, or point on the timeline (not 0).
        timeline_value: u64 => 24;
        /// Must be zero.
        reserved: [u64; 2] => 32;
    }

    /// Submits a batch to a queue. `EAGAIN` with a thousand jobs outstanding, `ECANCELED` on a banned queue. Since 6.8.
    struct Exec("drm_xe_exec", 56) for DRM_IOCTL_XE_EXEC = iow(b'd', 0x49) 0x4038_6449 {
        /// No extension is defined: zero.
        extensions: u64 => 0;
        /// The queue.
        exec_queue_id: u32 => 8;
        /// Elements at [`syncs`](Self::syncs), at most [`DRM_XE_MAX_SYNCS`].
        num_syncs: u32 => 12;
        /// Address of an array of [`SyncEntry`].
        syncs: u64 => 16;
        /// GPU address of the batch; with a wider queue, CPU address of an array of them.
        address: u64 => 24;
        /// Batches: the queue's width, or 0 for a submission without any.
        num_batch_buffer: u16 => 32;
        /// Must be zero.
        pad: [u16; 3] => 34;
        /// Must be zero.
        reserved: [u64; 2] => 40;
    }

    /// Waits until a word in memory compares as asked. `ETIME` when the time is over, `EIO` when the queue died. Since 6.8.
    struct WaitUserFence("drm_xe_wait_user_fence", 72)
        for DRM_IOCTL_XE_WAIT_USER_FENCE = iowr(b'd', 0x4A) 0xC048_644A {
        /// No extension is defined: zero.
        extensions: u64 => 0;
        /// CPU address of the word, a multiple of 8.
        addr: u64 => 8;
        /// `DRM_XE_UFENCE_WAIT_OP_*`.
        op: u16 => 16;
        /// `DRM_XE_UFENCE_WAIT_FLAG_*`.
        flags: u16 => 18;
        /// Must be zero.
        pad: u32 => 20;
        /// What to compare with, unsigned.
        value: u64 => 24;
        /// Bits of both sides that count.
        mask: u64 => 32;
        /// ns: relative, with the remaining time written back, or an absolute `CLOCK_MONOTONIC` time; negative waits for ever.
        timeout: i64 => 40;
        /// Queue whose death ends the wait, or zero.
        exec_queue_id: u32 => 48;
        /// Must be zero.
        pad2: u32 => 52;
        /// Must be zero.
        reserved: [u64; 2] => 56;
    }

    constants {
        /// A binary sync object.
        DRM_XE_SYNC_TYPE_SYNCOBJ: u32 = 0;
        /// A timeline sync object.
        DRM_XE_SYNC_TYPE_TIMELINE_SYNCOBJ: u32 = 1;
        /// A word in memory.
        DRM_XE_SYNC_TYPE_USER_FENCE: u32 = 2;
        /// Signal on completion, rather than wait before. The only choice for user fences; not for sync objects on a
        /// long-running VM (`EOPNOTSUPP`).
        DRM_XE_SYNC_FLAG_SIGNAL: u32 = 1 << 0;
        /// Most syncs in one call. Enforced since 6.19.
        DRM_XE_MAX_SYNCS: u32 = 1024;

        /// Equal.
        DRM_XE_UFENCE_WAIT_OP_EQ: u16 = 0;
        /// Not equal.
        DRM_XE_UFENCE_WAIT_OP_NEQ: u16 = 1;
        /// Memory greater than value.
        DRM_XE_UFENCE_WAIT_OP_GT: u16 = 2;
        /// Memory greater than or equal to value.
        DRM_XE_UFENCE_WAIT_OP_GTE: u16 = 3;
        /// Memory less than value.
        DRM_XE_UFENCE_WAIT_OP_LT: u16 = 4;
        /// Memory less than or equal to value.
        DRM_XE_UFENCE_WAIT_OP_LTE: u16 = 5;
        /// The timeout is a point in time.
        DRM_XE_UFENCE_WAIT_FLAG_ABSTIME: u16 = 1 << 0;
    }
}

impl SyncEntry {
    /// Waits for a binary sync object, or signals it with [`DRM_XE_SYNC_FLAG_SIGNAL`] in `flags`.
    #[must_use]
    pub fn syncobj(handle: u32, flags: u32) -> Self {
        Self { sync_type: DRM_XE_SYNC_TYPE_SYNCOBJ, flags, addr: handle_in_union(handle), ..Self::default() }
    }

    /// Waits for, or signals, a point on a timeline sync object.
    #[must_use]
    pub fn timeline_syncobj(handle: u32, point: u64, flags: u32) -> Self {
        Self {
            sync_type: DRM_XE_SYNC_TYPE_TIMELINE_SYNCOBJ,
            flags,
            addr: handle_in_union(handle),
            timeline_value: point,
            ..Self::default()
        }
    }

    /// Stores `value` at `addr` on completion.
    #[must_use]
    pub fn user_fence(addr: u64, value: u64) -> Self {
        Self {
            sync_type: DRM_XE_SYNC_TYPE_USER_FENCE,
            flags: DRM_XE_SYNC_FLAG_SIGNAL,
            addr,
            timeline_value: value,
            ..Self::default()
        }
    }

    /// The handle of a sync object: the first four bytes of [`addr`](Self::addr).
    #[must_use]
    pub fn handle(&self) -> u32 {
        let halves: [u32; 2] = bytemuck::cast(self.addr);
        halves[0]
    }
}

/// A 32-bit handle in the first four bytes of the union, the rest zero, in either byte order.
fn handle_in_union(handle: u32) -> u64 {
    bytemuck::cast([handle, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_the_first_four_bytes_of_the_union() {
        let sync = SyncEntry::timeline_syncobj(0x0102_0304, 9, DRM_XE_SYNC_FLAG_SIGNAL);
        let bytes = bytemuck::bytes_of(&sync);
        assert_eq!(&bytes[16..20], &0x0102_0304u32.to_ne_bytes());
        assert_eq!(&bytes[20..24], &[0; 4]);
        assert_eq!((sync.handle(), sync.timeline_value, sync.sync_type), (0x0102_0304, 9, 1));
        assert_eq!(SyncEntry::syncobj(7, 0).handle(), 7);
        assert_eq!(SyncEntry::syncobj(7, 0).flags, 0);
    }

    #[test]
    fn a_user_fence_always_signals() {
        let sync = SyncEntry::user_fence(0x7f00_0000_0008, 42);
        assert_eq!((sync.sync_type, sync.flags), (DRM_XE_SYNC_TYPE_USER_FENCE, DRM_XE_SYNC_FLAG_SIGNAL));
        assert_eq!((sync.addr, sync.timeline_value), (0x7f00_0000_0008, 42));
    }
}
