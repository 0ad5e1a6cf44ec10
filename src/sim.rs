//! Simulated devices: objects of this process that answer ioctls as the kernel's drivers do.
//!
//! A [`Machine`] is a computer made of them. What is migrated to their VRAM really leaves the process's page tables and comes back
//! when the CPU touches it; times, caches and shaders are not simulated.

mod id_map;
pub mod kfd;
mod machine;
mod space;
mod user_memory;
pub mod xe;

pub use machine::Machine;
