//! SDMA engines: packets and their execution.

mod atomic;
mod execute;
mod packet;

pub use execute::step;
pub use packet::Test;
