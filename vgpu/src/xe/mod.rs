//! The Intel model: a GPU of the Battlemage kind, as `xe.ko` drives it.
//!
//! Names of kernel files are relative to `drivers/gpu/drm/xe/`.

mod core;
pub mod cs;
mod device;
mod engine;
pub mod firmware;
pub mod guc;
pub mod irq;
pub mod memory;
mod mmio;
pub mod registers;
pub mod topology;

pub use core::{BAR0_SIZE, Core, GGTT_OFFSET, State, USUAL_VRAM};
pub use device::XeDevice;
pub use engine::{EngineRunner, Postman};
