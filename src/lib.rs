//! Linux GPU shared virtual memory made usable, safe and observable.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!("drm-pagemap speaks the ABI of 64-bit little-endian Linux only");

pub mod addr;
pub mod buffer;
pub mod channel;
pub mod error;
pub mod outcome;
pub mod pagemap;
pub mod range;
pub mod uapi;

pub use buffer::Buffer;
pub use error::{Errno, Error, ErrorKind, Result};
pub use outcome::{Cause, Observe, Outcome, Refusal};
pub use range::PageRange;
