//! There and back, by prefetch, by the GPU and by the CPU.

use drm_pagemap::Buffer;
use drm_pagemap::kfd::{Granularity, Location, SvmAttribute, Xnack};
use drm_pagemap::range::{SIZE_2M, page_size};

use super::bench::{Kfd, part};
use crate::harness::{Context, Need, Test, TestResult, available_memory};
use crate::placement::{assert_intact, device_bytes, fill, filled, word_at};

pub(super) const TESTS: &[Test] = &[
    Test { name: "kfd/KFDSVMRangeTest.MigrateTest", needs: &[Need::Kfd, Need::Vram], run: migrate },
    Test {
        name: "kfd/KFDSVMRangeTest.MigrateAccessInPlaceTest",
        needs: &[Need::Kfd, Need::Vram],
        run: access_in_place,
    },
    Test {
        name: "kfd/KFDSVMRangeTest.MigrateGranularityTest",
        needs: &[Need::Kfd, Need::Vram],
        run: granularity,
    },
    Test {
        name: "kfd/KFDSVMRangeTest.MigrateLargeBufTest",
        needs: &[Need::Kfd, Need::Vram],
        run: large_buffer,
    },
    Test { name: "kfd/KFDSVMRangeTest.MigratePolicyTest", needs: &[Need::Kfd, Need::Vram], run: policy },
    Test {
        name: "kfd/KFDSVMRangeTest.MultiThreadMigrationTest",
        needs: &[Need::Kfd, Need::Vram],
        run: several_threads,
    },
];

fn migrate(context: &Context) -> TestResult {
    const LEN: usize = 16 << 20;
    let kfd = Kfd::of(context.gpu())?;
    let (source, target) = (filled(LEN)?, Buffer::<u64>::zeroed(LEN / 8)?);
    for _ in 0..8 {
        kfd.place(source.range())?;
        kfd.place(target.range())?;
        kfd.prefetch(source.range(), Location::System)?;
        kfd.prefetch(target.range(), Location::System)?;
        assert_eq!(device_bytes(source.range())? + device_bytes(target.range())?, 0);
    }
    kfd.engine()?.copy(source.range().start(), target.range().start(), LEN as u64)?;
    assert_intact(&target);
    assert_intact(&source);
    Ok(())
}

fn access_in_place(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let mut data = filled(SIZE_2M as usize)?;
    let range = data.range();
    kfd.set_until_placed(range, SvmAttribute::AccessInPlace(kfd.id()))?;
    let mut engine = kfd.engine()?;
    engine.fill(range, 1)?;
    assert_eq!(device_bytes(range)?, SIZE_2M, "the GPU used it where it is");
    fill(&mut data);
    assert_eq!(device_bytes(range)?, 0, "the CPU took it back");
    engine.fill(range, 2)?;
    assert_eq!(device_bytes(range)?, 0, "the GPU uses it where it is now");
    assert!(data.iter().all(|&word| word == 0x0000_0002_0000_0002));
    Ok(())
}

fn granularity(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let page = page_size();
    // One block of 2 MiB with small pages around the word that is touched.
    let data = filled(3 * SIZE_2M as usize)?;
    let block = data.range().align_inward(SIZE_2M);
    let block = part(block, 0, SIZE_2M);
    let target = Buffer::<u64>::zeroed(page as usize / 8)?;
    kfd.set(target.range(), &[SvmAttribute::AccessInPlace(kfd.id())])?;
    let mut engine = kfd.engine()?;
    let touched = block.start() + 300 * page;
    for log2 in (0..=9).rev() {
        let moved = page << log2;
        kfd.set(
            block,
            &[
                SvmAttribute::Granularity(Granularity::from_pages_log2(log2)),
                SvmAttribute::Access(kfd.id()),
                SvmAttribute::Prefetch(Location::System),
            ],
        )?;
        assert_eq!(device_bytes(block)?, 0);
        engine.copy(touched, target.range().start(), 64)?;
        let index = ((touched - data.range().start()) / 8) as usize;
        assert_eq!(target[..8], [0, 1, 2, 3, 4, 5, 6, 7].map(|word| word_at(index + word)));
        if kfd.xnack == Xnack::On {
            assert_eq!(device_bytes(block)?, moved, "the GPU's touch moved one unit of 2^{log2} pages");
        }
        kfd.prefetch(block, kfd.here())?;
        assert_eq!(device_bytes(block)?, SIZE_2M);
        assert_eq!(std::hint::black_box(&data)[index], word_at(index));
        assert_eq!(device_bytes(block)?, SIZE_2M - moved, "the CPU's touch moved one unit of 2^{log2} pages");
    }
    assert_intact(&data);
    Ok(())
}

fn large_buffer(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let bytes = (context.gpu().vram_regions()[0].size() / 2).min(1 << 30);
    let available = available_memory();
    if available < 3 * bytes {
        skip!("needs {} bytes of free system memory; {available} are free", 3 * bytes);
    }
    let (source, target) = (filled(bytes as usize)?, Buffer::<u64>::zeroed(bytes as usize / 8)?);
    kfd.grant(target.range())?;
    let mut engine = kfd.engine()?;
    // System memory to VRAM by prefetch, VRAM to system memory by the engine, and the other way round.
    kfd.place(source.range())?;
    engine.copy(source.range().start(), target.range().start(), bytes)?;
    assert_intact(&target);
    kfd.prefetch(source.range(), Location::System)?;
    kfd.place(target.range())?;
    engine.fill(target.range(), 0)?;
    engine.copy(source.range().start(), target.range().start(), bytes)?;
    assert_intact(&target);
    assert_intact(&source);
    Ok(())
}

fn policy(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let mut data = Buffer::<u64>::zeroed(SIZE_2M as usize / 8)?;
    let seen = Buffer::<u64>::zeroed(SIZE_2M as usize / 8)?;
    kfd.grant(seen.range())?;
    let mut engine = kfd.engine()?;
    for round in 0..4u32 {
        kfd.place(data.range())?;
        engine.fill(data.range(), round)?;
        for word in data.iter_mut() {
            assert_eq!(*word, u64::from(round) << 32 | u64::from(round));
            *word += 1;
        }
        engine.copy(data.range().start(), seen.range().start(), SIZE_2M)?;
        assert!(
            seen.iter().all(|&word| word == (u64::from(round) << 32 | u64::from(round)) + 1),
            "round {round}"
        );
    }
    Ok(())
}

fn several_threads(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let page = page_size();
    let data = Buffer::<u64>::zeroed(2 * SIZE_2M as usize / 8)?;
    let range = data.range();
    kfd.grant(range)?;
    let mut engine = kfd.engine()?;
    for round in 1..=8u32 {
        kfd.prefetch(range, Location::System)?;
        let mut packets = engine.packets();
        for offset in (0..range.len()).step_by(page as usize) {
            packets.write(range.start() + offset, &[round])?;
        }
        std::thread::scope(|scope| {
            let prefetch =
                scope.spawn(|| kfd.process().set_attributes(range, &[SvmAttribute::Prefetch(kfd.here())]));
            let written = engine.run(&packets);
            prefetch.join().expect("the thread ends")?;
            written
        })?;
        let word = |offset: u64| data[(offset / 8) as usize];
        let wrong = (0..range.len()).step_by(page as usize).find(|&offset| word(offset) != u64::from(round));
        assert_eq!(wrong, None, "round {round}: the page at this offset lost what the GPU wrote");
    }
    Ok(())
}
