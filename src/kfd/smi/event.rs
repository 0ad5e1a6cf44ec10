//! What KFD's event log reports, typed.

use std::time::Duration;

use crate::kfd::{GpuId, Location};
use crate::range::PageRange;
use crate::uapi::kfd as abi;

macro_rules! open_enum {
    (
        $(#[$meta:meta])* $name:ident {
            $($(#[$vmeta:meta])* $variant:ident = $value:path;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$vmeta])* $variant,)*
            /// A number that this crate has never heard of.
            Other(u32),
        }

        impl $name {
            /// The kernel's number.
            #[must_use]
            pub const fn raw(self) -> u32 {
                match self {
                    $(Self::$variant => $value,)*
                    Self::Other(raw) => raw,
                }
            }

            /// From the kernel's number.
            #[must_use]
            pub const fn from_raw(raw: u32) -> Self {
                match raw {
                    $($value => Self::$variant,)*
                    other => Self::Other(other),
                }
            }
        }
    };
}

open_enum! {
    /// Why memory was migrated.
    #[doc(alias = "KFD_MIGRATE_TRIGGERS")]
    MigrateTrigger {
        /// A prefetch, new or repeated by a later change of attributes.
        Prefetch = abi::KFD_MIGRATE_TRIGGER_PREFETCH;
        /// A GPU touched it (XNACK).
        PageFaultGpu = abi::KFD_MIGRATE_TRIGGER_PAGEFAULT_GPU;
        /// The CPU touched it in VRAM.
        PageFaultCpu = abi::KFD_MIGRATE_TRIGGER_PAGEFAULT_CPU;
        /// VRAM was needed for something else.
        TtmEviction = abi::KFD_MIGRATE_TRIGGER_TTM_EVICTION;
    }
}

open_enum! {
    /// Why the queues of a process were stopped.
    #[doc(alias = "KFD_QUEUE_EVICTION_TRIGGERS")]
    EvictionTrigger {
        /// Pages of shared virtual memory changed under a mapping.
        Svm = abi::KFD_QUEUE_EVICTION_TRIGGER_SVM;
        /// Pages of a memory object made of process memory changed.
        Userptr = abi::KFD_QUEUE_EVICTION_TRIGGER_USERPTR;
        /// VRAM was needed for something else.
        Ttm = abi::KFD_QUEUE_EVICTION_TRIGGER_TTM;
        /// The system sleeps.
        Suspend = abi::KFD_QUEUE_EVICTION_TRIGGER_SUSPEND;
        /// A checkpoint is taken.
        CriuCheckpoint = abi::KFD_QUEUE_EVICTION_CRIU_CHECKPOINT;
        /// A checkpoint is restored.
        CriuRestore = abi::KFD_QUEUE_EVICTION_CRIU_RESTORE;
    }
}

open_enum! {
    /// Why memory was unmapped from a GPU.
    #[doc(alias = "KFD_SVM_UNMAP_TRIGGERS")]
    UnmapTrigger {
        /// The CPU's mapping changed.
        MmuNotify = abi::KFD_SVM_UNMAP_TRIGGER_MMU_NOTIFY;
        /// The memory migrates.
        MmuNotifyMigrate = abi::KFD_SVM_UNMAP_TRIGGER_MMU_NOTIFY_MIGRATE;
        /// The CPU unmapped it, or access was taken away.
        UnmapFromCpu = abi::KFD_SVM_UNMAP_TRIGGER_UNMAP_FROM_CPU;
    }
}

/// A migration begins. One for each piece of a range that is one CPU mapping, and for each direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateStart {
    /// When, as `CLOCK_BOOTTIME`.
    pub at: Duration,
    /// Whose memory.
    pub pid: i32,
    /// The pages that should move. How many did is not said.
    pub range: PageRange,
    /// Where from.
    pub from: Location,
    /// Where to.
    pub to: Location,
    /// The range's remembered prefetch; `None` if there was none.
    pub prefetch: Option<Location>,
    /// The range's preferred location; `None` if it has none.
    pub preferred: Option<Location>,
    /// Why.
    pub trigger: MigrateTrigger,
}

/// A migration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateEnd {
    /// When, as `CLOCK_BOOTTIME`.
    pub at: Duration,
    /// Whose memory.
    pub pid: i32,
    /// The pages that should have moved.
    pub range: PageRange,
    /// Where from.
    pub from: Location,
    /// Where to.
    pub to: Location,
    /// Why.
    pub trigger: MigrateTrigger,
    /// 0 or a negative errno; `None` from kernels that do not say (6.12). 0 does not mean that pages moved.
    pub error: Option<i32>,
}

