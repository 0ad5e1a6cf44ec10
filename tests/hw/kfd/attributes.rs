//! Attributes: what is set is read back, on every kernel and in both modes.

use drm_pagemap::kfd::{Agreed, GpuAccess, Granularity, Location, Process, SvmAttribute, SvmFlags, Xnack};
use drm_pagemap::range::{SIZE_2M, page_size};
use drm_pagemap::{Buffer, ErrorKind, PageRange};
use nix::sys::mman::MapFlags;

use super::bench::{Kfd, part};
use crate::harness::{Context, Need, Test, TestResult};
use crate::mapping::Mapping;

pub(super) const TESTS: &[Test] = &[
    Test { name: "kfd/KFDSVMRangeTest.SetGetAttributesTest", needs: &[Need::Kfd], run: set_get_attributes },
    Test { name: "kfd/KFDSVMRangeTest.XNACKModeTest", needs: &[Need::Kfd], run: xnack_mode },
    Test { name: "kfd/KFDSVMRangeTest.InvalidRangeTest", needs: &[Need::Kfd], run: invalid_range },
    Test { name: "kfd/KFDSVMRangeTest.PrefetchTest", needs: &[Need::Kfd, Need::Vram], run: prefetch },
    Test {
        name: "kfd/attributes/vanish_with_the_mapping",
        needs: &[Need::Kfd],
        run: vanish_with_the_mapping,
    },
    Test { name: "kfd/attributes/of_the_last_win", needs: &[Need::Kfd], run: the_last_win },
];

fn set_get_attributes(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let data = Buffer::<u64>::zeroed((1 << 20) / 8)?;
    let range = data.range();
    let fresh = kfd.attributes(range)?;
    assert_eq!((fresh.preferred, fresh.prefetch), (Agreed::MixedOrUnset, Agreed::MixedOrUnset));
    assert_eq!(fresh.flags_on_all, SvmFlags::HOST_ACCESS | SvmFlags::COHERENT);
    assert_eq!(fresh.flags_on_any.unwrap_or(fresh.flags_on_all), fresh.flags_on_all);
    assert_eq!(fresh.granularity, Granularity::from_pages_log2(9));
    let by_default = match kfd.xnack {
        Xnack::On => GpuAccess::Full,
        Xnack::Off => GpuAccess::NoneOrMixed,
    };
    assert_eq!(fresh.access_of(kfd.id()), Some(by_default));

    for location in [kfd.here(), Location::System] {
        kfd.set(range, &[SvmAttribute::Preferred(Some(location))])?;
        assert_eq!(kfd.attributes(range)?.preferred, Agreed::Uniform(location));
    }
    kfd.set(range, &[SvmAttribute::Preferred(None)])?;
    assert_eq!(kfd.attributes(range)?.preferred, Agreed::MixedOrUnset);
    for (attribute, access) in [
        (SvmAttribute::Access(kfd.id()), GpuAccess::Full),
        (SvmAttribute::AccessInPlace(kfd.id()), GpuAccess::InPlace),
        (SvmAttribute::NoAccess(kfd.id()), GpuAccess::NoneOrMixed),
    ] {
        kfd.set(range, &[attribute])?;
        assert_eq!(kfd.attributes(range)?.access_of(kfd.id()), Some(access), "{attribute:?}");
    }
    for flag in SvmFlags::all().iter_names().map(|(_, flag)| flag) {
        kfd.set(range, &[SvmAttribute::SetFlags(flag)])?;
        assert!(kfd.attributes(range)?.flags_on_all.contains(flag), "{flag:?}");
        kfd.set(range, &[SvmAttribute::ClearFlags(flag)])?;
        assert!(!kfd.attributes(range)?.flags_on_all.intersects(flag), "{flag:?}");
    }
    for log2 in [0, 5, 9, 10, 63] {
        let granularity = Granularity::from_pages_log2(log2);
        kfd.set(range, &[SvmAttribute::Granularity(granularity)])?;
        assert_eq!(kfd.attributes(range)?.granularity, granularity);
    }
    kfd.set(range, &[SvmAttribute::Granularity(Granularity::from_pages_log2(255))])?;
    assert_eq!(kfd.attributes(range)?.granularity, Granularity::from_pages_log2(63), "the largest there is");
    Ok(())
}

/// Puts the mode back, however the test ends.
struct Restored<'p>(&'p Process, Xnack);

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        self.0.set_xnack(self.1).expect("the mode was in force before");
    }
}

