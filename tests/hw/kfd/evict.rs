//! Several processes want more VRAM than there is: nothing fails, and nothing is lost.

use drm_pagemap::Buffer;
use drm_pagemap::kfd::SvmAttribute;
use drm_pagemap::range::SIZE_2M;

use super::bench::Kfd;
use crate::harness::{Context, Need, Test, TestResult, overcommitted};
use crate::placement::{assert_intact, filled};

const BASIC: &str = "kfd/KFDSVMEvictTest.BasicTest";
const QUEUE: &str = "kfd/KFDSVMEvictTest.QueueTest";

pub(super) const TESTS: &[Test] = &[
    Test { name: BASIC, needs: &[Need::Kfd, Need::RealDevice, Need::Vram, Need::Overcommit], run: basic },
    Test { name: QUEUE, needs: &[Need::Kfd, Need::RealDevice, Need::Vram, Need::Overcommit], run: queue },
];

const PROCESSES: usize = 2;
/// In each, a process takes VRAM from the others; one more shows that what was taken can be had again.
const ROUNDS: usize = 2;

fn basic(context: &Context) -> TestResult {
    context.in_own_processes(PROCESSES, BASIC, |context| contend(context, false))
}

fn queue(context: &Context) -> TestResult {
    context.in_own_processes(PROCESSES, QUEUE, |context| contend(context, true))
}

/// One process's share of half as much again as there is VRAM, prefetched over and over against the others.
fn contend(context: &Context, with_queue: bool) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let bytes = overcommitted(context.gpu()) / PROCESSES as u64;
    let data = filled(bytes as usize)?;
    let seen = Buffer::<u64>::zeroed(SIZE_2M as usize / 8)?;
    kfd.set(seen.range(), &[SvmAttribute::AccessInPlace(kfd.id())])?;
    kfd.grant(data.range())?;
    let mut engine = if with_queue { Some(kfd.engine()?) } else { None };
    for round in 0..ROUNDS {
        kfd.prefetch(data.range(), kfd.here())?;
        let Some(engine) = &mut engine else { continue };
        let offset = ((bytes - SIZE_2M) / ROUNDS as u64 * round as u64) & !(SIZE_2M - 1);
        engine.copy(data.range().start() + offset, seen.range().start(), SIZE_2M)?;
        let first = (offset / 8) as usize;
        let wrong = (0..seen.len()).find(|&index| seen[index] != crate::placement::word_at(first + index));
        assert_eq!(wrong, None, "round {round}: first word that the GPU read wrongly");
    }
    drop(engine);
    assert_intact(&data);
    Ok(())
}