/// A GPU touched memory it has no mapping of (XNACK).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFaultStart {
    /// When, as `CLOCK_BOOTTIME`.
    pub at: Duration,
    /// Whose memory.
    pub pid: i32,
    /// The address of the page.
    pub page: u64,
    /// Which GPU.
    pub gpu: GpuId,
    /// Whether it wanted to write.
    pub write: bool,
}

/// The fault was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFaultEnd {
    /// When, as `CLOCK_BOOTTIME`.
    pub at: Duration,
    /// Whose memory.
    pub pid: i32,
    /// The address of the page.
    pub page: u64,
    /// Which GPU.
    pub gpu: GpuId,
    /// Whether memory migrated; otherwise it was mapped where it is.
    pub migrated: bool,
}

/// The queues of a process were stopped on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEviction {
    /// When, as `CLOCK_BOOTTIME`.
    pub at: Duration,
    /// Whose queues.
    pub pid: i32,
    /// Which GPU.
    pub gpu: GpuId,
    /// Why.
    pub trigger: EvictionTrigger,
}

/// The queues of a process go on, or their restart was put off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRestore {
    /// When, as `CLOCK_BOOTTIME`.
    pub at: Duration,
    /// Whose queues.
    pub pid: i32,
    /// Which GPU.
    pub gpu: GpuId,
    /// Whether the restart was put off to a later attempt.
    pub rescheduled: bool,
}

/// Memory was unmapped from a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmapFromGpu {
    /// When, as `CLOCK_BOOTTIME`.
    pub at: Duration,
    /// Whose memory.
    pub pid: i32,
    /// The pages.
    pub range: PageRange,
    /// Which GPU.
    pub gpu: GpuId,
    /// Why.
    pub trigger: UnmapTrigger,
}

/// One line of the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SmiEvent {
    /// A migration begins.
    #[doc(alias = "KFD_SMI_EVENT_MIGRATE_START")]
    MigrateStart(MigrateStart),
    /// A migration ended.
    #[doc(alias = "KFD_SMI_EVENT_MIGRATE_END")]
    MigrateEnd(MigrateEnd),
    /// A GPU page fault is about to be served.
    #[doc(alias = "KFD_SMI_EVENT_PAGE_FAULT_START")]
    PageFaultStart(PageFaultStart),
    /// A GPU page fault was served.
    #[doc(alias = "KFD_SMI_EVENT_PAGE_FAULT_END")]
    PageFaultEnd(PageFaultEnd),
    /// Queues were stopped.
    #[doc(alias = "KFD_SMI_EVENT_QUEUE_EVICTION")]
    QueueEviction(QueueEviction),
    /// Queues go on.
    #[doc(alias = "KFD_SMI_EVENT_QUEUE_RESTORE")]
    QueueRestore(QueueRestore),
    /// Memory was unmapped from a GPU.
    #[doc(alias = "KFD_SMI_EVENT_UNMAP_FROM_GPU")]
    UnmapFromGpu(UnmapFromGpu),
    /// A process opened the GPU. Since kernel 6.16.
    #[doc(alias = "KFD_SMI_EVENT_PROCESS_START")]
    ProcessStart {
        /// Which process.
        pid: i32,
        /// Its name.
        name: String,
    },
    /// A process left the GPU. Since kernel 6.16.
    #[doc(alias = "KFD_SMI_EVENT_PROCESS_END")]
    ProcessEnd {
        /// Which process.
        pid: i32,
        /// Its name.
        name: String,
    },
    /// A GPU page fault could not be served: a memory violation.
    #[doc(alias = "KFD_SMI_EVENT_VMFAULT")]
    VmFault {
        /// Which process.
        pid: i32,
        /// Its name.
        name: String,
    },
    /// The GPU slows down to cool.
    #[doc(alias = "KFD_SMI_EVENT_THERMAL_THROTTLE")]
    ThermalThrottle {
        /// Why, as bits of the chip's firmware.
        status: u64,
        /// How often.
        count: u64,
    },
    /// The GPU is about to be reset.
    #[doc(alias = "KFD_SMI_EVENT_GPU_PRE_RESET")]
    GpuPreReset {
        /// Number of the reset.
        sequence: u32,
        /// Why, as far as the line had room.
        cause: String,
    },
    /// The GPU was reset.
    #[doc(alias = "KFD_SMI_EVENT_GPU_POST_RESET")]
    GpuPostReset {
        /// Number of the reset.
        sequence: u32,
        /// Why, as far as the line had room.
        cause: String,
    },
    /// A line that this crate cannot read.
    Raw(String),
}

