//! Engines: threads for long work, tokens to stop it, and a gate before memory.

mod gate;
mod worker;

pub use gate::{Cancelled, Gate, Permit, RunToken, Wish};
pub use worker::{Engine, Progress, Waker, Worker};
