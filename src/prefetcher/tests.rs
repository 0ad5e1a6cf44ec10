//! The prefetcher on simulated devices whose calls are seen, and held back at will.

mod coalescing;
mod ending;
mod gate;
mod order;
mod prepare;
mod queue;
mod share;
mod waiting;
