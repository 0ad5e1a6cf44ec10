//! The command processor: packets, their execution, and the scheduler's requests among them.

mod execute;
pub mod packet;
mod runlist;
mod scheduling;

pub use execute::step;
pub use runlist::Process;
