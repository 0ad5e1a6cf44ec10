//! The kernel's ABI, as plain data: structs, constants and request numbers of the interfaces this crate speaks.
//!
//! Nothing here makes a system call or decides anything. Each struct is `repr(C)`, has no padding and is
//! [`bytemuck::Pod`]; its size, the offset of each field and its request number are checked when the crate is compiled, and
//! against the C headers of a real kernel by the `abi` test. Constants keep the kernel's own names; structs have
//! Rust names, and searching the documentation for the C name finds them. Upper floors give all of this types and safety.
//!
//! | module | header | what |
//! |---|---|---|
//! | [`drm`] | `drm/drm.h` | version, capabilities, GEM handles, sync objects of any DRM driver |
//! | [`xe`] | `drm/xe_drm.h` | Intel xe: VMs, bind and prefetch, madvise, exec queues, fences |
//! | [`kfd`] | `linux/kfd_ioctl.h` | AMD KFD: SVM, XNACK, processes, memory, queues, events, SMI |
//! | [`pagemap_scan`] | `linux/fs.h` | `PAGEMAP_SCAN`: where the pages of a process are |
//! | [`procmap_query`] | `linux/fs.h` | `PROCMAP_QUERY`: what is mapped at an address |
//! | [`userfaultfd`] | `linux/userfaultfd.h` | page faults handled in userspace |
//!
//! "Since" notes name the kernel release that introduced an item; a kernel without it answers as the notes of the call say.
//! Fields documented as "must be zero" are refused by the kernel otherwise (`EINVAL`) unless noted.
//!
//! Addresses are `u64` in every struct. Structs as the kernel defines them on 64-bit machines; the crate supports no others.

// These number their ioctls differently, and have neither xe nor KFD tested on them.
#[cfg(any(
    target_arch = "powerpc64",
    target_arch = "mips64",
    target_arch = "mips64r6",
    target_arch = "sparc64"
))]
compile_error!("drm-pagemap knows only the generic encoding of ioctl request numbers");

#[macro_use]
mod macros;

pub mod abi;
pub mod drm;
pub mod kfd;
pub mod pagemap_scan;
pub mod procmap_query;
pub mod userfaultfd;
pub mod xe;

pub use abi::IoctlArg;

/// Everything defined on this floor, for the ABI test.
#[doc(hidden)]
pub const TABLES: &[&[abi::Table]] = &[
    drm::TABLES,
    kfd::TABLES,
    &[pagemap_scan::TABLE, procmap_query::TABLE],
    userfaultfd::TABLES,
    xe::TABLES,
];
