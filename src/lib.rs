//! Linux GPU shared virtual memory made usable, safe and observable.
//!
//! Give the memory a process already has (a `Vec`, an mmap, anything) to an Intel or AMD GPU at the same addresses, put
//! ranges of it into VRAM, bring them back, and know where every page is.
//!
//! ```
//! use drm_pagemap::{Gpu, residency};
//!
//! let gpu = Gpu::discover()?.into_iter().next().unwrap_or_else(Gpu::simulated);
//! let mirror = gpu.mirror()?;
//! let data = vec![1.0f32; 1 << 20];
//! let outcome = mirror.prefetch(&data).to(gpu.vram()).run()?;
//! println!("{outcome}");
//! println!("{}", residency::of(&data)?);
//! # Ok::<(), drm_pagemap::Error>(())
//! ```
//!
//! # The model on one page
//!
//! * A [`Gpu`] is found by [`Gpu::discover`], or simulated in the process by [`Gpu::simulated`].
//! * A [`Mirror`] is its view of the process: GPU address = CPU address, everywhere. Nothing is copied or pinned.
//! * Pages live in system memory or in VRAM, and move under the same addresses. A prefetch moves them now; a GPU page
//!   fault moves them on first use; a touch by the CPU brings the whole migrated block (up to 2 MiB) back; a GPU that
//!   runs out of memory sends the least recently used ones back. No byte is ever lost on the way.
//! * What a prefetch *did* is an [`Outcome`]: seen before and after, in bytes, with the cause for each part that stayed.
//!   Success of the ioctl itself says nothing, on either driver.
//! * Where pages *are* is a [`residency::Residency`]: an unprivileged look at any range, at any time.
//!
//! # Floors
//!
//! | module | what | for |
//! |---|---|---|
//! | [`Gpu`], [`Mirror`], [`Buffer`], [`Outcome`] | alike on every driver | most programs |
//! | [`residency`] | where pages are | everyone who wonders why it is slow |
//! | [`events`] | what moves pages, and whether it was asked for | likewise |
//! | [`doctor`] | what GPU shared virtual memory lacks on this machine, and the cure | users, support |
//! | [`prefetcher`] | prefetches in the background: queue, priorities, cancellation, futures | runtimes, anything that must not wait |
//! | [`budget`] | how much VRAM prefetches may take, and what happens to one that does not fit | likewise |
//! | [`alloc`] | an allocator of memory that GPUs migrate well (feature `allocator-api2`) | runtimes, collections |
//! | [`xe`], [`kfd`] | one type for each kernel object, one method for each ioctl | runtimes |
//! | [`pagemap`] | `drm_pagemap` in userspace: the kernel header's traits, and an engine that moves pages | simulations, drivers in userspace |
//! | [`channel`], [`uapi`], [`addr`], [`range`](mod@range), [`vma`] | ioctls, the ABI, addresses | whoever goes further down |
//! | [`sim`] | simulated xe and KFD devices (feature `sim`, on by default) | tests |
//! | [`serialize`] | `Serialize` for outcomes, residency, reports and events (feature `serde`) | tools |
//!
//! # The kernel's header, item by item
//!
//! | `drm_pagemap.h` | here |
//! |---|---|
//! | `enum drm_interconnect_protocol` | [`addr::InterconnectProtocol`] |
//! | `struct drm_pagemap_addr` (`drm_pagemap_device_addr`), `..._encode` | [`addr::DeviceAddr`]; in 64 bits, as the header wishes: [`addr::PackedDeviceAddr`] |
//! | `struct drm_pagemap_ops` | [`pagemap::PagemapOps`] |
//! | `struct drm_pagemap` | [`pagemap::Pagemap`] |
//! | `struct drm_pagemap_devmem_ops` | [`pagemap::DevMemOps`] |
//! | `struct drm_pagemap_devmem` | [`pagemap::DevMem`] |
//! | `populate_mm` through a driver's ioctl | [`Mirror::prefetch`] |
//!
//! The [`guide`] is for authors of runtimes.
//!
//! # Safety
//!
//! Mirroring, prefetching, advising and querying never change a byte that the CPU can see, so they are safe on `&[T]`. Running
//! GPU code on a mirrored address space is the unsafe act, since it can write anywhere the process can: that contract belongs to
//! whoever submits the code.
#![cfg_attr(
    not(feature = "sim"),
    doc = "",
    doc = "[`sim`]: https://docs.rs/drm-pagemap/latest/drm_pagemap/sim/index.html"
)]
#![cfg_attr(
    not(feature = "sim"),
    doc = "",
    doc = "[`Gpu::simulated`]: https://docs.rs/drm-pagemap/latest/drm_pagemap/struct.Gpu.html#method.simulated"
)]
#![cfg_attr(
    not(feature = "allocator-api2"),
    doc = "",
    doc = "[`alloc`]: https://docs.rs/drm-pagemap/latest/drm_pagemap/alloc/index.html"
)]
#![cfg_attr(
    not(feature = "serde"),
    doc = "",
    doc = "[`serialize`]: https://docs.rs/drm-pagemap/latest/drm_pagemap/serialize/index.html"
)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!("drm-pagemap speaks the ABI of 64-bit little-endian Linux only");

pub mod addr;
#[cfg(feature = "allocator-api2")]
pub mod alloc;
pub mod budget;
pub mod buffer;
pub mod channel;
pub mod device;
pub mod doctor;
pub mod drm;
pub mod error;
pub mod events;
pub mod gpu;
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}
pub mod kfd;
pub mod location;
pub mod mirror;
pub mod outcome;
mod own_memory;
pub mod pagemap;
mod populate;
pub mod prefetcher;
mod procmaps;
pub mod range;
pub mod residency;
#[cfg(feature = "serde")]
pub mod serialize;
#[cfg(feature = "sim")]
pub mod sim;
pub mod uapi;
pub mod vma;
pub mod xe;

pub use budget::Budget;
pub use buffer::Buffer;
pub use device::{Device, Driver};
pub use error::{Errno, Error, ErrorKind, Result};
pub use events::Events;
pub use gpu::Gpu;
pub use location::{Fallback, Location, VramRegion};
pub use mirror::Mirror;
pub use outcome::{Cause, Observe, Outcome, Refusal};
pub use prefetcher::Prefetcher;
pub use range::PageRange;
