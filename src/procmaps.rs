//! The list of this process's mappings, `/proc/self/maps` and `smaps`: the one reader of it.
//!
//! What a mapping means differs from user to user ([`vma`](crate::vma), `residency`, `pagemap`); how the kernel lists it does not.
//! Nothing here allocates: buffers are the caller's, and where `PROCMAP_QUERY` (since 6.11) serves, none is needed.

mod entry;
mod lines;
mod maps;

pub(crate) use entry::{Entry, vm_flags};
pub(crate) use lines::Lines;
pub(crate) use maps::{Maps, Name, open, read_at};
