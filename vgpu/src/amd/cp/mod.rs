//! The command processor: packets, their execution, and the scheduler's requests among them.

pub mod execute;
pub mod packet;
pub mod runlist;
pub mod scheduling;

pub use execute::step;
pub use runlist::Process;
