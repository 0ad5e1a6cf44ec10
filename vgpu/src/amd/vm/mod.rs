//! Virtual memory: two hubs, page tables, cached translations, and the memories behind them.

mod entry;
mod hive;
mod hub;
mod memory;
mod tlb;
pub mod walk;

pub use entry::{Entry, Target};
pub use hive::Hive;
pub use hub::{ApertureField, Context, ContextField, Hub, HubId, VMIDS};
pub use memory::{Memory, MemoryStop, PageFault, RunMemory};
pub use tlb::{Owner, Tlb};
pub use walk::{Cause, Leaf};

#[cfg(test)]
pub(crate) mod testing;
