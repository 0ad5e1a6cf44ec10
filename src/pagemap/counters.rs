//! What a VRAM region has done so far.

/// Counts since the region was made. Bytes count whole pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Windows moved into device memory.
    pub windows_in: u64,
    /// Bytes that became the device's, holes included.
    pub bytes_in: u64,
    /// Of those, bytes that no page stood behind: the device sees zeroes.
    pub bytes_holes: u64,
    /// Windows that went back to system memory, for whatever reason.
    pub windows_out: u64,
    /// Bytes moved back to system memory, holes included.
    pub bytes_out: u64,
    /// Bytes that had to be copied back because the mapping no longer allowed moving (made read-only or locked since).
    pub bytes_copied_out: u64,
    /// CPU touches of device pages, one per waiting thread.
    pub cpu_faults: u64,
    /// Of those, touches that had to wait for the end of a timeslice.
    pub parked_faults: u64,
    /// Windows sent back to make room.
    pub evictions: u64,
    /// Windows that were refused and rolled back.
    pub rollbacks: u64,
    /// Bytes dropped because the process unmapped or discarded them while the device had them.
    pub bytes_discarded: u64,
    /// Pages that could not be brought back, and raise `SIGBUS` when touched.
    pub pages_poisoned: u64,
}
