//! Simulated devices: objects of this process that answer ioctls as the drivers do.

pub(crate) mod user_memory;
pub mod xe;