bitflags::bitflags! {
    /// Which events a log reports. Bit `id - 1` for each event of the kernel.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct SmiMask: u64 {
        /// Memory violations.
        const VM_FAULT = bit(abi::KFD_SMI_EVENT_VMFAULT);
        /// Cooling.
        const THERMAL_THROTTLE = bit(abi::KFD_SMI_EVENT_THERMAL_THROTTLE);
        /// Resets, before.
        const GPU_PRE_RESET = bit(abi::KFD_SMI_EVENT_GPU_PRE_RESET);
        /// Resets, after.
        const GPU_POST_RESET = bit(abi::KFD_SMI_EVENT_GPU_POST_RESET);
        /// Beginning migrations.
        const MIGRATE_START = bit(abi::KFD_SMI_EVENT_MIGRATE_START);
        /// Ended migrations.
        const MIGRATE_END = bit(abi::KFD_SMI_EVENT_MIGRATE_END);
        /// GPU page faults.
        const PAGE_FAULT_START = bit(abi::KFD_SMI_EVENT_PAGE_FAULT_START);
        /// Served GPU page faults.
        const PAGE_FAULT_END = bit(abi::KFD_SMI_EVENT_PAGE_FAULT_END);
        /// Stopped queues.
        const QUEUE_EVICTION = bit(abi::KFD_SMI_EVENT_QUEUE_EVICTION);
        /// Restarted queues.
        const QUEUE_RESTORE = bit(abi::KFD_SMI_EVENT_QUEUE_RESTORE);
        /// Unmapped memory.
        const UNMAP_FROM_GPU = bit(abi::KFD_SMI_EVENT_UNMAP_FROM_GPU);
        /// Processes that open the GPU.
        const PROCESS_START = bit(abi::KFD_SMI_EVENT_PROCESS_START);
        /// Processes that leave the GPU.
        const PROCESS_END = bit(abi::KFD_SMI_EVENT_PROCESS_END);
        /// Events of other processes too; works only for a log that was opened with `CAP_SYS_ADMIN`.
        const ALL_PROCESSES = bit(abi::KFD_SMI_EVENT_ALL_PROCESS);
        /// Beginning and ended migrations.
        const MIGRATIONS = Self::MIGRATE_START.bits() | Self::MIGRATE_END.bits();
        /// Everything that shared virtual memory does in this process.
        const SVM = Self::MIGRATIONS.bits() | Self::PAGE_FAULT_START.bits() | Self::PAGE_FAULT_END.bits()
            | Self::QUEUE_EVICTION.bits() | Self::QUEUE_RESTORE.bits() | Self::UNMAP_FROM_GPU.bits()
            | Self::VM_FAULT.bits();
        const _ = !0;
    }
}

const fn bit(id: u32) -> u64 {
    1 << (id - 1)
}
