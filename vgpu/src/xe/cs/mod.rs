//! The command streamer: instructions of rings and batches.

mod alu;
mod atomic;
mod blt;
mod decode;
mod exec;
mod gfx;
mod image;
mod mi;
mod registers;

pub use exec::{Exec, RunClock};
pub use image::{Image, Loaded};

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests;
