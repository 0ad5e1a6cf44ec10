//! The PCI side of a device: identity, BARs, configuration space, interrupts, other devices.

mod config;
mod msi;
mod peers;

use std::sync::Arc;

pub use config::{CONFIG_SIZE, Capability, ConfigSpace};
pub use msi::MsiLine;
pub use peers::Peers;

use crate::mem::Mapping;

/// What a function says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Vendor of the board.
    pub subsystem_vendor: u16,
    /// The board.
    pub subsystem: u16,
    /// Revision.
    pub revision: u8,
    /// Class code, 24 bits.
    pub class: u32,
}

/// The shape of one base address register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Number, 0 to 5; a wide BAR takes the next number too.
    pub index: u8,
    /// Size in bytes, a power of two.
    pub size: u64,
    /// 64-bit.
    pub wide: bool,
    /// Prefetchable.
    pub prefetchable: bool,
}

/// A part of a BAR that is plain memory, mapped straight into the guest instead of being trapped.
#[derive(Debug, Clone)]
pub struct Window {
    /// The BAR.
    pub bar: u8,
    /// First byte inside the BAR; the same offset in `mapping`.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// The memory, as large as the BAR.
    pub mapping: Arc<Mapping>,
}

/// Everything that configuration space and transport must know about a device.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Identity.
    pub identity: Identity,
    /// BARs.
    pub bars: Vec<Bar>,
    /// Parts of BARs that are mapped.
    pub windows: Vec<Window>,
    /// The BAR that shows the device's memory to other devices.
    pub memory_bar: u8,
    /// Expansion ROM; empty for none.
    pub rom: Vec<u8>,
    /// Capabilities besides the mailbox, in the order of the list.
    pub capabilities: Vec<Capability>,
    /// Other bytes of configuration space, read-only.
    pub presets: Vec<(u8, Vec<u8>)>,
}

impl Layout {
    /// The mapped part of a BAR that holds all of `[offset, offset + len)`.
    pub fn window(&self, bar: u8, offset: u64, len: u64) -> Option<&Window> {
        let end = offset.checked_add(len)?;
        self.windows.iter().find(|w| w.bar == bar && offset >= w.offset && end <= w.offset + w.size)
    }
}
