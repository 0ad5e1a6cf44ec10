//! SDMA engines: packets and their execution.

pub mod atomic;
pub mod execute;
pub mod packet;

pub use execute::step;
pub use packet::Test;
