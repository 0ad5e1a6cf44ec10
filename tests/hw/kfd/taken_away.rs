//! Access that is taken away again.

use drm_pagemap::kfd::SvmAttribute;
use drm_pagemap::range::page_size;
use nix::sys::mman::MapFlags;

use super::bench::Kfd;
use crate::harness::{Context, Need, Test, TestResult, unmaps_what_loses_access};
use crate::mapping::Mapping;

const NAME: &str = "kfd/access/taken_away_is_no_longer_mapped";

pub(super) const TESTS: &[Test] = &[Test { name: NAME, needs: &[Need::Kfd], run: taken_away }];

fn taken_away(context: &Context) -> TestResult {
    // The kernel runs no queue of a process whose GPU committed a violation.
    context.in_own_process(NAME, |context| {
        let kfd = Kfd::of(context.gpu())?;
        // Pages that are there for as long as the second mapping is, whatever the GPU reaches.
        let (file, len) = (tempfile::tempfile().expect("a temporary file"), page_size() as usize);
        file.set_len(len as u64).expect("room for the file");
        let given = Mapping::of_file(&file, len, MapFlags::MAP_SHARED).expect("memory");
        let mut kept = Mapping::of_file(&file, len, MapFlags::MAP_SHARED).expect("the same memory");
        let range = given.range();
        // Where it is: what moves between GPU and CPU loses its mapping at each touch.
        kfd.set(range, &[SvmAttribute::AccessInPlace(kfd.id())])?;
        let violations = kfd.process().memory_exceptions()?;
        let mut engine = kfd.engine()?;
        engine.fence(range.start(), 1)?;
        assert_eq!(kept.words()[0], 1);

        kfd.set(range, &[SvmAttribute::NoAccess(kfd.id())])?;
        let mut packets = engine.packets();
        packets.fence(range.start(), 2)?;
        let violation = engine.run_or_violate(&packets, &violations)?;
        if !unmaps_what_loses_access(context.gpu()) {
            assert_eq!((violation, kept.words()[0]), (None, 2), "this kernel is known to leave the mapping");
            drop(given);
            engine.fence(range.start(), 3)?;
            assert_eq!(
                kept.words()[0],
                3,
                "this kernel is known to leave it even when the memory is unmapped"
            );
            skip!("this kernel's amdgpu leaves mapped what a GPU loses access to (before Linux 7.3)");
        }
        let violation = violation.expect("the GPU may not write there");
        assert_eq!((violation.gpu, violation.address), (Some(kfd.id()), range.start()), "{violation:?}");
        assert_eq!(kept.words()[0], 1);
        Ok(())
    })
}
