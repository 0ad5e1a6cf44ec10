//! What is asked of the engine, and what it answers: plain values, nothing that points anywhere.

use crate::error::Errno;
use crate::pagemap::counters::Counters;
use crate::pagemap::inject::Injection;

/// Number of a VRAM region within its space.
pub(crate) type RegionId = u32;

/// Stands for "of any region".
pub(crate) const ANY_REGION: RegionId = u32::MAX;

/// How a range is cut into windows. A window is what one CPU touch brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Naturally aligned 2 MiB, 64 KiB, one page: the largest that fits.
    Natural,
    /// At multiples of this power of two, at most 2 MiB.
    Blocks(u64),
}

/// What to do about pages that do not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collect {
    /// A window moves as a whole or not at all; the first that does not ends the request.
    Window,
    /// The whole request moves or nothing of it does.
    Request,
    /// They stay; the rest moves.
    BestEffort,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Populate {
    pub(crate) region: RegionId,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) cut: Cut,
    pub(crate) collect: Collect,
    pub(crate) timeslice_ns: u64,
    /// The stack of the asking thread, or nothing where it may migrate.
    pub(crate) stack: (u64, u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AtomicOp {
    Add,
    Sub,
    And,
    Or,
    Xor,
    Min,
    Max,
    Exchange,
    CompareExchange,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    AddRegion {
        bytes: u64,
        reserved: u64,
    },
    DropRegion {
        region: RegionId,
    },
    RemoveRegion {
        region: RegionId,
    },
    RegionInfo {
        region: RegionId,
    },
    Populate(Populate),
    ToRam {
        start: u64,
        end: u64,
        region: RegionId,
    },
    Evict {
        region: RegionId,
        bytes: u64,
    },
    /// Fills the payload with [`Placed`] runs.
    Placement {
        start: u64,
        end: u64,
    },
    /// Fills the payload.
    Read {
        at: u64,
        len: u64,
    },
    /// The bytes are in the payload.
    Write {
        at: u64,
        len: u64,
    },
    Atomic {
        at: u64,
        bytes: u32,
        op: AtomicOp,
        operand: u64,
        expected: u64,
    },
    Watch {
        start: u64,
        end: u64,
    },
    Unwatch {
        start: u64,
        end: u64,
    },
    /// Fills the payload with [`Notice`]s.
    Notices {
        after: u64,
    },
    Inject {
        region: RegionId,
        injection: Injection,
    },
    /// Copy mode, first half: takes the pages of one window into staging memory. The payload becomes the [`Mask`](super::Mask)
    /// of those that exist.
    BeginCopy {
        populate: Populate,
        token: u64,
    },
    /// Copy mode, second half: the device has them, or not.
    EndCopy {
        node: u32,
        result: Result<(), Errno>,
    },
    /// A copy thread waits here for work.
    TakeJob {
        thread: u32,
    },
    /// A copy thread filled the staging memory, or not.
    EndJob {
        node: u32,
        result: Result<(), Errno>,
    },
    /// The window at an address.
    WindowAt {
        at: u64,
    },
    WindowState {
        node: NodeId,
    },
    WaitDetached {
        node: NodeId,
        token: u64,
    },
    EvictWindow {
        node: NodeId,
    },
    Freeze,
    Thaw,
    Shutdown,
}

/// A window, for as long as it exists: numbers are used again, serials are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeId {
    pub(crate) index: u32,
    pub(crate) serial: u64,
}

/// What is known of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowState {
    pub(crate) node: NodeId,
    pub(crate) region: RegionId,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    /// Pages whose contents are the device's.
    pub(crate) live_pages: u32,
    /// Nanoseconds of the monotonic clock; 0 without a timeslice.
    pub(crate) expires_ns: u64,
}

/// What is known of one region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RegionState {
    pub(crate) id: RegionId,
    pub(crate) capacity: u64,
    pub(crate) reserved: u64,
    pub(crate) used: u64,
    pub(crate) windows: u64,
    pub(crate) removed: bool,
    pub(crate) counters: Counters,
}

/// What went wrong, without words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) errno: Errno,
    pub(crate) why: Why,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// Which of the engine's rules failed a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// `UFFDIO_REGISTER` refused.
    Register,
    /// `UFFDIO_MOVE` refused.
    Move,
    /// The engine's own memory is in the range.
    OwnMemory,
    /// The stack of the asking thread is in the range.
    CallerStack,
    /// Part of the range is in device memory already.
    Fragmented,
    /// The mappings changed while pages moved.
    Raced,
    Removed,
    Full,
    TooLarge,
    NoSuchRegion,
    TooMany,
    Mapping,
    Timeslice,
    Detach,
    Injected,
    Copy,
    BadAtomic,
}

/// What was done, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Everything below was dealt with.
    pub(crate) cursor: u64,
    pub(crate) moved: u64,
    pub(crate) already: u64,
    pub(crate) holes: u64,
    pub(crate) refused: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    Unit,
    Number(u64),
    Progress(Progress),
    /// A populate that stopped at a failure.
    Stopped(Progress, Failure),
    Failed(Failure),
    Region(RegionState),
    /// Elements in the payload, and where to go on.
    Filled {
        count: u32,
        next: u64,
        lost: bool,
    },
    /// Bytes that are device memory and were copied; bytes behind them that are not.
    Accessed {
        device: u64,
        system: u64,
    },
    /// Copy mode: the node, and the address of the staging pages.
    Staged {
        node: NodeId,
        staging: u64,
    },
    /// Pages to copy to system memory: those of the mask in the payload, which counts from page `base` of the allocation.
    Job {
        node: u32,
        token: u64,
        staging: u64,
        pages: u32,
        base: u32,
    },
    /// An allocation to be dropped.
    Release {
        token: u64,
    },
    Window(Option<WindowState>),
    /// Nothing more will come.
    Closed,
}

/// A run of pages in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) region: u64,
}

impl Placed {
    /// Bytes in a payload.
    pub(crate) const BYTES: usize = size_of::<[u64; 3]>();

    pub(crate) fn store(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(bytemuck::bytes_of(&[self.start, self.end, self.region]));
    }

    pub(crate) fn load(bytes: &[u8]) -> Self {
        let [start, end, region] = bytemuck::pod_read_unaligned(bytes);
        Self { start, end, region }
    }
}
