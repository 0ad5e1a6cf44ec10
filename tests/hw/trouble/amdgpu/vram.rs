//! VRAM that other things fill.

use drm_pagemap::Cause;
use drm_pagemap::kfd::MemoryKind;
use drm_pagemap::range::SIZE_2M;

use super::kfd;
use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled};

pub(super) const TESTS: &[Test] = &[Test {
    name: "trouble/amdgpu/vram_full_of_memory_objects",
    needs: &[Need::Kfd, Need::Vram, Need::RealDevice],
    run: vram_full_of_memory_objects,
}];

fn vram_full_of_memory_objects(context: &Context) -> TestResult {
    let gpu = context.gpu();
    let mirror = gpu.mirror()?;
    let data = filled(2 * SIZE_2M as usize)?;
    let range = data.range();
    let process = kfd(gpu).process();
    let id = kfd(gpu).id();
    // As large as can be had, then smaller and smaller ones, until nothing is left.
    let mut objects = Vec::new();
    let mut size = process.available_memory(id)?.next_power_of_two();
    while size >= SIZE_2M {
        match process.allocate(id, size as usize, MemoryKind::Vram) {
            Ok(object) => objects.push(object),
            Err(_) => size /= 2,
        }
    }
    assert!(process.available_memory(id)? < SIZE_2M);

    let outcome = mirror.prefetch(&data).to(gpu.vram()).run()?;
    let resident = device_bytes(range)?;
    assert_eq!((outcome.moved(), outcome.not_moved()), (resident, range.len() - resident), "{outcome}");
    if outcome.is_complete() {
        // TTM made room by moving memory objects of ours out of VRAM.
        println!("the driver made room");
    } else {
        assert!(outcome.refusals().iter().all(|refusal| refusal.cause == Cause::NoVram), "{outcome}");
        assert!(outcome.retry_useful(), "{outcome}");
    }
    assert_intact(&data);

    drop(objects);
    let outcome = mirror.prefetch(&data).to(gpu.vram()).run()?;
    assert!(outcome.is_complete(), "there is room again: {outcome}");
    assert_intact(&data);
    Ok(())
}
