//! Trouble on purpose: ordered on the command line or by the guest, carried out by the device models.

mod injector;
mod kind;
mod mailbox;
mod order;

pub use injector::{Injector, Strike};
pub use kind::Kind;
pub use mailbox::{Mailbox, Request};
pub use order::{Order, Spec};

/// Filter values of the copy kinds: the direction of the copy.
pub mod direction {
    /// Into the device's memory.
    pub const TO_VRAM: u32 = 1;
    /// Out of the device's memory.
    pub const FROM_VRAM: u32 = 2;
    /// Within the device's memory.
    pub const INSIDE_VRAM: u32 = 3;
    /// From or to another device.
    pub const PEER: u32 = 4;
    /// Within guest memory.
    pub const SYSTEM: u32 = 5;
}

/// Filter value of the job and copy kinds: queues of the driver itself. May be added to a direction.
pub const KERNEL: u32 = 0x100;
/// Filter value of the job and copy kinds: queues of processes. May be added to a direction.
pub const PROCESS: u32 = 0x200;
