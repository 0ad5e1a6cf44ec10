//! Advice is in force while its guard lives, and what it overrode comes back.

use drm_pagemap::range::SIZE_2M;
use drm_pagemap::{Buffer, ErrorKind, Location, PageRange};

use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, filled};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "advice/given_and_taken_back", needs: &[Need::Advice], run: given_and_taken_back },
    Test { name: "advice/nested_guards_restore", needs: &[Need::Advice], run: nested_guards_restore },
    Test { name: "advice/nothing_advised_is_refused", needs: &[], run: nothing_advised_is_refused },
    Test {
        name: "advice/what_the_driver_lacks_is_refused",
        needs: &[],
        run: what_the_driver_lacks_is_refused,
    },
    Test { name: "advice/of_unmapped_memory", needs: &[Need::Advice], run: of_unmapped_memory },
];

fn given_and_taken_back(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(4 << 20)?;
    let advice = mirror.advise(&data).prefer(Location::System).apply()?;
    assert_eq!(advice.range(), data.range());
    advice.reset()?;
    mirror.advise(&data).prefer(context.gpu().vram()).apply()?.keep();
    assert_intact(&data);
    Ok(())
}

fn nested_guards_restore(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = Buffer::<u64>::zeroed(6 << 17)?;
    let middle = PageRange::new(data.range().start() + SIZE_2M, SIZE_2M)?;
    let outer = mirror.advise(&data).prefer(Location::System).apply()?;
    let inner = mirror.advise_range(middle).prefer(context.gpu().vram()).apply()?;
    // Dropped out of order on purpose: the inner one stays in force for its pages.
    drop(outer);
    inner.reset()?;
    Ok(())
}

fn nothing_advised_is_refused(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let error = mirror.advise(&[0u8]).apply().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    Ok(())
}

fn what_the_driver_lacks_is_refused(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = Buffer::<u64>::zeroed(1 << 17)?;
    let advise = mirror.advise(&data);
    let error = match context.gpu().driver() {
        drm_pagemap::Driver::Xe => advise.granularity(SIZE_2M).apply(),
        _ => advise.atomics(drm_pagemap::xe::AtomicMode::Device).apply(),
    };
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
    Ok(())
}

fn of_unmapped_memory(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = Buffer::<u64>::zeroed(1 << 17)?;
    let advice = mirror.advise(&data).prefer(Location::System).apply()?;
    // The guard outlives the memory; taking the advice back then must neither fail loudly nor harm what comes next.
    drop(data);
    drop(advice);
    let fresh = filled(1 << 20)?;
    assert_intact(&fresh);
    Ok(())
}
