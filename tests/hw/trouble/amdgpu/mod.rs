//! Trouble with a real amdgpu on a virtual device. Resets spoil the driver, so tests of them run in a guest of their own.

mod resets;
mod vram;

use drm_pagemap::device::KfdGpu;
use drm_pagemap::{Device, Gpu};

use crate::harness::Test;

pub(crate) const TESTS: &[&[Test]] = &[vram::TESTS, resets::TESTS];

fn kfd(gpu: &Gpu) -> &KfdGpu {
    match gpu.device() {
        Device::Kfd(kfd) => kfd,
        other => unreachable!("the tests need KFD: {other:?}"),
    }
}
