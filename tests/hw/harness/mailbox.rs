//! Trouble on purpose, ordered from a virtual device: the registers of its mailbox in PCI configuration space.
//!
//! They are described in `vgpu/README.md`, "The mailbox".

use drm_pagemap::Gpu;

use super::slot::{Config, Slot};

/// What can go wrong, by the device's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Trouble {
    CopyError = 2,
    CopyHang = 3,
    JobHang = 5,
    JobError = 6,
    ReplyLose = 7,
    ReplyDelay = 8,
    FenceLose = 13,
}

/// What the device counts, by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Count {
    BytesToVram = 4,
    BytesFromVram = 5,
    UnitResets = 18,
}

/// Which occurrences count: copies of the driver's own queues into device memory.
pub(crate) const DRIVER_COPIES_IN: u32 = 0x101;
/// Copies of the driver's own queues out of device memory.
pub(crate) const DRIVER_COPIES_OUT: u32 = 0x102;
/// Batches and fences of the driver's own queues.
pub(crate) const DRIVER_JOBS: u32 = 0x100;
/// Batches of processes.
pub(crate) const PROCESS_JOBS: u32 = 0x200;
/// The firmware's word that translations are invalidated.
pub(crate) const INVALIDATION_DONE: u32 = 0x7001;

/// The mailbox of one device.
#[derive(Debug)]
pub(crate) struct Mailbox {
    config: Config,
    at: u64,
}

const VENDOR_SPECIFIC: u32 = 0x09;
const SIGNATURE: u32 = u32::from_le_bytes(*b"VGPU");

const ARM: u32 = 1;
const CLEAR: u32 = 2;
const COUNTER: u32 = 3;
const UNPLUG: u32 = 5;
const REPLUG: u32 = 6;
const FIRED: u32 = 9;

impl Mailbox {
    /// Looks for the mailbox among the device's capabilities.
    pub(crate) fn of(gpu: &Gpu) -> Result<Self, String> {
        let slot = Slot::of(gpu)?;
        let config = slot.config()?;
        let mut at = u64::from(config.read(0x34)? & 0xfc);
        // More capabilities than fit are a loop.
        for _ in 0..48 {
            if at == 0 {
                break;
            }
            let header = config.read(at)?;
            if header & 0xff == VENDOR_SPECIFIC && config.read(at + 4)? == SIGNATURE {
                return Ok(Self { config, at });
            }
            at = u64::from(header >> 8 & 0xfc);
        }
        Err(format!("the device at {} takes no orders for trouble: it is not a virtual GPU", slot.address()))
    }

    /// Orders trouble: the `nth` occurrence from now on, counted from 1, and `times` in a row.
    pub(crate) fn arm(&self, trouble: Trouble, nth: u32, times: u32, filter: u32, value: u32) {
        for (offset, value) in [(0x10, nth), (0x14, times), (0x18, filter), (0x1c, value)] {
            self.config.write(self.at + offset, value);
        }
        self.command(ARM, trouble as u32);
    }

    /// Forgets all orders.
    pub(crate) fn clear(&self) {
        self.command(CLEAR, 0);
    }

    /// How often a trouble has struck since the device was made.
    pub(crate) fn fired(&self, trouble: Trouble) -> u64 {
        self.command(FIRED, trouble as u32)
    }

    /// What the device has counted since it was made.
    pub(crate) fn count(&self, count: Count) -> u64 {
        self.command(COUNTER, count as u32)
    }

    /// Takes the device off the bus, as if it were pulled out.
    pub(crate) fn unplug(&self) {
        self.command(UNPLUG, 0);
    }

    /// Puts it back, in the state after power-on; its driver has to probe it again.
    pub(crate) fn replug(&self) {
        self.command(REPLUG, 0);
    }

    fn command(&self, command: u32, select: u32) -> u64 {
        self.config.write(self.at + 0x0c, select);
        self.config.write(self.at + 0x08, command);
        let read = |offset| self.config.read(self.at + offset).expect("root reads configuration space");
        assert_eq!(read(0x08), command << 16, "the mailbox refuses command {command} for {select}");
        u64::from(read(0x20)) | u64::from(read(0x24)) << 32
    }
}
