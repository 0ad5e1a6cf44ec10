//! Two GPUs and the same memory.

use drm_pagemap::Buffer;
use drm_pagemap::kfd::{Location, SvmAttribute};
use drm_pagemap::range::SIZE_2M;

use super::bench::Kfd;
use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "kfd/KFDSVMRangeTest.MultiGPUMigrationTest",
        needs: &[Need::Kfd, Need::TwoGpus, Need::Vram],
        run: migration,
    },
    Test {
        name: "kfd/KFDSVMRangeTest.MultiGPUAccessInPlaceTest",
        needs: &[Need::Kfd, Need::TwoGpus, Need::Vram],
        run: access_in_place,
    },
    Test {
        name: "kfd/several_gpus/access_of_both_keeps_memory_from_unlinked_vram",
        needs: &[Need::Kfd, Need::TwoGpus, Need::Vram],
        run: degrades_without_a_hive,
    },
];

fn migration(context: &Context) -> TestResult {
    let gpus = [Kfd::of(context.gpu())?, Kfd::of(context.peer())?];
    let (first, second) = (filled(SIZE_2M as usize)?, Buffer::<u64>::zeroed(SIZE_2M as usize / 8)?);
    let mut buffers = [first.range(), second.range()];
    for round in 0..4 {
        let kfd = &gpus[round % 2];
        let other = &gpus[(round + 1) % 2];
        for range in buffers {
            // Who had it last has no say in where it goes now.
            kfd.set(range, &[SvmAttribute::NoAccess(other.id())])?;
            kfd.place(range)?;
        }
        kfd.engine()?.copy(buffers[0].start(), buffers[1].start(), SIZE_2M)?;
        buffers.swap(0, 1);
    }
    assert_intact(&first);
    assert_intact(&second);
    Ok(())
}

fn access_in_place(context: &Context) -> TestResult {
    let (one, two) = (Kfd::of(context.gpu())?, Kfd::of(context.peer())?);
    let (data, copy) =
        (Buffer::<u64>::zeroed(SIZE_2M as usize / 8)?, Buffer::<u64>::zeroed(SIZE_2M as usize / 8)?);
    for range in [data.range(), copy.range()] {
        one.set(range, &[SvmAttribute::AccessInPlace(one.id()), SvmAttribute::AccessInPlace(two.id())])?;
    }
    let (mut first, mut second) = (one.engine()?, two.engine()?);
    for value in 1..=4u32 {
        first.fill(data.range(), value)?;
        second.copy(data.range().start(), copy.range().start(), SIZE_2M)?;
        assert!(copy.iter().all(|&word| word == u64::from(value) << 32 | u64::from(value)));
        std::mem::swap(&mut first, &mut second);
    }
    Ok(())
}

fn degrades_without_a_hive(context: &Context) -> TestResult {
    let (one, two) = (Kfd::of(context.gpu())?, Kfd::of(context.peer())?);
    let data = filled(SIZE_2M as usize)?;
    let both = [SvmAttribute::AccessInPlace(one.id()), SvmAttribute::AccessInPlace(two.id())];
    one.set(data.range(), &both)?;
    one.prefetch(data.range(), one.here())?;
    let linked = one.hive()?.is_some() && one.hive()? == two.hive()?;
    let expected = if linked { SIZE_2M } else { 0 };
    assert_eq!(device_bytes(data.range())?, expected, "in VRAM only where both GPUs reach it there");
    assert_intact(&data);
    one.prefetch(data.range(), Location::System)
}
