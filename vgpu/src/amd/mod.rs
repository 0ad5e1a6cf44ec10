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

use std::io;
use std::sync::Arc;

use crate::board::Board;
use crate::mem::Vram;
use gpu::Gpu;
use profile::AmdProfile;
use vm::Hive;

/// Builds one device per board; with a hive they reach each other's memory.
pub fn build(profile: &AmdProfile, boards: &[Arc<Board>]) -> io::Result<Vec<Gpu>> {
    let memories = boards.iter().map(|_| Vram::new(profile.vram)).collect::<io::Result<Vec<_>>>()?;
    let all = Arc::new(memories.clone());
    let devices = boards.iter().zip(memories).enumerate().map(|(node, (board, own))| {
        let hive = if profile.hive { Hive::new(node, all.clone()) } else { Hive::new(0, Arc::new(vec![own])) };
        Gpu::new(profile.asic, board.clone(), hive, profile.tlb)
    });
    devices.collect()
}
