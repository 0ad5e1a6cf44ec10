//! Trouble with a real amdgpu on a virtual device. Resets and removal spoil the driver, or end the process, so each such test
//! has a guest of its own.

mod removal;
mod resets;
mod vram;

use drm_pagemap::device::KfdGpu;
use drm_pagemap::{Device, Gpu};

use crate::harness::Test;

pub(crate) const TESTS: &[&[Test]] = &[vram::TESTS, resets::TESTS, removal::TESTS];

fn kfd(gpu: &Gpu) -> &KfdGpu {
    match gpu.device() {
        Device::Kfd(kfd) => kfd,
        other => unreachable!("the tests need KFD: {other:?}"),
    }
}
