//! Memory that may not be written: the GPU reads it, and commits a violation when it writes.

use drm_pagemap::Buffer;
use drm_pagemap::range::page_size;
use nix::sys::mman::{MapFlags, ProtFlags};

use super::bench::{HANG, Kfd};
use crate::harness::{Context, Need, Test, TestResult};
use crate::mapping::Mapping;
use crate::placement::{assert_intact, fill};

const NAME: &str = "kfd/KFDSVMRangeTest.ReadOnlyRangeTest";

pub(super) const TESTS: &[Test] = &[Test { name: NAME, needs: &[Need::Kfd], run: read_only_range }];

fn read_only_range(context: &Context) -> TestResult {
    // The kernel runs no queue of a process whose GPU committed a violation.
    context.in_own_process(NAME, |context| {
        let kfd = Kfd::of(context.gpu())?;
        let len = 4 * page_size() as usize;
        let mut memory = Mapping::anonymous(len, MapFlags::MAP_PRIVATE).expect("memory");
        fill(memory.words());
        memory.protect(0..len, ProtFlags::PROT_READ);
        let range = memory.range();
        kfd.grant(range)?;
        let target = Buffer::<u64>::zeroed(len / 8)?;
        kfd.grant(target.range())?;
        let violations = kfd.process().memory_exceptions()?;
        let mut engine = kfd.engine()?;
        engine.copy(range.start(), target.range().start(), range.len())?;
        assert_intact(&target);

        let address = range.start() + page_size();
        let mut packets = engine.packets();
        packets.write(address, &[7])?;
        engine.start(&packets)?;
        let violation = violations.wait(Some(HANG))?.expect("the GPU may not write there");
        assert_eq!((violation.gpu, violation.address), (Some(kfd.id()), address), "{violation:?}");
        memory.protect(0..len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        assert_intact(memory.words());
        Ok(())
    })
}
