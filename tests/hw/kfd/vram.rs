//! Memory in VRAM, used there by the GPU.

use drm_pagemap::kfd::{Agreed, Granularity, MemoryExceptions, SvmAttribute, SvmFlags};
use drm_pagemap::range::{SIZE_2M, page_size};
use drm_pagemap::{Buffer, PageRange};

use super::bench::{Engine, Kfd, part};
use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled, word_at};

pub(super) const TESTS: &[Test] = &[
    Test { name: "kfd/KFDSVMRangeTest.BasicVramTest", needs: &[Need::Kfd, Need::Vram], run: basic_vram },
    Test { name: SPLIT, needs: &[Need::Kfd, Need::Vram], run: split_vram_range },
    Test { name: SURROUNDINGS, needs: &[Need::Kfd, Need::Vram], run: surroundings },
    Test {
        name: "kfd/vram/a_prefetch_is_repeated_by_later_attributes",
        needs: &[Need::Kfd, Need::Vram],
        run: sticky_prefetch,
    },
];

fn basic_vram(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let (source, target) = (filled(SIZE_2M as usize)?, Buffer::<u64>::zeroed(SIZE_2M as usize / 8)?);
    kfd.place(source.range())?;
    kfd.place(target.range())?;
    kfd.engine()?.copy(source.range().start(), target.range().start(), SIZE_2M)?;
    assert_eq!(device_bytes(target.range())?, SIZE_2M, "the copy was made in VRAM");
    assert_intact(&target);
    assert_intact(&source);
    Ok(())
}

/// Has the engine copy all of `from`, of which a part got attributes of its own. A driver that maps a large page anew for that may
/// leave some of it out: it begins at one of the pages `at`.
fn copy_or_skip(
    engine: &mut Engine,
    violations: &MemoryExceptions,
    from: PageRange,
    to: PageRange,
    at: &[u64],
) -> TestResult {
    let mut packets = engine.packets();
    packets.copy(from.start(), to.start(), from.len());
    let Some(violation) = engine.run_or_violate(&packets, violations)? else { return Ok(()) };
    let page = violation.address.wrapping_sub(from.start()) / page_size();
    assert!(at.contains(&page), "{violation:?} of {from}");
    skip!(
        "this kernel unmaps what lies around the part from the GPU, which has just failed at page {page} there; XNACK is off"
    );
}

const SPLIT: &str = "kfd/KFDSVMRangeTest.SplitVramRangeTest";

/// Three large pages; a part from inside the first into the second gets attributes of its own.
fn split_vram_range(context: &Context) -> TestResult {
    const LEN: u64 = 3 * SIZE_2M;
    // The kernel runs no queue of a process whose GPU committed a violation.
    context.in_own_process(SPLIT, |context| {
        let kfd = Kfd::of(context.gpu())?;
        let (source, target) = (filled(LEN as usize)?, Buffer::<u64>::zeroed(LEN as usize / 8)?);
        let (from, page) = (source.range(), page_size());
        kfd.place(from)?;
        kfd.grant(target.range())?;
        let middle = part(from, 100 * page, 512 * page);
        let read_mostly = SvmAttribute::SetFlags(SvmFlags::GPU_READ_MOSTLY);
        kfd.set(middle, &[read_mostly, SvmAttribute::Granularity(Granularity::PAGE)])?;
        assert_eq!(kfd.attributes(middle)?.granularity, Granularity::PAGE);
        assert_eq!(kfd.attributes(part(from, 0, 100 * page))?.granularity, Granularity::from_pages_log2(9));
        let violations = kfd.process().memory_exceptions()?;
        let mut engine = kfd.engine()?;
        // The pages of a large one that the part begins or ends in.
        copy_or_skip(&mut engine, &violations, from, target.range(), &[0, 512, 612])?;
        assert_intact(&target);
        assert_eq!(device_bytes(from)?, from.len(), "a split moves nothing");
        // A touch in the middle brings back one page, and the GPU goes on with all of them.
        assert_eq!(
            std::hint::black_box(&source)[(128 * page / 8) as usize],
            word_at((128 * page / 8) as usize)
        );
        assert_eq!(device_bytes(from)?, from.len() - page);
        engine.copy(from.start(), target.range().start(), from.len())?;
        assert_intact(&target);
        assert_intact(&source);
        Ok(())
    })
}

const SURROUNDINGS: &str = "kfd/vram/a_part_of_a_large_page_leaves_its_surroundings_mapped";

/// `svm_range_split_tail` (`kfd_svm.c`) of Linux 7.3 looks for a large page in what is left behind the head that was split off before
/// it, and what lies behind the part is unmapped. On 6.18 so is what lies before it.
fn surroundings(context: &Context) -> TestResult {
    // The kernel runs no queue of a process whose GPU committed a violation.
    context.in_own_process(SURROUNDINGS, |context| {
        let kfd = Kfd::of(context.gpu())?;
        let page = page_size();
        let (source, target) = (filled(2 * SIZE_2M as usize)?, Buffer::<u64>::zeroed(SIZE_2M as usize / 8)?);
        let from = part(source.range().align_inward(SIZE_2M), 0, SIZE_2M);
        kfd.place(from)?;
        kfd.grant(target.range())?;
        let violations = kfd.process().memory_exceptions()?;
        let mut engine = kfd.engine()?;
        engine.copy(from.start(), target.range().start(), from.len())?;
        kfd.set(part(from, 100 * page, 56 * page), &[SvmAttribute::SetFlags(SvmFlags::GPU_READ_MOSTLY)])?;
        copy_or_skip(&mut engine, &violations, from, target.range(), &[0, 156])?;
        let first = ((from.start() - source.range().start()) / 8) as usize;
        assert!(target.iter().enumerate().all(|(index, &word)| word == word_at(first + index)));
        assert_intact(&source);
        Ok(())
    })
}

fn sticky_prefetch(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let data = filled(SIZE_2M as usize)?;
    let range = data.range();
    kfd.place(range)?;
    assert_intact(&data);
    assert_eq!(device_bytes(range)?, 0);
    kfd.set(range, &[SvmAttribute::SetFlags(SvmFlags::GPU_READ_MOSTLY)])?;
    assert_eq!(device_bytes(range)?, SIZE_2M, "the prefetch is still in force");
    kfd.prefetch(range, drm_pagemap::kfd::Location::System)?;
    assert_eq!(kfd.attributes(range)?.prefetch, Agreed::Uniform(drm_pagemap::kfd::Location::System));
    kfd.set(range, &[SvmAttribute::ClearFlags(SvmFlags::GPU_READ_MOSTLY)])?;
    assert_eq!(device_bytes(range)?, 0, "until one to system memory");
    assert_intact(&data);
    Ok(())
}
