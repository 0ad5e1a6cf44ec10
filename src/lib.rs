//! Linux GPU shared virtual memory made usable, safe and observable.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!("drm-pagemap speaks the ABI of 64-bit little-endian Linux only");

pub mod addr;
pub mod buffer;
pub mod channel;
pub mod device;
pub mod drm;
pub mod error;
pub mod gpu;
pub mod kfd;
pub mod location;
pub mod mirror;
pub mod outcome;
pub mod range;
pub mod residency;
pub mod uapi;
pub mod vma;
pub mod xe;

pub use buffer::Buffer;
pub use device::{Device, Driver};
pub use error::{Errno, Error, ErrorKind, Result};
pub use gpu::Gpu;
pub use location::{Location, VramRegion};
pub use mirror::Mirror;
pub use outcome::{Cause, Observe, Outcome, Refusal};
pub use range::PageRange;
