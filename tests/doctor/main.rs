//! The doctor on made-up machines: what it observes, concludes and prescribes, compared with committed texts.
//!
//! `DOCTOR_UPDATE=1 cargo test --test doctor` writes the texts anew; read the difference before committing it.

mod amd;
mod containers;
mod examined;
mod intel;
mod machine;
mod nodes;
mod page;
mod refused;
mod surroundings;
