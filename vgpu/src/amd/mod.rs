//! The AMD model: Vega 10 and MI200 as `amdgpu` and its compute part (KFD) drive them.
//!
//! [`vm`] translates, [`sdma`] and [`cp`] execute packets, [`scheduler`] is the firmware that runs the queues of
//! processes; [`vbios`] and [`firmware`] make what the driver loads. There are no shaders and no display.

pub mod address;
pub mod asic;
pub mod core;
pub mod cp;
pub mod faults;
pub mod firmware;
pub mod gpu;
pub mod interrupt;
pub mod mmio;
pub mod profile;
pub mod queue;
pub mod registers;
pub mod scheduler;
pub mod sdma;
pub mod state;
pub mod stream;
pub mod trouble;
pub mod vbios;
pub mod vm;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use crate::board::Board;
use crate::mem::Vram;
use gpu::Gpu;
use profile::AmdProfile;
use vm::Hive;

/// Makes the devices of one process; in a hive they reach each other's memory.
#[derive(Debug)]
pub struct Maker {
    profile: AmdProfile,
    memories: Arc<Vec<Vram>>,
}

impl Maker {
    /// Creates the memories of `count` devices.
    pub fn new(profile: AmdProfile, count: usize) -> io::Result<Maker> {
        let memories = (0..count).map(|_| Vram::new(profile.vram)).collect::<io::Result<Vec<_>>>()?;
        Ok(Maker { profile, memories: Arc::new(memories) })
    }

    /// Makes the device of a board.
    pub fn device(&self, board: Arc<Board>) -> io::Result<Gpu> {
        let hive = if self.profile.hive {
            Hive::new(board.index, self.memories.clone())
        } else {
            Hive::new(0, Arc::new(vec![self.memories[board.index].clone()]))
        };
        Gpu::new(self.profile.asic, board, hive, self.profile.tlb)
    }
}
