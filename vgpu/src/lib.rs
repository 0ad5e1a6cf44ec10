//! Virtual GPUs: device models that the real, unmodified Linux drivers drive inside QEMU.
//!
//! A model is a [`device::Device`]: it sees trapped accesses to its BARs and works on shared memory with its own
//! engine threads. Everything around it is the same for all vendors: PCI configuration ([`pci`], [`function`]),
//! memory ([`mem`]), register tables ([`regs`]), engine threads ([`engine`]), trouble on purpose ([`inject`]) and the
//! vfio-user server ([`transport`]). [`xe`] is the Intel model, [`amd`] the AMD
//! one.
//!
//! The crate's README tells how to run it, how to extend it, and what a test against it proves.

pub mod amd;
pub mod board;
pub mod counters;
pub mod coverage;
pub mod device;
pub mod engine;
pub mod function;
pub mod inject;
pub mod mem;
pub mod pci;
pub mod profile;
pub mod regs;
pub mod transport;
pub mod xe;
