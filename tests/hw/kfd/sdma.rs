//! The GPU writes to, copies from and fences on memory of a plain `Vec`, before and after it is prefetched.

use drm_pagemap::kfd::{Location, SvmAttribute};
use drm_pagemap::range::SIZE_2M;
use drm_pagemap::{Gpu, PageRange};

use super::bench::{Engine, Kfd};
use crate::harness::{Context, Need, Test, TestResult, unmaps_what_loses_access};
use crate::placement::{assert_intact, device_bytes, fill};

pub(super) const TESTS: &[Test] = &[
    Test { name: "kfd/sdma/on_a_vec_where_it_is", needs: &[Need::Kfd], run: where_it_is },
    Test { name: "kfd/sdma/on_a_vec_in_vram", needs: &[Need::Kfd, Need::Vram], run: in_vram },
    Test { name: "kfd/sdma/on_a_vec_back_in_system_memory", needs: &[Need::Kfd, Need::Vram], run: back },
];

/// What a `Vec` has to itself, as words: its first and last page may hold other things of the allocator.
fn own(data: &[u32]) -> (PageRange, usize) {
    let own = PageRange::inside(data);
    (own, ((own.start() - data.as_ptr() as u64) / 4) as usize)
}

/// Writes a few words, fills a page, copies a page from a second `Vec`, and fences, all inside memory of `Vec`s.
fn use_all(engine: &mut Engine, data: &[u32], source: &[u64], round: u32) -> TestResult {
    let (target, first) = own(data);
    let from = PageRange::inside(source);
    let mut packets = engine.packets();
    packets.write(target.start() + 16, &[round, round + 1, round + 2])?;
    packets.fill(target.start() + 4096, round, 4096)?;
    packets.copy(from.start(), target.start() + 8192, 4096);
    packets.fence(target.start() + 64, round ^ 0xffff)?;
    engine.run(&packets)?;
    engine.fence(target.end() - 4, round)?;
    let words = &data[first..];
    assert_eq!(words[4..7], [round, round + 1, round + 2]);
    assert_eq!(words[16], round ^ 0xffff);
    assert!(words[1024..2048].iter().all(|&word| word == round));
    let offset = ((from.start() - source.as_ptr() as u64) / 8) as usize;
    assert_eq!(
        bytemuck::cast_slice::<u32, u8>(&words[2048..3072]),
        bytemuck::cast_slice::<u64, u8>(&source[offset..offset + 512])
    );
    assert_eq!(words[(target.len() / 4) as usize - 1], round);
    Ok(())
}

fn vectors() -> (Vec<u32>, Vec<u64>) {
    let mut source = vec![0; (SIZE_2M / 8) as usize + 5];
    fill(&mut source);
    (vec![0; 2 * (SIZE_2M / 4) as usize + 7], source)
}

/// The pages are the allocator's: they go back to how they were found, where the driver can do that.
fn leave(kfd: &Kfd<'_>, gpu: &Gpu, ranges: &[PageRange]) -> TestResult {
    for &range in ranges {
        // Not in one call: what takes the last mapping away leaves the range where it is.
        kfd.prefetch(range, Location::System)?;
        if unmaps_what_loses_access(gpu) {
            kfd.set(range, &[SvmAttribute::NoAccess(kfd.id())])?;
        }
        assert_eq!(device_bytes(range)?, 0);
    }
    Ok(())
}

fn where_it_is(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let (data, source) = vectors();
    let ranges = [own(&data).0, PageRange::inside(&source)];
    for range in ranges {
        kfd.grant(range)?;
    }
    let mut engine = kfd.engine()?;
    use_all(&mut engine, &data, &source, 7)?;
    use_all(&mut engine, &data, &source, 8)?;
    drop(engine);
    leave(&kfd, context.gpu(), &ranges)?;
    assert_intact(&source);
    Ok(())
}

fn in_vram(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let (data, source) = vectors();
    let ranges = [own(&data).0, PageRange::inside(&source)];
    for range in ranges {
        kfd.place(range)?;
    }
    let mut engine = kfd.engine()?;
    let mut packets = engine.packets();
    packets.fence(ranges[0].start(), 0x1234_5678)?;
    engine.run(&packets)?;
    assert_eq!(device_bytes(ranges[0])?, ranges[0].len(), "the GPU wrote in VRAM");
    use_all(&mut engine, &data, &source, 9)?;
    assert_eq!(data[own(&data).1], 0x1234_5678);
    drop(engine);
    leave(&kfd, context.gpu(), &ranges)?;
    assert_intact(&source);
    Ok(())
}

fn back(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let (data, source) = vectors();
    let ranges = [own(&data).0, PageRange::inside(&source)];
    let mut engine = kfd.engine()?;
    for round in 0..3 {
        for range in ranges {
            kfd.place(range)?;
        }
        use_all(&mut engine, &data, &source, 10 + round)?;
        for range in ranges {
            kfd.prefetch(range, Location::System)?;
            assert_eq!(device_bytes(range)?, 0);
        }
        use_all(&mut engine, &data, &source, 20 + round)?;
    }
    drop(engine);
    leave(&kfd, context.gpu(), &ranges)?;
    assert_intact(&source);
    Ok(())
}