fn xnack_mode(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let _restored = Restored(kfd.process(), kfd.xnack);
    let mut can = true;
    for mode in [Xnack::On, Xnack::Off, Xnack::On, Xnack::Off] {
        match kfd.process().set_xnack(mode) {
            Ok(()) => assert_eq!(kfd.process().xnack()?, mode),
            Err(error) => {
                assert_eq!((mode, error.kind()), (Xnack::On, ErrorKind::Unsupported), "{error}");
                assert_eq!(kfd.process().xnack()?, Xnack::Off);
                can = false;
            }
        }
    }
    assert!(can || kfd.xnack == Xnack::Off, "the mode the test found is one that can be set");
    let engine = kfd.engine()?;
    for mode in [Xnack::On, Xnack::Off] {
        assert_eq!(kfd.process().set_xnack(mode).unwrap_err().kind(), ErrorKind::Busy, "{mode:?}");
        assert_eq!(kfd.process().xnack()?, Xnack::Off);
    }
    drop(engine);
    Ok(kfd.process().set_xnack(Xnack::Off)?)
}

fn invalid_range(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let nothing = PageRange::new(0x10000, page_size())?;
    let error = kfd.process().set_attributes(nothing, &[SvmAttribute::Access(kfd.id())]).unwrap_err();
    assert_eq!((error.kind(), error.range()), (ErrorKind::NotMapped, Some(nothing)));
    let error = kfd.process().get_attributes(nothing, &[]).unwrap_err();
    assert_eq!((error.kind(), error.range()), (ErrorKind::NotMapped, Some(nothing)));
    Ok(())
}

fn prefetch(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let mut memory = Mapping::anonymous(2 * SIZE_2M as usize, MapFlags::MAP_PRIVATE).expect("memory");
    let whole = memory.range();
    let (low, high) = (part(whole, 0, SIZE_2M), part(whole, SIZE_2M, SIZE_2M));
    kfd.prefetch(whole, Location::System)?;
    assert_eq!(kfd.attributes(whole)?.prefetch, Agreed::Uniform(Location::System));
    kfd.prefetch(low, kfd.here())?;
    assert_eq!(kfd.attributes(low)?.prefetch, Agreed::Uniform(kfd.here()));
    assert_eq!(kfd.attributes(high)?.prefetch, Agreed::Uniform(Location::System));
    assert_eq!(kfd.attributes(whole)?.prefetch, Agreed::MixedOrUnset);
    memory.punch(0..memory.range().len() as usize);
    let error = kfd.process().get_attributes(whole, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotMapped);
    Ok(())
}

fn vanish_with_the_mapping(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let mut memory = Mapping::anonymous(8 * page_size() as usize, MapFlags::MAP_PRIVATE).expect("memory");
    let (whole, page) = (memory.range(), page_size() as usize);
    kfd.set(whole, &[SvmAttribute::Granularity(Granularity::PAGE)])?;
    memory.renew(2 * page..4 * page);
    let renewed = part(whole, 2 * page_size(), 2 * page_size());
    assert_eq!(kfd.attributes(renewed)?.granularity, Granularity::from_pages_log2(9), "defaults again");
    assert_eq!(kfd.attributes(whole)?.granularity, Granularity::PAGE, "what is left keeps its own");
    Ok(())
}

fn the_last_win(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let data = Buffer::<u64>::zeroed((1 << 20) / 8)?;
    let range = data.range();
    let exec = SvmFlags::GPU_EXEC;
    kfd.set(range, &[SvmAttribute::SetFlags(exec), SvmAttribute::ClearFlags(exec)])?;
    assert!(!kfd.attributes(range)?.flags_on_all.contains(exec));
    kfd.set(range, &[SvmAttribute::ClearFlags(exec), SvmAttribute::SetFlags(exec)])?;
    assert!(kfd.attributes(range)?.flags_on_all.contains(exec));
    kfd.set(range, &[SvmAttribute::Access(kfd.id()), SvmAttribute::NoAccess(kfd.id())])?;
    assert_eq!(kfd.attributes(range)?.access_of(kfd.id()), Some(GpuAccess::NoneOrMixed));
    // Access and access in place together are neither.
    kfd.set(part(range, 0, page_size()), &[SvmAttribute::Access(kfd.id())])?;
    kfd.set(part(range, page_size(), page_size()), &[SvmAttribute::AccessInPlace(kfd.id())])?;
    let both = kfd.attributes(part(range, 0, 2 * page_size()))?;
    assert_eq!(both.access_of(kfd.id()), Some(GpuAccess::NoneOrMixed));
    Ok(())
}
