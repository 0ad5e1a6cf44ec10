//! More memory than VRAM: every call succeeds, and nothing is lost.

use drm_pagemap::Buffer;
use drm_pagemap::kfd::SvmAttribute;

use super::bench::Kfd;
use crate::harness::{Context, Need, Test, TestResult, overcommitted};
use crate::placement::{device_bytes, word_at};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "kfd/KFDSVMRangeTest.VramOvercommitTest",
        needs: &[Need::Kfd, Need::Vram, Need::Overcommit],
        run: overcommit,
    },
    Test {
        name: "kfd/KFDSVMRangeTest.VramOvercommitGiantRangeTest",
        needs: &[Need::Kfd, Need::Vram, Need::Overcommit],
        run: giant_range,
    },
];

/// A word in each page is enough.
const SPARSE: usize = 512;

fn sparse(bytes: u64) -> Result<Buffer<u64>, drm_pagemap::Error> {
    let mut data = Buffer::zeroed(bytes as usize / 8)?;
    for index in (0..data.len()).step_by(SPARSE) {
        data[index] = word_at(index);
    }
    Ok(data)
}

fn assert_sparse(data: &[u64]) {
    let wrong = (0..data.len()).step_by(SPARSE).find(|&index| data[index] != word_at(index));
    assert_eq!(wrong, None, "first wrong word");
}

fn overcommit(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let vram = context.gpu().vram_regions()[0].size();
    let pieces: Vec<_> = (0..12).map(|_| sparse(vram / 8)).collect::<Result<_, _>>()?;
    for piece in &pieces {
        kfd.set(piece.range(), &[SvmAttribute::Access(kfd.id()), SvmAttribute::Prefetch(kfd.here())])?;
    }
    let mut resident = 0;
    for piece in &pieces {
        resident += device_bytes(piece.range())?;
    }
    assert!(resident <= vram && resident >= vram / 2, "{resident} bytes in {vram} bytes of VRAM");
    let last = &pieces[pieces.len() - 1];
    assert_eq!(device_bytes(last.range())?, last.range().len(), "the last one that came is there");
    pieces.iter().for_each(|piece| assert_sparse(piece));
    Ok(())
}

fn giant_range(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let data = sparse(overcommitted(context.gpu()))?;
    kfd.set(data.range(), &[SvmAttribute::Access(kfd.id()), SvmAttribute::Prefetch(kfd.here())])?;
    let vram = context.gpu().vram_regions()[0].size();
    assert!(device_bytes(data.range())? <= vram);
    assert_sparse(&data);
    Ok(())
}
