//! The engine that runs a queue's commands: one thread for each queue.

use std::sync::Arc;

use super::node::XeNode;
use super::queue::Queue;
use crate::error::Errno;

impl XeNode {
    /// Starts the thread of a new queue.
    pub(super) fn start_engine(&self, _queue: &Arc<Queue>) -> Result<(), Errno> {
        Ok(())
    }
}
