//! The AMD model.
pub mod address;
pub mod vm;
