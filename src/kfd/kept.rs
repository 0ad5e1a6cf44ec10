//! Render nodes that gave GPUs of this process their address spaces, kept for the life of the process, as the kernel keeps them.
//!
//! The first file that is acquired for a GPU stays the one until the process ends, whatever becomes of its descriptor, and memory
//! objects are mapped through it alone. A second [`Process`](crate::kfd::Process), made after the first is gone, would have no
//! way to them otherwise.

use std::sync::{Mutex, PoisonError};

use crate::channel::Channel;
use crate::kfd::GpuId;

/// One for each GPU that this library acquired: a descriptor as long-lived as what the kernel holds anyway.
static KEPT: Mutex<Vec<(GpuId, Channel)>> = Mutex::new(Vec::new());

/// Keeps the file that was acquired for a GPU. A simulated one goes with its machine.
pub(super) fn keep(gpu: GpuId, render_node: &Channel) {
    if render_node.is_virtual() {
        return;
    }
    // Without a descriptor to spare the GPU can be used, but not through a later `Process`.
    if let Ok(channel) = render_node.try_clone() {
        let mut kept = lock();
        // The same file, or one that a fork left of the parent's.
        kept.retain(|(other, _)| *other != gpu);
        kept.push((gpu, channel));
    }
}

/// The file that was acquired for a GPU with this number, in a forked child perhaps by its parent.
pub(super) fn of(gpu: GpuId) -> Option<Channel> {
    lock().iter().find(|(kept, _)| *kept == gpu).and_then(|(_, channel)| channel.try_clone().ok())
}

fn lock() -> std::sync::MutexGuard<'static, Vec<(GpuId, Channel)>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}
