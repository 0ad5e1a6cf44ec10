//! The calls of xe that only it has, as IGT's `xe_*` tests have them.
//!
//! | there | here |
//! |---|---|
//! | `xe_madvise`, `xe_exec_system_allocator@*-madvise-*` | `advice_is_reported_where_it_was_given` |
//! | `xe_pat@pat-index-*` | `pat_indices` |
//! | `xe_vm@vm-get-property-*` | `failed_accesses_are_told` |
//! | `xe_vm@bind-array-*` | `many_binds` |
//! | `xe_exec_system_allocator@many-*-prefetch` | `many_ranges_are_prefetched` |
//! | `xe_exec_system_allocator@multigpu-migration` | `prefetch_to_a_peer`, `mirror_prefetches_to_a_peer` |

use drm_pagemap::range::{SIZE_64K, page_size};
use drm_pagemap::xe::{
    Advice, AtomicMode, Bind, Device, FaultAccess, MirrorOptions, Operation, PatIndex, PreferredLocation,
    PrefetchTarget, ReportedLocation, Syncs, Vm, VmFlags,
};
use drm_pagemap::{Buffer, ErrorKind, Fallback, PageRange};

use crate::gpu_store::store_u32;
use crate::harness::{Context, Need, Stop, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "xe/advice_is_reported_where_it_was_given", needs: &[Need::Xe], run: advice },
    Test { name: "xe/pat_indices", needs: &[Need::Xe, Need::Vram], run: pat_indices },
    Test { name: "xe/failed_accesses_are_told", needs: &[Need::Xe, Need::Vram], run: failed_accesses },
    Test { name: "xe/many_binds", needs: &[Need::Xe], run: many_binds },
    Test { name: "xe/many_ranges_are_prefetched", needs: &[Need::Xe, Need::Vram], run: many_ranges },
    Test { name: "xe/prefetch_to_a_peer", needs: &[Need::Xe, Need::TwoGpus], run: peer },
    Test { name: "xe/mirror_prefetches_to_a_peer", needs: &[Need::Xe, Need::TwoGpus], run: mirror_to_peer },
];

fn device(context: &Context) -> Result<&Device, Stop> {
    match context.gpu().device() {
        drm_pagemap::Device::Xe(device) => Ok(device),
        other => skip!("{other:?} is not of xe"),
    }
}

fn needs(device: &Device, operation: Operation) -> TestResult {
    if !device.probe().supports(operation)? {
        skip!("this kernel lacks {operation:?}");
    }
    Ok(())
}

fn mirrored(device: &Device) -> Result<Vm, Stop> {
    let vm = Vm::create(device, VmFlags::SVM)?;
    vm.mirror_all()?;
    Ok(vm)
}

fn advice(context: &Context) -> TestResult {
    let device = device(context)?;
    needs(device, Operation::Advise)?;
    needs(device, Operation::RangeAttributes)?;
    let vm = mirrored(device)?;
    let data = filled(1 << 20)?;
    let whole = data.range();
    let middle = PageRange::new(whole.start() + SIZE_64K, 4 * SIZE_64K)?;
    vm.advise(middle, Advice::PreferredLocation(PreferredLocation::System))?;
    vm.advise(middle, Advice::Atomic(AtomicMode::Device))?;
    let told = vm.range_attributes(middle)?;
    assert!(told.iter().all(|one| middle.contains_range(one.range)), "split at its ends: {told:?}");
    for one in &told {
        assert_eq!((one.preferred_location, one.atomic), (ReportedLocation::System, AtomicMode::Device));
    }
    let beside = vm.range_attributes(PageRange::new(whole.start(), SIZE_64K)?)?;
    assert_eq!(beside[0].preferred_location, ReportedLocation::FaultingDevice, "{beside:?}");
    assert_eq!(beside[0].atomic, AtomicMode::Undefined, "{beside:?}");
    vm.advise(middle, Advice::PreferredLocation(PreferredLocation::FaultingDevice))?;
    let told = vm.range_attributes(middle)?;
    assert!(told.iter().all(|one| one.preferred_location == ReportedLocation::FaultingDevice), "{told:?}");
    assert_eq!(vm.range_attributes(PageRange::new(whole.start(), 0)?)?, [], "nothing asked");
    let unknown = vm.advise(middle, Advice::Atomic(AtomicMode::Other(77))).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::InvalidArgument, "{unknown}");
    assert_intact(&data);
    Ok(())
}

