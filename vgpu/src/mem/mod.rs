//! Memory of guest and devices: typed addresses, checked mappings, and access through a translation.

mod address;
mod dma;
mod mapping;
mod space;
mod span;
mod vram;

pub use address::{Address, Dma, VramOffset};
pub use dma::DmaMap;
pub use mapping::{Mapping, OutOfBounds};
pub use space::{Access, Space, Traffic, copy, fill, read, read32, read64, write, write32, write64};
pub use span::{Place, Span};
pub use vram::Vram;
