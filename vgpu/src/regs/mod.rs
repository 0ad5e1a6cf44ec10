//! Register tables: what the driver may touch is written down as data, and what is missing shows.

mod file;
mod table;

pub use file::{RegisterFile, Touch, merge_masked};
pub use table::{Behaviour, Def, Register, Table};