fn pat_indices(context: &Context) -> TestResult {
    let device = device(context)?;
    let Some(table) = device.pat_table()? else { skip!("memory attributes of this device are unknown") };
    let vm = Vm::create(device, VmFlags::SVM)?;
    let coherent = table.coherent();
    vm.mirror_with(device.config().whole_va(), MirrorOptions::new().pat(coherent))?;
    let data = filled(1 << 20)?;
    store_u32(&vm, data.range().start(), 5)?;
    assert_eq!(data[0] as u32, 5, "what a GPU writes through the coherent index the CPU sees");
    let reserved = (0..64).map(PatIndex).find(|&index| table.coherency(index).is_none());
    let reserved = reserved.unwrap_or(PatIndex(u16::MAX));
    let other = Vm::create(device, VmFlags::SVM)?;
    let error =
        other.mirror_with(device.config().whole_va(), MirrorOptions::new().pat(reserved)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.reason().contains("PAT"), "{error}");
    if device.probe().supports(Operation::Advise)? {
        let error = vm.advise(data.range(), Advice::Pat(reserved)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        vm.advise(data.range(), Advice::Pat(coherent))?;
    }
    Ok(())
}

fn failed_accesses(context: &Context) -> TestResult {
    let device = device(context)?;
    needs(device, Operation::Faults)?;
    let vm = mirrored(device)?;
    assert_eq!(vm.faults()?, []);
    // Addresses that were somebody's a moment ago.
    let hole = Buffer::<u64>::zeroed(1 << 18)?.range().start();
    context.expect_log("CAT error");
    let error = store_u32(&vm, hole + 8, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "the queue died: {error}");
    let faults = vm.faults()?;
    assert!(
        faults.iter().any(|fault| fault.address == hole && fault.access == FaultAccess::Write),
        "{faults:?}"
    );
    assert_eq!(vm.faults()?[..faults.len()], faults, "never forgotten");
    Ok(())
}

fn many_binds(context: &Context) -> TestResult {
    const MANY: u64 = 1000;
    let device = device(context)?;
    let vm = Vm::create(device, VmFlags::SVM)?;
    let page = page_size();
    // Every other page, so that nothing can be joined.
    let ranges: Vec<PageRange> =
        (0..MANY).map(|n| PageRange::new((1 << 40) + 2 * n * page, page)).collect::<Result<_, _>>()?;
    let maps: Vec<Bind<'_>> = ranges.iter().map(|&range| Bind::map_null(range)).collect();
    // The kernel takes as many at once as it has room for (`ENOBUFS`); parts are what is left then.
    let (done, result) = vm.bind_in_parts(&maps);
    result?;
    assert_eq!(done, maps.len());
    let unmaps: Vec<Bind<'_>> = ranges.iter().map(|&range| Bind::unmap(range)).collect();
    let (done, result) = vm.bind_in_parts(&unmaps);
    result?;
    assert_eq!(done, unmaps.len());
    // All or none: the last one lies beyond the device's addresses.
    let end = device.config().whole_va().end();
    let mut wrong = maps;
    wrong.push(Bind::map_null(PageRange::new(end, page)?));
    let error = vm.bind(&wrong, Syncs::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    if device.probe().supports(Operation::RangeAttributes)? {
        let whole = PageRange::new(1 << 40, 2 * MANY * page)?;
        assert_eq!(vm.range_attributes(whole)?, [], "nothing of it was done");
    }
    Ok(())
}

fn many_ranges(context: &Context) -> TestResult {
    let device = device(context)?;
    let vm = mirrored(device)?;
    let regions = device.memory_regions()?;
    let Some(vram) = regions.iter().find(|region| region.instance != 0) else { skip!("no VRAM") };
    let target = PrefetchTarget::Region(vram.instance);
    let blocks: Vec<Buffer<u64>> = (0..8).map(|_| filled(2 << 20)).collect::<Result<_, _>>()?;
    let ranges: Vec<PageRange> = blocks.iter().map(Buffer::range).collect();
    vm.prefetch_each(&ranges, target)?;
    for block in &blocks {
        assert_eq!(device_bytes(block.range())?, block.range().len(), "{}", block.range());
    }
    blocks.iter().for_each(|block| assert_intact(block));
    Ok(())
}

/// Either the driver knows a way to the other GPU's memory, or it says that there is none; the data is whole in each case.
fn peer(context: &Context) -> TestResult {
    let device = device(context)?;
    let drm_pagemap::Device::Xe(peer) = context.peer().device() else { skip!("the other GPU is not of xe") };
    let regions = peer.memory_regions()?;
    let Some(vram) = regions.iter().find(|region| region.instance != 0) else {
        skip!("the peer has no VRAM")
    };
    needs(device, Operation::PreferredRegion)?;
    // Linux 7.3.4 warns when memory goes whose advice names a region of a device, and the advice is reset with it.
    context.expect_log("xe_vm_alloc_vma");
    let vm = mirrored(device)?;
    let data = filled(4 << 20)?;
    match vm.prefetch_to_peer(data.range(), peer, vram.instance) {
        Ok(()) => {
            assert_eq!(device_bytes(data.range())?, data.range().len());
            let told = vm.range_attributes(data.range())?;
            let is_device = |location| matches!(location, ReportedLocation::Device { .. });
            assert!(told.iter().all(|one| is_device(one.preferred_location)), "the advice stays: {told:?}");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NoInterconnect, "{error}");
            assert!(error.hint().is_some(), "{error}");
            assert_eq!(device_bytes(data.range())?, 0);
            // The way round it: to this GPU's own memory, or to none.
            vm.prefetch(data.range(), PrefetchTarget::System)?;
        }
    }
    assert_intact(&data);
    Ok(())
}

/// A mirror brings pages into the memory of another GPU, or does what the caller named for the case that no fast link leads there.
fn mirror_to_peer(context: &Context) -> TestResult {
    needs(device(context)?, Operation::PreferredRegion)?;
    let drm_pagemap::Device::Xe(other) = context.peer().device() else { skip!("the other GPU is not of xe") };
    context.expect_log("xe_vm_alloc_vma");
    let mirror = context.gpu().mirror()?;
    let data = filled(4 << 20)?;
    let used = || -> Result<u64, Stop> {
        Ok(other
            .memory_regions()?
            .iter()
            .filter(|region| region.instance != 0)
            .map(|region| region.used)
            .sum())
    };
    let before = used()?;
    let refused = mirror.prefetch(&data).to(context.peer().vram()).run();
    let linked = refused.is_ok();
    match refused {
        Ok(outcome) => {
            assert!(outcome.is_complete(), "{outcome}");
            assert_eq!((outcome.moved(), outcome.fallback()), (data.range().len(), None));
            assert!(used()? >= before + data.range().len(), "it is the other GPU that has it");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NoInterconnect, "{error}");
            assert_eq!(device_bytes(data.range())?, 0);
        }
    }
    for fallback in [Fallback::OwnVram, Fallback::System] {
        let outcome = mirror.prefetch(&data).to(context.peer().vram()).fallback(fallback).run()?;
        assert!(outcome.is_complete(), "{outcome}");
        assert_eq!(outcome.fallback(), (!linked).then_some(fallback), "{outcome}");
        let in_vram = linked || fallback == Fallback::OwnVram;
        assert_eq!(device_bytes(data.range())?, if in_vram { data.range().len() } else { 0 });
    }
    let told = mirror.vm().map(|vm| vm.range_attributes(data.range())).transpose()?.unwrap_or_default();
    let unsaid =
        |one: &drm_pagemap::xe::RangeAttributes| one.preferred_location == ReportedLocation::FaultingDevice;
    assert!(told.iter().all(unsaid), "advice is as before: {told:?}");
    assert_intact(&data);
    Ok(())
}
