//! AMD KFD: the shared-virtual-memory interface of amdgpu, one type for each kernel object, no policy.
//!
//! | object | kernel | what for |
//! |---|---|---|
//! | [`Topology`] | `/sys/class/kfd/kfd/topology` | which GPUs there are, and what connects them |
//! | [`Process`] | `/dev/kfd`, one state per address space | version, GPUs, address spaces, SVM attributes, XNACK |
//! | [`SvmAttribute`], [`RangeAttributes`] | `AMDKFD_IOC_SVM` | who may access a range, where it should be, bring it there |
//! | [`SmiEvents`] | `AMDKFD_IOC_SMI_EVENTS` | a log of migrations, GPU faults, evictions |
//! | [`MemoryObject`] | `AMDKFD_IOC_ALLOC_MEMORY_OF_GPU` | memory that stays where it is: rings of queues |
//! | [`SdmaQueue`], [`SdmaPackets`] | `AMDKFD_IOC_CREATE_QUEUE` | a copy engine: lets a GPU touch memory |
//! | [`MemoryExceptions`] | `AMDKFD_IOC_CREATE_EVENT` | a GPU touched what it may not |
//!
//! The order that the kernel wants: open `/dev/kfd`, read the topology, open the render node of **every** GPU, give each to
//! [`Process::acquire_vm`], choose the [XNACK mode](Process::set_xnack), then set attributes.
//!
//! ```no_run
//! use drm_pagemap::channel::Channel;
//! use drm_pagemap::kfd::{Location, Process, SvmAttribute, Topology, TopologySource};
//! use drm_pagemap::PageRange;
//!
//! let topology = Topology::read(&TopologySource::system())?;
//! let process = Process::open(drm_pagemap::kfd::open_device()?)?;
//! for node in topology.svm_gpus() {
//!     let (Some(gpu), Some(path)) = (node.gpu_id(), node.render_node()) else { continue };
//!     process.acquire_vm(&Channel::open(&path)?, gpu)?;
//! }
//!
//! let data = vec![1u8; 16 << 20];
//! let gpu = process.gpus().next().unwrap();
//! process.set_attributes(
//!     PageRange::inside(&data),
//!     &[SvmAttribute::Access(gpu), SvmAttribute::Prefetch(Location::Gpu(gpu))],
//! )?;
//! # Ok::<(), drm_pagemap::Error>(())
//! ```
//!
//! # Facts that surprise
//!
//! * A prefetch to a GPU **never fails visibly**: whatever keeps pages from moving, the ioctl answers 0. Look at residency, or
//!   at [`SmiEvents`].
//! * A prefetch is remembered: every later change of attributes of the range prefetches again, until one to system memory.
//! * Two GPUs without a common XGMI hive keep memory that both may access in system memory.
//! * Without XNACK, granting access populates every page of the range and counts it against a system-wide limit, and a page
//!   that the CPU touches goes back to system memory for good.
//! * Attributes belong to addresses, not to Rust objects: they last until `munmap`.
//!
//! * Memory in VRAM must **not be moved** to another address (`mremap`, and `realloc` of large blocks, which is how a `Vec` grows):
//!   see below.
//! * Memory in VRAM must **not be touched while the driver evicts it** for other memory of the process: see below.
//!
//! # Memory that moves
//!
//! `mremap` takes pages in VRAM along to their new address, and amdgpu (7.3.4, with all kernels that were read) does not notice.
//! There a touch by the CPU is a `SIGBUS`, where no attributes were set (`svm_migrate_to_ram` finds no range), or never ends,
//! where they were; and setting attributes that map the pages on a GPU dereferences NULL in the kernel
//! (`svm_range_dma_map_dev` follows the VRAM of a range that has none). The C library moves large blocks in `realloc`, so that
//! pushing to a `Vec` can be enough.
//!
//! Bring memory back before it may move: a prefetch to [`Location::System`], or a touch of every page. A
//! [`Buffer`](crate::Buffer) never moves. This crate does not look for such pages before it sets attributes: page tables say
//! that a page is in VRAM and not whether the driver knows, so telling the two apart takes two more system calls with every call,
//! between which another thread can move memory all the same.
//!
//! # More memory than VRAM
//!
//! What does not fit any more takes the place of what came first, also of the same process. A CPU thread that faults on a page in
//! VRAM holds that page's lock, and waits for the prefetch to end; the eviction, which is part of that prefetch, cannot take the page
//! along, tries three times, and says that it is done (`svm_range_evict_svm_bo` in 7.3.4, "Migration failed during eviction" in the
//! kernel's log). The page's memory then belongs to two: its contents are lost, and the thread gets a `SIGBUS` or waits for
//! ever, in a wait that no signal ends.
//!
//! Leave no eviction to the driver while other threads touch what is in VRAM: keep within what fits. A
//! [`Budget`](crate::Budget) refuses or splits what does not, or brings other memory back first, which does wait for such pages.
//!
//! Before Linux 7.3 such an eviction can also wait for itself: a worker does it, which needs the lock of the process's mappings for
//! reading (`svm_range_evict_svm_bo_worker`); the prefetch that waits for the worker holds that lock for reading too, and when
//! anyone asks for it for writing in between (khugepaged, `mmap`, `munmap`), none of the three goes on. Seen on 7.2.12, read in 6.18.15.
//!
//! Attributes of a **part** of what an earlier call covered take the driver's range apart, and it counts wrongly what of it is in VRAM if
//! that is not all (`svm_range_split_pages`); later touches and evictions then free memory that is in use. Prefetch again what was
//! prefetched, as a whole. This crate's own second attempts at what stayed behind never take a range apart.
//!
//! # What is not here
//!
//! amdgpu's proposed DRM ioctl for SVM (`DRM_IOCTL_AMDGPU_GEM_SVM`, posted 2026, not merged) is **never issued** by this
//! crate. Its number has already moved between postings (0x1a, 0x1b, 0x1c, of which the first became
//! `DRM_AMDGPU_PROC_OPTIONS`), and DRM tolerates an argument of the wrong size, so a stale number would hand our bytes to an
//! unrelated operation. Once merged it belongs beside this module, with a probe that cannot be misunderstood.

mod attributes;
mod event;
mod failure;
mod kept;
mod location;
mod memory;
mod open;
mod process;
mod queue;
mod sdma;
mod smi;
mod svm;
mod svm_call;
mod topology;
mod xnack;

pub use attributes::{Agreed, GpuAccess, Granularity, RangeAttributes, SvmAttribute, SvmFlags};
pub use event::{MemoryException, MemoryExceptions};
pub use location::{GpuId, Location};
pub use memory::{MemoryKind, MemoryObject};
pub use open::{DEVICE, open, open_device};
pub use process::{Acquired, Apertures, Process, Version};
pub use queue::SdmaQueue;
pub use sdma::SdmaPackets;
pub use smi::{
    EvictionTrigger, MigrateEnd, MigrateStart, MigrateTrigger, PageFaultEnd, PageFaultStart, QueueEviction,
    QueueRestore, SmiEvent, SmiEvents, SmiMask, UnmapFromGpu, UnmapTrigger,
};
pub use topology::{
    Capability, GfxVersion, HeapType, IoLink, LinkType, MemoryBank, Node, Properties, Topology,
    TopologySource,
};
pub use xnack::Xnack;

#[cfg(test)]
mod fuzzing;
#[cfg(all(test, feature = "sim"))]
mod tests;
