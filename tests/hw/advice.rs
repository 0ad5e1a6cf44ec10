//! Advice is in force while its guard lives, and what it overrode comes back.

use drm_pagemap::kfd::{self, Agreed};
use drm_pagemap::range::SIZE_2M;
use drm_pagemap::xe::ReportedLocation;
use drm_pagemap::{Buffer, Device, ErrorKind, Location, Mirror, PageRange};

use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, filled};
use Preferred::{System, VramOrUnset};

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

/// The preferred location of each of the range's blocks, as the driver tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preferred {
    System,
    /// Said of the GPU's own memory, or never said: on xe the same for a GPU with one VRAM region.
    VramOrUnset,
    Mixed,
}

fn preferred(context: &Context, mirror: &Mirror, range: PageRange) -> drm_pagemap::Result<Vec<Preferred>> {
    let of_block = |block: PageRange| match (mirror.vm(), context.gpu().device()) {
        (Some(vm), _) => {
            let told = vm.range_attributes(block)?;
            let system = told.iter().filter(|told| told.preferred_location == ReportedLocation::System);
            Ok(match system.count() {
                0 => VramOrUnset,
                count if count == told.len() => System,
                _ => Preferred::Mixed,
            })
        }
        (None, Device::Kfd(gpu)) => {
            let told = gpu.process().get_attributes(block, &[])?.preferred;
            let system = told == Agreed::Uniform(kfd::Location::System);
            Ok(if system { System } else { VramOrUnset })
        }
        (None, device) => unreachable!("a mirror without a VM on {device:?}"),
    };
    range.blocks(SIZE_2M).map(of_block).collect()
}

fn given_and_taken_back(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(4 << 20)?;
    let preferred = || preferred(context, &mirror, data.range());
    let advice = mirror.advise(&data).prefer(Location::System).apply()?;
    assert_eq!(advice.range(), data.range());
    assert_eq!(preferred()?, [System; 2]);
    advice.reset()?;
    assert_eq!(preferred()?, [VramOrUnset; 2]);
    mirror.advise(&data).prefer(Location::System).apply()?.keep();
    drop(mirror.advise(&data).prefer(context.gpu().vram()).apply()?);
    assert_eq!(preferred()?, [System; 2], "kept, and in force again");
    mirror.reset_advice(data.range())?;
    assert_eq!(preferred()?, [VramOrUnset; 2]);
    assert_intact(&data);
    Ok(())
}

fn nested_guards_restore(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = Buffer::<u64>::zeroed(6 << 17)?;
    let preferred = || preferred(context, &mirror, data.range());
    let middle = PageRange::new(data.range().start() + SIZE_2M, SIZE_2M)?;
    let give = |range, location| mirror.advise_range(range).prefer(location).apply();

    let outer = give(data.range(), Location::System)?;
    let inner = give(middle, context.gpu().vram())?;
    assert_eq!(preferred()?, [System, VramOrUnset, System]);
    inner.reset()?;
    assert_eq!(preferred()?, [System; 3]);
    outer.reset()?;
    assert_eq!(preferred()?, [VramOrUnset; 3]);

    // Dropped out of order on purpose: the inner one stays in force for its pages.
    let outer = give(data.range(), context.gpu().vram())?;
    let inner = give(middle, Location::System)?;
    drop(outer);
    assert_eq!(preferred()?, [VramOrUnset, System, VramOrUnset]);
    inner.reset()?;
    assert_eq!(preferred()?, [VramOrUnset; 3]);
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
