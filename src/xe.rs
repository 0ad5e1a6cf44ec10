//! Intel xe: one typed wrapper for each object and each ioctl of the driver that SVM programs need, and no policy.
//!
//! | type | kernel object or ioctl |
//! |---|---|
//! | [`Device`] | an open render node; `DEVICE_QUERY` |
//! | [`Probe`] | what this kernel can do, asked with arguments that are known to be good |
//! | [`Vm`] | a GPU address space; `VM_CREATE`, `VM_BIND`, `MADVISE`, `VM_QUERY_MEM_RANGE_ATTRS`, `VM_GET_PROPERTY` |
//! | [`Bind`] | one operation of `VM_BIND` |
//! | [`UserFence`], [`Syncobj`] | completion; `WAIT_USER_FENCE`, `SYNCOBJ_*` |
//! | [`Bo`] | a buffer object; `GEM_CREATE`, `GEM_MMAP_OFFSET`, `GEM_CLOSE` |
//! | [`ExecQueue`], [`BindQueue`] | submission; `EXEC_QUEUE_*`, `EXEC` |
//! | [`Batch`] | the few GPU commands that prove access to memory |
//!
//! # The model on one page
//!
//! 1. [`Device::open`] a render node; [`Config::has_cpu_addr_mirror`] says that SVM works at all.
//! 2. [`Vm::create`] with [`VmFlags::SVM`]. The VM belongs to the calling process for good.
//! 3. [`Vm::mirror_all`]: GPU address = CPU address, everywhere; nothing is filled in yet.
//! 4. [`Vm::prefetch`] fills in and migrates now; a GPU page fault does so on first touch.
//! 5. A CPU touch brings pages in VRAM back. `munmap` ends what the GPU knew about the addresses.
//! 6. [`Vm::advise`] sets attributes (preferred location, atomics, PAT); [`Vm::range_attributes`] lists them.
//!
//! Success of a prefetch is not residency: the driver answers 0 when it could not move a page. Whoever needs to know looks
//! at the pages.
//!
//! # Safety
//!
//! Mirroring, binding, prefetching, advising and asking are safe: they change no byte of the process. Letting a GPU run
//! commands is not ([`ExecQueue::submit`]), since commands can write to any mirrored address.

mod advice;
mod attributes;
mod batch;
mod bind;
mod bo;
mod device;
mod errors;
mod exec;
mod exec_queue;
mod fault;
mod fence;
mod madvise;
mod mirror;
mod operation;
mod pat;
mod prefetch;
mod probe;
mod query;
mod sizes;
mod sync;
mod syncobj;
mod vm;

pub use advice::{Advice, AtomicMode, MigrationPolicy, PreferredLocation};
pub use attributes::{RangeAttributeBuffer, RangeAttributes, ReportedLocation};
pub use batch::{Batch, BatchBuffer};
pub use bind::Bind;
pub use bo::{Bo, BoOptions, CpuCaching};
pub use device::{Config, Device};
pub use exec_queue::{BindQueue, ExecQueue, Priority, QueueOptions};
pub use fault::{FaultAccess, FaultKind, VmFault};
pub use fence::{Comparison, Timeout, UserFence};
pub use madvise::Purgeable;
pub use mirror::MirrorOptions;
pub use operation::Operation;
pub use pat::{Coherency, PatIndex, PatTable};
pub use prefetch::PrefetchTarget;
pub use probe::Probe;
pub use query::{Engine, EngineClass, Gt, GtKind, IpVersion, MemoryClass, MemoryRegion, RegionMask};
pub use sync::Syncs;
pub use syncobj::Syncobj;
pub use vm::{Vm, VmFlags};

#[cfg(test)]
mod tests;
