//! `drm_pagemap` in userspace: the kernel's interface for device memory, and an engine that really migrates the pages of
//! this process.
//!
//! Linux's `drm_pagemap` lets a driver put pages of a process into device memory and get them back when the CPU touches
//! them. This module is its counterpart for devices that live in this process: the [simulated](crate) GPUs, and drivers in
//! development. The items of the kernel header have their counterparts here, under the same names:
//!
//! | C | Rust |
//! |---|---|
//! | `struct drm_pagemap { ops, dev }` | [`Pagemap`] |
//! | `struct drm_pagemap_ops` | [`PagemapOps`] |
//! | `struct drm_pagemap_devmem { dev, mm, detached, ops, dpagemap, size, timeslice_expiration }` | [`DevMem`], [`DevMemState`] |
//! | `struct drm_pagemap_devmem_ops` | [`DevMemOps`]; `devmem_release` is [`Drop`] |
//! | `drm_pagemap_migrate_to_devmem` | [`Space::migrate_to_devmem`], [`Space::migrate_devmem`] |
//! | `drm_pagemap_evict_to_ram` | [`Window::evict`], [`DevMemState::evict_to_ram`], [`VramRegion::evict`] |
//! | `drm_pagemap_populate_mm` | [`Pagemap::populate_mm`] |
//! | `drm_pagemap_owner_list` | [`OwnerList`] |
//! | `struct drm_pagemap_addr`, `enum drm_interconnect_protocol` | [`crate::addr`] |
//! | `struct mm_struct`, `struct device` | [`Space`], [`Dev`] |
//! | MMU notifiers | [`Space::watch`], [`Events`], [`Notifier`] |
//!
//! A [`Space`] is the address space, a [`VramRegion`] is device memory that the engine manages by itself: pages *move*
//! there, at the cost of a page-table update. A [`DevMem`] is device memory that a driver manages: pages are copied by its
//! [`DevMemOps`], which may fail as they like.
//!
//! # How pages move
//!
//! The engine owns a userfaultfd. VRAM is a mapping of this process, reserved and empty. To migrate a *window* (at most
//! 2 MiB, at most one mapping) the engine registers it, so that touches of missing pages are reported, and moves its pages
//! to VRAM with `UFFDIO_MOVE`, which is the kernel's page migration in small: each page is taken from one page table and put
//! into another atomically, refused if it is pinned or shared. A thread that touches a page meanwhile, or later, waits until
//! the engine has moved the window back. Nobody ever sees anything but the current contents, and no update is lost. When
//! nothing of the window is in VRAM any more, its registration ends. So *memory is registered only while a device has part
//! of it*: all other memory keeps huge pages, system calls and everything else as it was, and a page of a registered window
//! that the device does not have, reads as zero on first touch like any other.
//!
//! What the process does to a window's addresses (`munmap`, `mremap`, `MADV_DONTNEED`) the kernel reports, and it lets no
//! page move until the report is read. So the engine never moves a page to an address that has become another's.
//!
//! # What differs from a real device
//!
//! * System calls on device pages fail with `EFAULT`, unless [`Capabilities::kernel_touch`]: without a privilege, userfaultfd
//!   reports no touches by the kernel. That includes `futex` on a lock in a device page, and the kernel's own writes to
//!   the stack of a thread (signals, restartable sequences), which are fatal. The main thread's stack and the stack of the
//!   calling thread are therefore refused; do not migrate the stacks of other threads.
//! * Memory must be private, anonymous, readable and writable, not executable, not locked; the kernel migrates locked,
//!   read-only and copy-on-write shared pages too. Each refusal says which it is. If it is made read-only or locked *after* it
//!   migrated, it comes back by copy.
//! * The kernel keeps a registered piece of a mapping apart from the rest. `mremap` over both fails with `EFAULT`, as over any two
//!   mappings, perhaps with part of it moved (since 6.17). `realloc` of the C library copies then.
//! * A page pinned by `vmsplice` (`FOLL_GET`) migrates; one pinned by `io_uring` or RDMA (`FOLL_PIN`) is refused with `EBUSY`, as
//!   in the kernel.
//! * `fork` brings everything back first, with `pthread_atfork`: a child would find zeroes. A `fork` that bypasses the C library is
//!   covered only with [`Capabilities::fork_events`]. What cannot come back (a driver's copy fails) is withheld from the child
//!   with `MADV_DONTFORK`.
//! * A touch that cannot be resolved raises `SIGBUS`, as in the kernel; the page then keeps raising it until a later migration
//!   succeeds, where the kernel tries again on each touch.
//! * Core dumps and debuggers do not see device pages.
//! * A thread that runs into a timeslice sleeps; the kernel makes it spin.
//! * A range that another userfaultfd has is refused (`EBUSY`), and no other one can have a range while a device has part
//!   of it.
//!
//! # Why nothing can deadlock
//!
//! The thread that brings pages back must never wait for one. Any memory can be asked to migrate, the heap included, and
//! with it whatever lies on the same pages: allocator metadata, locks, this crate's own handles. Therefore:
//!
//! * *One thread moves pages, and it touches nothing that can migrate.* Its tables and buffers are shared mappings (which never
//!   migrate), its stack, the pools, and the static data of the program and its libraries are known to it, and ranges that hold them are
//!   refused. It does not allocate,
//!   calls no user code, takes no lock, and blocks all signals.
//! * *Nobody holds a lock that it needs.* Requests reach it through a table of slots in shared memory. A thread that has
//!   a slot may touch whatever it likes at any time: the engine does not wait for slots.
//! * *A driver's operations run in threads of their own*, one more than there are operations under way, so that one may touch
//!   memory that is on a device. The one thing that cannot work, an operation that touches the very window it
//!   copies out, ends in `SIGBUS` and not in silence.
//! * *The engine registers no pool slot while it empties it*: that would be reported to itself.
//!
//! Ending is as safe: dropping the last handle brings everything back, waits ten seconds at most for a driver that hangs,
//! and then leaves the engine running rather than losing data.
//!
//! # Requirements
//!
//! Linux 6.8 (`UFFDIO_MOVE`), `CONFIG_USERFAULTFD`, `/proc`; no privilege. There is no fallback: where userfaultfd is
//! missing or forbidden, [`Space::open`] says so.

mod access;
mod capabilities;
mod copy_threads;
mod counters;
mod dev;
mod devmem;
mod devmem_ops;
mod dpagemap;
mod engine;
mod events;
mod failure;
mod fork;
mod inject;
mod inner;
mod interconnect;
mod migrate;
mod options;
mod placement;
mod space;
#[cfg(test)]
mod tests;
mod vma;
mod vram;
mod window;

pub use access::DeviceAtomic;
pub use capabilities::{Capabilities, KernelTouch};
pub use counters::Counters;
pub use dev::Dev;
pub use devmem::{DevMem, DevMemState};
pub use devmem_ops::{DevMemOps, Pfn};
pub use dpagemap::{Pagemap, PagemapOps};
pub use events::{Event, Events, Notifier, Watch};
pub use inject::{Injection, Trigger};
#[cfg(feature = "sim")]
pub(crate) use inner::Inner as SpaceInner;
pub use interconnect::{Owner, OwnerList};
pub use options::{Atomicity, MigrateOptions, Migrated, Windows};
pub use placement::Placement;
pub use space::Space;
#[cfg(feature = "sim")]
pub(crate) use vma::vm_flags;
pub use vma::{Backing, Vma};
pub use vram::{RegionId, Usage, VramRegion, VramRegionOptions};
pub use window::Window;
