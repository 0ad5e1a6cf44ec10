//! What every device model is to the rest of the program.

use std::fmt::Debug;

use crate::coverage::Coverage;
use crate::pci::Layout;

/// A device model of one vendor.
///
/// The transport calls it from one thread per device; the model's own engine threads work beside that. No method
/// may take long: long work belongs to an engine (see [`crate::engine`]).
pub trait Device: Debug + Send + Sync {
    /// Identity, BARs and capabilities; never changes.
    fn layout(&self) -> &Layout;

    /// A trapped read of a BAR.
    fn read(&self, bar: u8, offset: u64, into: &mut [u8]);

    /// A trapped write to a BAR.
    fn write(&self, bar: u8, offset: u64, from: &[u8]);

    /// Back to the state after power-on; the contents of memory may stay.
    fn reset(&self);

    /// The guest has forbidden the device to access memory (bus mastering). Most devices need not care: a driver
    /// does so only when they are idle.
    fn bus_master_off(&self) {}

    /// Stops everything at once, as when the device is pulled out. A [`reset`](Self::reset) brings it back.
    fn halt(&self);

    /// What the driver asked for that the model does not know.
    fn coverage(&self) -> Coverage;
}
