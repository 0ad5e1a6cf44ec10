//! Budgets against the driver's own figures, with more data than VRAM: earlier work stays where it was put, unless asked for.

use std::sync::Arc;

use drm_pagemap::budget::Policy;
use drm_pagemap::range::SIZE_2M;
use drm_pagemap::{Budget, Buffer, Cause, Error, ErrorKind, Mirror, Prefetcher};

use crate::causes::assert_tells;
use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{device_bytes, word_at};

const NEEDS: &[Need] = &[Need::Vram, Need::Overcommit];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "budget/refuse", needs: NEEDS, run: refuse },
    Test { name: "budget/split", needs: NEEDS, run: split },
    Test { name: "budget/evict", needs: NEEDS, run: evict },
    Test { name: "budget/in_a_prefetcher", needs: NEEDS, run: in_a_prefetcher },
    Test { name: "budget/the_drivers_figure", needs: &[Need::Vram], run: the_drivers_figure },
];

/// Words between those that are written and checked.
const SPARSE: usize = 512;

fn filled(bytes: u64) -> Result<Buffer<u64>, Error> {
    let mut data = Buffer::zeroed(bytes as usize / 8)?;
    (0..data.len()).step_by(SPARSE).for_each(|index| data[index] = word_at(index));
    Ok(data)
}

fn assert_intact(data: &[u64]) {
    let wrong = (0..data.len()).step_by(SPARSE).find(|&index| data[index] != word_at(index));
    assert_eq!(wrong, None, "first wrong word");
}

/// Two pieces of work that do not fit into VRAM together.
struct Work {
    mirror: Arc<Mirror>,
    vram: u64,
    budget: Budget,
    older: Buffer<u64>,
    newer: Buffer<u64>,
}

impl Work {
    /// The older one is in VRAM.
    fn begun(context: &Context, policy: Policy) -> Result<Self, Error> {
        let region = &context.gpu().vram_regions()[0];
        let vram = region.size();
        let mirror = Arc::new(context.gpu().mirror()?);
        // What the driver needs for page tables and its own copies comes and goes.
        let budget = Budget::new(region)?.with_policy(policy).keep_free(vram / 16);
        let part = (vram / 8 * 5).next_multiple_of(SIZE_2M);
        let (older, newer) = (filled(part)?, filled(part)?);
        let outcome = budget.prefetch(&mirror, &older)?;
        assert!(outcome.is_complete(), "{outcome}");
        assert_eq!(device_bytes(older.range())?, part);
        Ok(Self { mirror, vram, budget, older, newer })
    }

    fn finish(self) -> TestResult {
        assert_intact(&self.older);
        assert_intact(&self.newer);
        assert_eq!(self.budget.reconcile()?, 0, "everything was touched");
        Ok(())
    }
}

fn refuse(context: &Context) -> TestResult {
    let work = Work::begun(context, Policy::Refuse)?;
    let error = work.budget.prefetch(&work.mirror, &work.newer).unwrap_err();
    assert_eq!((error.kind(), error.range()), (ErrorKind::OutOfVram, Some(work.newer.range())), "{error}");
    assert!(error.hint().is_some(), "{error}");
    assert_eq!(device_bytes(work.older.range())?, work.older.range().len(), "nothing was evicted");
    assert_eq!(device_bytes(work.newer.range())?, 0);
    // Once the older work is sent back, there is room.
    let back = work.mirror.prefetch(&work.older).to_system().run()?;
    assert!(back.is_complete(), "{back}");
    let outcome = work.budget.prefetch(&work.mirror, &work.newer)?;
    assert!(outcome.is_complete(), "{outcome}");
    work.finish()
}

fn split(context: &Context) -> TestResult {
    let work = Work::begun(context, Policy::Split)?;
    let outcome = work.budget.prefetch(&work.mirror, &work.newer)?;
    assert_tells(&outcome, Cause::NoVram);
    assert!(outcome.moved() >= work.vram / 8, "what is free is used: {outcome}");
    assert_eq!(outcome.refusals().len(), 1, "the end of it: {outcome}");
    assert_eq!(outcome.refusals()[0].range.end(), work.newer.range().end());
    assert_eq!(device_bytes(work.older.range())?, work.older.range().len(), "nothing was evicted");
    assert_eq!(device_bytes(work.newer.range())?, outcome.moved());
    work.finish()
}

fn evict(context: &Context) -> TestResult {
    let work = Work::begun(context, Policy::Evict)?;
    let outcome = work.budget.prefetch(&work.mirror, &work.newer)?;
    assert!(outcome.is_complete(), "{outcome}");
    let left = device_bytes(work.older.range())?;
    assert!(left > 0 && left < work.older.range().len(), "as much as was needed went: {left}");
    assert!(left + work.newer.range().len() >= work.vram / 4 * 3, "and no more than was needed: {left}");
    assert_eq!(device_bytes(work.newer.range())?, work.newer.range().len());
    work.finish()
}

fn in_a_prefetcher(context: &Context) -> TestResult {
    let Work { mirror, budget, older, newer, .. } = Work::begun(context, Policy::Refuse)?;
    let budget = Arc::new(budget);
    let prefetcher = Prefetcher::builder(mirror.clone()).threads(2).budget(budget.clone()).build()?;
    let error = prefetcher.prefetch(&newer).to(context.gpu().vram()).submit()?.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfVram, "{error}");
    let again = prefetcher.prefetch(&older).to(context.gpu().vram()).submit()?.wait()?;
    assert_eq!(again.already_there(), older.range().len(), "{again}");
    let back = prefetcher.prefetch(&older).to_system().submit()?.wait()?;
    assert!(back.is_complete(), "{back}");
    let outcome = prefetcher.prefetch(&newer).to(context.gpu().vram()).submit()?.wait()?;
    assert!(outcome.is_complete(), "{outcome}");
    assert_intact(&older);
    assert_intact(&newer);
    Ok(())
}

fn the_drivers_figure(context: &Context) -> TestResult {
    let region = &context.gpu().vram_regions()[0];
    let mirror = context.gpu().mirror()?;
    let budget = Budget::new(region)?;
    let free = budget.available()?;
    assert!(free > region.size() / 2 && free <= region.size(), "{free} of {}", region.size());
    let data = filled(16 << 20)?;
    assert!(budget.prefetch(&mirror, &data)?.is_complete());
    assert_eq!(budget.reconcile()?, 16 << 20);
    let less = budget.available()?;
    // What an earlier test used may be given back meanwhile.
    assert!(less <= free - (15 << 20), "{less} of {free} are left after 16 MiB");
    assert_intact(&data);
    assert_eq!(budget.reconcile()?, 0);
    Ok(())
}
