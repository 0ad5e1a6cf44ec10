//! The types of events, alike for both drivers.

use std::time::Duration;

use crate::error::Errno;
use crate::mirror::{Memory, Request};
use crate::range::PageRange;

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Event {
    /// As `CLOCK_BOOTTIME`.
    pub at: Duration,
    /// Whether the driver wrote down the time. Otherwise it is when the event was read, or, for a request, when it ended.
    pub timed_by_driver: bool,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum What {
    /// A request made through the mirror ended. From this crate, on every driver; what is unlucky about it is in
    /// [`Request::result`].
    Request(Request),
    /// Pages begin to move. KFD.
    MigrationBegan(Migration),
    /// The driver is done with moving pages, whether or not they moved. KFD.
    #[non_exhaustive]
    MigrationEnded {
        /// As it began.
        migration: Migration,
        /// How long it took; `None` where the beginning was not seen.
        took: Option<Duration>,
        /// What the driver says went wrong. `None` does not mean that pages moved.
        error: Option<Errno>,
    },
    /// A GPU touched memory that it had no mapping of, and waits. KFD with XNACK.
    #[non_exhaustive]
    FaultBegan {
        /// Address of the page.
        page: u64,
        /// Whether the GPU wanted to write.
        write: bool,
    },
    /// The fault was served and the GPU goes on. KFD with XNACK.
    #[non_exhaustive]
    FaultEnded {
        /// Address of the page.
        page: u64,
        /// Whether pages migrated for it; otherwise they were mapped where they are.
        migrated: bool,
        /// How long it took; `None` where the beginning was not seen.
        took: Option<Duration>,
    },
    /// A GPU touched memory that it may not; the queue that did is stopped for good. Both drivers.
    FaultFailed(FailedFault),
    /// The queues of the process were stopped on the GPU. KFD.
    #[non_exhaustive]
    QueuesStopped {
        /// Why.
        reason: StopReason,
    },
    /// The queues of the process run again on the GPU. KFD.
    #[non_exhaustive]
    QueuesResumed {
        /// They do not yet: the attempt failed and is repeated later.
        postponed: bool,
    },
    /// Pages were unmapped from the GPU; the next access faults, or finds them mapped anew. KFD.
    #[non_exhaustive]
    Unmapped {
        /// The pages.
        range: PageRange,
        /// Why.
        reason: UnmapReason,
    },
    /// What the driver has counted since this was last reported; see [`Events::counters`](super::Events::counters). Both drivers, where
    /// the counters can be read.
    Counted(Counters),
    /// The GPU was reset: all queues are gone. KFD.
    #[non_exhaustive]
    Reset {
        /// The driver's words.
        cause: String,
    },
    /// Something that this crate does not know, in the driver's words.
    Other(String),
    /// Events may be missing before this one.
    #[non_exhaustive]
    Lost {
        /// Whose.
        from: Source,
    },
}

/// Pages on their way. Ranges are what the driver set out to move, cut at the borders of CPU mappings; how much of it moved is not
/// said, on any kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Migration {
    /// The pages.
    pub range: PageRange,
    /// Where from.
    pub from: Memory,
    /// Where to.
    pub to: Memory,
    /// What set it off, in the driver's words.
    pub trigger: Trigger,
    /// The request of this mirror that did. For an [`Eviction`](Trigger::Eviction), the prefetch that was being given room at the
    /// time. `None` for what the CPU, the GPU or other code of the process set off.
    pub request: Option<Request>,
}

/// What set a migration off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Trigger {
    /// A prefetch, or a change of advice that repeats the last prefetch of the range.
    Prefetch,
    /// An access by a GPU.
    GpuFault,
    /// An access by the CPU.
    CpuTouch,
    /// VRAM was needed for something else.
    Eviction,
    /// A number that is not known here.
    Other(u32),
}

/// A GPU access that could not be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FailedFault {
    /// Where, as exact as the driver knows.
    pub address: Option<u64>,
    /// Bytes that the address is exact to.
    pub precision: Option<u32>,
    /// What the GPU wanted to do.
    pub access: Option<Access>,
    /// Why it may not.
    pub reason: Option<FaultReason>,
}

/// What a GPU wanted to do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Access {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Operate on atomically.
    Atomic,
    /// Run.
    Execute,
    /// A number that is not known here.
    Other(u8),
}

/// Why a GPU access could not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FaultReason {
    /// Nothing is mapped there.
    NotMapped,
    /// The mapping does not allow writes.
    NotWritable,
    /// The mapping does not allow atomic operations.
    NotAtomic,
    /// The mapping does not allow execution.
    NotExecutable,
    /// The hardware refused without saying.
    Refused,
    /// A number that is not known here.
    Other(u8),
}

/// Why queues were stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum StopReason {
    /// Pages of mirrored memory changed under a mapping of the GPU.
    Svm,
    /// Pages of a memory object made of process memory changed.
    UserMemory,
    /// VRAM was needed for something else.
    Eviction,
    /// The system sleeps.
    Suspend,
    /// A checkpoint is taken or restored.
    Checkpoint,
    /// A number that is not known here.
    Other(u32),
}

/// Why pages were unmapped from a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum UnmapReason {
    /// The CPU's mapping changed.
    Changed,
    /// They migrate.
    Migration,
    /// The CPU unmapped them, or access was taken away.
    Unmapped,
    /// A number that is not known here.
    Other(u32),
}

/// What a driver counts. `None` for what it does not count here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Counters {
    /// Whether only this process counts; otherwise everyone who uses the GPU does.
    pub of_process: bool,
    /// GPU page faults.
    pub gpu_faults: Option<u64>,
    /// Bytes copied from system memory to VRAM.
    pub to_vram: Option<u64>,
    /// Bytes copied from VRAM to system memory.
    pub to_system: Option<u64>,
}

impl Counters {
    pub(super) fn since(&self, before: &Self) -> Self {
        let grown =
            |now: Option<u64>, then: Option<u64>| now.zip(then).map(|(now, then)| now.saturating_sub(then));
        Self {
            of_process: self.of_process,
            gpu_faults: grown(self.gpu_faults, before.gpu_faults),
            to_vram: grown(self.to_vram, before.to_vram),
            to_system: grown(self.to_system, before.to_system),
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        [self.gpu_faults, self.to_vram, self.to_system].iter().all(|count| count.unwrap_or(0) == 0)
    }
}

/// Where events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Source {
    /// What was asked through the mirror, kept by this crate: the last 1024 requests.
    Requests,
    /// KFD's event log (`AMDKFD_IOC_SMI_EVENTS`): 8 KiB, or 1 KiB, that the kernel keeps until they are read.
    Log,
    /// xe's list of failed faults (`DRM_IOCTL_XE_VM_GET_PROPERTY`, since kernel 7.1): the first 50 of the VM.
    FailedFaults,
    /// KFD's memory exceptions (`AMDKFD_IOC_WAIT_EVENTS`): the last one since it was asked.
    MemoryExceptions,
    /// Counters: of the xe device, in debugfs (root only), or of this process, in KFD's part of sysfs.
    Counters,
}
