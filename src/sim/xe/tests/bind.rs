use super::*;
use crate::uapi::xe::*;
use crate::xe::{
    Advice, AtomicMode, Bind, Bo, BoOptions, MirrorOptions, PatIndex, PrefetchTarget, Syncobj, Syncs,
    Timeout, UserFence,
};

pub(super) fn bind(vm: &Vm, op: VmBindOp) -> Result<(), Errno> {
    let mut arg = VmBind { vm_id: vm.id(), num_binds: 1, binds: VmBindOps::inline(op), ..Default::default() };
    raw(vm.device().channel(), &mut arg)
}

pub(super) const MIRROR: VmBindOp = VmBindOp {
    extensions: 0,
    obj: 0,
    pat_index: 2,
    pad: 0,
    obj_offset: 0,
    range: 16 * PAGE,
    addr: 16 * PAGE,
    op: DRM_XE_VM_BIND_OP_MAP,
    flags: DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR,
    prefetch_mem_region_instance: 0,
    pad2: 0,
    reserved: [0; 3],
};

/// The mappings of a VM as `(start, end)` in pages.
fn layout(vm: &Vm) -> Vec<(u64, u64)> {
    let all = vm.range_attributes(vm.device().config().whole_va()).unwrap();
    all.iter().map(|entry| (entry.range.start() / PAGE, entry.range.end() / PAGE)).collect()
}

#[test]
fn the_envelope_is_checked_first() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    let good =
        VmBind { vm_id: vm.id(), num_binds: 1, binds: VmBindOps::inline(MIRROR), ..Default::default() };
    let ask = |arg: VmBind| raw(bench.device.channel(), &mut arg.clone());
    assert_eq!(ask(good), Ok(()));
    for (arg, errno) in [
        (VmBind { vm_id: 9, ..good }, Errno::EINVAL),
        (VmBind { pad: 1, ..good }, Errno::EINVAL),
        (VmBind { pad2: 1, ..good }, Errno::EINVAL),
        (VmBind { reserved: [0, 1], ..good }, Errno::EINVAL),
        (VmBind { extensions: 1, ..good }, Errno::EINVAL),
        (VmBind { num_syncs: 1025, ..good }, Errno::EINVAL),
        (VmBind { num_syncs: 1, syncs: 8, ..good }, Errno::EFAULT),
        (VmBind { exec_queue_id: 5, ..good }, Errno::ENOENT),
        (VmBind { num_binds: 2, binds: VmBindOps::vector(8), ..good }, Errno::EFAULT),
        (VmBind { num_binds: u32::MAX, binds: VmBindOps::vector(8), ..good }, Errno::ENOBUFS),
    ] {
        assert_eq!(ask(arg), Err(errno), "{arg:?}");
    }
}

#[test]
fn each_check_of_an_operation() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    let bo = Bo::create(&bench.device, 16 * PAGE, BoOptions::new()).unwrap();
    let map = VmBindOp { flags: 0, obj: bo.handle(), ..MIRROR };
    let unmap = VmBindOp { op: DRM_XE_VM_BIND_OP_UNMAP, flags: 0, ..MIRROR };
    let buffer = memory(M2);
    let from = buffer.range().start();
    let userptr = VmBindOp { op: DRM_XE_VM_BIND_OP_MAP_USERPTR, flags: 0, obj_offset: from, ..MIRROR };
    let prefetch = VmBindOp { op: DRM_XE_VM_BIND_OP_PREFETCH, flags: 0, ..MIRROR };
    let null = VmBindOp { flags: DRM_XE_VM_BIND_FLAG_NULL, ..MIRROR };
    let unmap_all =
        VmBindOp { op: DRM_XE_VM_BIND_OP_UNMAP_ALL, flags: 0, obj: bo.handle(), addr: 0, range: 0, ..MIRROR };
    for good in [MIRROR, map, unmap, userptr, prefetch, null, unmap_all] {
        assert_eq!(bind(&vm, good), Ok(()), "{good:?}");
    }
    for bad in [
        VmBindOp { pat_index: 28, ..MIRROR },
        VmBindOp { pat_index: 16, ..MIRROR },
        VmBindOp { pat_index: 16, ..unmap },
        VmBindOp { pat_index: 16, ..prefetch },
        VmBindOp { op: 5, ..unmap },
        VmBindOp { flags: 1 << 8, ..map },
        VmBindOp { flags: 1 << 31, ..map },
        VmBindOp { obj: bo.handle(), ..MIRROR },
        VmBindOp { obj: bo.handle(), ..null },
        VmBindOp { obj_offset: PAGE, ..MIRROR },
        VmBindOp { obj_offset: PAGE, ..null },
        VmBindOp { op: DRM_XE_VM_BIND_OP_UNMAP, ..MIRROR },
        VmBindOp { op: DRM_XE_VM_BIND_OP_PREFETCH, ..null },
        VmBindOp { flags: DRM_XE_VM_BIND_FLAG_DECOMPRESS, ..unmap },
        VmBindOp { flags: DRM_XE_VM_BIND_FLAG_DECOMPRESS, pat_index: 9, ..map },
        VmBindOp { obj: 0, ..map },
        VmBindOp { obj: 0, ..unmap_all },
        VmBindOp { addr: PAGE, ..unmap_all },
        VmBindOp { range: PAGE, ..unmap_all },
        VmBindOp { obj: bo.handle(), ..userptr },
        VmBindOp { pat_index: 0, ..userptr },
        VmBindOp { obj: bo.handle(), ..prefetch },
        VmBindOp { prefetch_mem_region_instance: 1, ..MIRROR },
        VmBindOp { prefetch_mem_region_instance: 2, ..prefetch },
        VmBindOp { prefetch_mem_region_instance: 32, ..prefetch },
        VmBindOp { obj: bo.handle(), ..unmap },
        VmBindOp { flags: DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET, ..map },
        VmBindOp { obj_offset: 1, ..map },
        VmBindOp { addr: 1, ..MIRROR },
        VmBindOp { range: 1, ..MIRROR },
        VmBindOp { range: 0, ..MIRROR },
        VmBindOp { range: 1 << 49, addr: 0, ..MIRROR },
        VmBindOp { addr: (1 << 48) - PAGE, ..MIRROR },
        VmBindOp { addr: 0xffff_8000_0000_0000, ..MIRROR },
        VmBindOp { obj_offset: PAGE, ..map },
        VmBindOp { range: 17 * PAGE, ..map },
    ] {
        assert_eq!(bind(&vm, bad), Err(Errno::EINVAL), "{bad:?}");
    }
    assert_eq!(bind(&vm, VmBindOp { obj: 99, ..map }), Err(Errno::ENOENT));
    // Not looked at by the driver.
    let unchecked = VmBindOp { extensions: 8, pad: 1, pad2: 1, reserved: [1; 3], ..MIRROR };
    assert_eq!(bind(&vm, unchecked), Ok(()));
    let both = VmBindOp { flags: MIRROR.flags | DRM_XE_VM_BIND_FLAG_NULL, ..MIRROR };
    assert_eq!(bind(&vm, both), Ok(()));
}

#[test]
fn checks_that_depend_on_device_and_kernel() {
    let integrated = Bench::new(Platform::LunarLake);
    let vm = integrated.vm();
    assert_eq!(bind(&vm, VmBindOp { pat_index: 0, ..MIRROR }), Err(Errno::EINVAL));
    let older = Bench::with(XeConfig::new(Platform::LunarLake).kernel(KernelVersion::V7_0));
    assert_eq!(bind(&older.vm(), VmBindOp { pat_index: 0, ..MIRROR }), Ok(()));
    let discrete = Bench::new(Platform::Battlemage);
    assert_eq!(bind(&discrete.vm(), VmBindOp { pat_index: 0, ..MIRROR }), Ok(()));
    let plain = Vm::create(&discrete.device, VmFlags::LR_MODE).unwrap();
    assert_eq!(bind(&plain, MIRROR), Err(Errno::EINVAL));
    let bo = Bo::create(&integrated.device, 16 * PAGE, BoOptions::new()).unwrap();
    let decompress = VmBindOp { obj: bo.handle(), flags: DRM_XE_VM_BIND_FLAG_DECOMPRESS, ..MIRROR };
    assert_eq!(bind(&vm, decompress), Err(Errno::EOPNOTSUPP));
    let autoreset = VmBindOp { flags: MIRROR.flags | DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET, ..MIRROR };
    assert_eq!(bind(&Bench::at(KernelVersion::V6_17).vm(), autoreset), Err(Errno::EINVAL));
    assert_eq!(bind(&Bench::at(KernelVersion::V6_18).vm(), autoreset), Ok(()));
}

#[test]
fn wrappers_say_what_is_wrong() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    let beyond = PageRange::new(1 << 48, PAGE).unwrap();
    let error = refused(vm.mirror(beyond), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    assert!(error.reason().contains("48-bit"), "{error}");
    assert_eq!(error.range(), Some(beyond));
    let reserved = MirrorOptions::new().pat(PatIndex(16));
    let error =
        refused(vm.mirror_with(pages(0, 1), reserved), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    assert!(error.reason().contains("PAT index 16 is reserved or absent on BMG"), "{error}");
    let plain = Vm::create(&bench.device, VmFlags::LR_MODE).unwrap();
    let error = refused(plain.mirror_all(), ErrorKind::InvalidArgument, None);
    assert!(error.reason().contains("fault mode"), "{error}");
    let scratch = Vm::create(&bench.device, VmFlags::SVM | VmFlags::SCRATCH_PAGE).unwrap();
    let error = refused(scratch.mirror_all(), ErrorKind::InvalidArgument, None);
    assert!(error.reason().contains("scratch"), "{error}");
    let none = Bench::new(Platform::Alchemist);
    let plain = Vm::create(&none.device, VmFlags::LR_MODE).unwrap();
    refused(plain.mirror_all(), ErrorKind::Unsupported, None);
    let incoherent = MirrorOptions::new().pat(PatIndex(0));
    let integrated = Bench::new(Platform::LunarLake);
    let error = refused(
        integrated.vm().mirror_with(pages(0, 1), incoherent),
        ErrorKind::InvalidArgument,
        Some(Errno::EINVAL),
    );
    assert!(error.reason().contains("not coherent"), "{error}");
}

#[test]
fn mirrors_of_a_vm_must_be_alike() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    vm.mirror(pages(0, 4)).unwrap();
    let other = MirrorOptions::new().read_only();
    let error = refused(vm.mirror_with(pages(8 * PAGE, 4), other), ErrorKind::InvalidArgument, None);
    assert!(error.reason().contains("other options"), "{error}");
    vm.mirror(pages(8 * PAGE, 4)).unwrap();
    let different = bench.vm();
    different.mirror_with(pages(0, 4), other).unwrap();
    refused(different.mirror(pages(0, 1)), ErrorKind::InvalidArgument, None);
}

#[test]
fn touching_mirrors_merge_since_7_0() {
    for (kernel, expected) in [
        (KernelVersion::V6_19, vec![(0, 4), (4, 8), (16, 20)]),
        (KernelVersion::V7_0, vec![(0, 8), (16, 20)]),
    ] {
        let vm = Bench::at(kernel).vm();
        vm.mirror(pages(0, 4)).unwrap();
        vm.mirror(pages(16 * PAGE, 4)).unwrap();
        vm.mirror(pages(4 * PAGE, 4)).unwrap();
        assert_eq!(layout(&vm), expected, "{kernel:?}");
    }
    // The probe behind the end bridges a hole of one page, and no larger one.
    let vm = Bench::new(Platform::Battlemage).vm();
    vm.mirror(pages(8 * PAGE, 4)).unwrap();
    vm.mirror(pages(0, 7)).unwrap();
    assert_eq!(layout(&vm), [(0, 12)]);
    vm.mirror(pages(14 * PAGE, 2)).unwrap();
    assert_eq!(layout(&vm), [(0, 12), (14, 16)]);
}

#[test]
fn an_object_leaves_a_hole_that_can_be_mirrored_again() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    vm.mirror(pages(0, 64)).unwrap();
    let bo = Bo::create(&bench.device, 8 * PAGE, BoOptions::new()).unwrap();
    let at = pages(16 * PAGE, 8);
    vm.bind(&[Bind::map(&bo, 0, at)], Syncs::new()).unwrap();
    assert_eq!(layout(&vm), [(0, 16), (16, 24), (24, 64)]);
    vm.unmap(at).unwrap();
    assert_eq!(layout(&vm), [(0, 16), (24, 64)]);
    vm.mirror(at).unwrap();
    assert_eq!(layout(&vm), [(0, 64)]);
    vm.bind(&[Bind::map(&bo, 0, at)], Syncs::new()).unwrap();
    vm.unmap_to_mirror(at).unwrap();
    assert_eq!(layout(&vm), [(0, 64)]);
    vm.bind(&[Bind::map(&bo, 4 * PAGE, pages(0, 4)), Bind::map(&bo, 0, pages(32 * PAGE, 8))], Syncs::new())
        .unwrap();
    vm.bind(&[Bind::unmap_all(&bo)], Syncs::new()).unwrap();
    assert_eq!(layout(&vm), [(4, 32), (40, 64)]);
}

#[test]
fn what_the_gpu_uses_is_not_unmapped_until_the_cpu_unmaps_it() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = memory(M2);
    let range = buffer.range();
    vm.unmap(range).unwrap();
    vm.mirror(range).unwrap();
    vm.prefetch(range, PrefetchTarget::System).unwrap();
    refused(vm.unmap(range), ErrorKind::AddressInUse, Some(Errno::EBUSY));
    let bo = Bo::create(&bench.device, M2, BoOptions::new()).unwrap();
    refused(vm.bind(&[Bind::map(&bo, 0, range)], Syncs::new()), ErrorKind::AddressInUse, Some(Errno::EBUSY));
    assert_eq!(layout(&vm).len(), 1, "a refused bind changes nothing");
    // Mirroring again is no unmapping, since 7.0.
    vm.mirror(range).unwrap();
    drop(buffer);
    vm.unmap(range).unwrap();
    assert_eq!(layout(&vm).len(), 2);
}

/// Advice keeps a mirror from being merged, so mirroring part of it again cuts it, and what the GPU uses is not cut.
#[test]
fn a_mirror_with_advice_is_not_cut_while_in_use() {
    let vm = Bench::new(Platform::Battlemage).mirrored();
    let buffer = memory(2 * M2);
    let first = PageRange::new(buffer.range().start(), M2).unwrap();
    vm.advise(buffer.range(), Advice::Atomic(AtomicMode::Global)).unwrap();
    vm.prefetch(buffer.range(), PrefetchTarget::System).unwrap();
    refused(vm.mirror(first), ErrorKind::AddressInUse, Some(Errno::EBUSY));
    assert_eq!(vm.range_attributes(first).unwrap()[0].range, buffer.range());
    vm.mirror(buffer.range()).unwrap();
    assert_eq!(vm.range_attributes(first).unwrap()[0].atomic, AtomicMode::Undefined);
}

#[test]
fn mirroring_again_in_use_is_refused_before_7_0() {
    let vm = Bench::at(KernelVersion::V6_19).mirrored();
    let buffer = memory(M2);
    vm.prefetch(buffer.range(), PrefetchTarget::System).unwrap();
    refused(vm.mirror(buffer.range()), ErrorKind::AddressInUse, Some(Errno::EBUSY));
}

#[test]
fn a_vector_is_all_or_nothing() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = memory(M2);
    vm.prefetch(buffer.range(), PrefetchTarget::System).unwrap();
    let before = layout(&vm);
    let binds = [Bind::unmap(pages(0, 4)), Bind::map_null(pages(64 * PAGE, 1)), Bind::unmap(buffer.range())];
    refused(vm.bind(&binds, Syncs::new()), ErrorKind::AddressInUse, Some(Errno::EBUSY));
    assert_eq!(layout(&vm), before);
    vm.bind(&binds[..2], Syncs::new()).unwrap();
    assert_ne!(layout(&vm), before);
    let (done, result) = vm.bind_in_parts(&binds);
    assert_eq!(done, 0);
    refused(result, ErrorKind::AddressInUse, Some(Errno::EBUSY));
    assert_eq!(vm.bind_in_parts(&binds[..2]).0, 2);
    vm.bind(&[], Syncs::new()).unwrap();
}

#[test]
fn a_mirror_operation_lets_later_ones_of_its_call_unmap_what_is_used() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    let buffer = memory(M2);
    vm.mirror(buffer.range()).unwrap();
    vm.prefetch(buffer.range(), PrefetchTarget::System).unwrap();
    let ask = |range| {
        let ops = [
            VmBindOp { addr: 0, range: PAGE, ..MIRROR },
            VmBindOp { addr: buffer.range().start(), range, op: DRM_XE_VM_BIND_OP_UNMAP, flags: 0, ..MIRROR },
        ];
        let mut arg = VmBind {
            vm_id: vm.id(),
            num_binds: 2,
            binds: VmBindOps::vector(ops.as_ptr() as u64),
            ..Default::default()
        };
        raw(bench.device.channel(), &mut arg)
    };
    assert_eq!(ask(PAGE), Err(Errno::EBUSY), "but never a part of a mirror");
    assert_eq!(ask(M2), Ok(()));
    assert_eq!(layout(&vm).len(), 1, "the buffer's addresses are a hole now");
}

#[test]
fn user_fences_tell_the_end_of_binds() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let mut fence = UserFence::new().unwrap();
    let buffer = memory(M2);
    for _ in 0..3 {
        vm.prefetch_with_fence(buffer.range(), PrefetchTarget::System, &mut fence).unwrap();
        fence.wait(&bench.device, Timeout::Never, None).unwrap();
        assert!(fence.is_signalled());
    }
    let bo = Bo::create(&bench.device, PAGE, BoOptions::new()).unwrap();
    let bind = [Bind::map(&bo, 0, pages(0, 1)).immediate()];
    vm.bind(&bind, Syncs::new().fence(&mut fence)).unwrap();
    fence.wait(&bench.device, Timeout::Within(std::time::Duration::from_secs(60)), None).unwrap();
    assert_eq!(fence.value(), 4);
    // A failed operation takes its fence back.
    refused(
        vm.bind(&[Bind::unmap(buffer.range())], Syncs::new().fence(&mut fence)),
        ErrorKind::AddressInUse,
        Some(Errno::EBUSY),
    );
    assert!(fence.is_signalled());
    assert_eq!(fence.value(), 4);
}

#[test]
fn syncs_of_a_faulting_vm() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let bo = Bo::create(&bench.device, PAGE, BoOptions::new()).unwrap();
    let ready = Syncobj::create(&bench.device, true).unwrap();
    let empty = Syncobj::create(&bench.device, false).unwrap();
    let now = [Bind::map(&bo, 0, pages(0, 1)).immediate()];
    let later = [Bind::map(&bo, 0, pages(0, 1))];
    vm.bind(&now, Syncs::new().wait(&ready)).unwrap();
    refused(vm.bind(&later, Syncs::new().wait(&ready)), ErrorKind::InvalidArgument, None);
    refused(vm.bind(&now, Syncs::new().signal(&empty)), ErrorKind::InvalidArgument, None);
    refused(vm.bind(&now, Syncs::new().wait(&empty)), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    refused(
        vm.bind(&now, Syncs::new().wait_point(&ready, 0)),
        ErrorKind::InvalidArgument,
        Some(Errno::EINVAL),
    );
    refused(vm.bind(&[], Syncs::new().wait(&ready)), ErrorKind::InvalidArgument, None);
    // What the wrapper keeps from happening: the change is made, and then the call fails.
    let sync = SyncEntry::syncobj(ready.handle(), 0);
    let mut arg = VmBind {
        vm_id: vm.id(),
        num_binds: 1,
        binds: VmBindOps::inline(VmBindOp {
            op: DRM_XE_VM_BIND_OP_UNMAP,
            flags: 0,
            addr: 64 * PAGE,
            ..MIRROR
        }),
        num_syncs: 1,
        syncs: &raw const sync as u64,
        ..Default::default()
    };
    let before = layout(&vm).len();
    assert_eq!(raw(bench.device.channel(), &mut arg), Err(Errno::EOPNOTSUPP));
    assert_eq!(layout(&vm).len(), before + 1);
}

#[test]
fn sync_entries_are_checked_one_by_one() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    let mut word = 0u64;
    let address = &raw mut word as u64;
    let ask = |syncs: &[SyncEntry], num_binds| {
        let mut arg = VmBind {
            vm_id: vm.id(),
            num_binds,
            binds: if num_binds == 1 { VmBindOps::inline(MIRROR) } else { VmBindOps::default() },
            num_syncs: syncs.len() as u32,
            syncs: syncs.as_ptr() as u64,
            ..Default::default()
        };
        raw(bench.device.channel(), &mut arg)
    };
    let fence = SyncEntry::user_fence(address, 1);
    let point = SyncEntry::timeline_syncobj(1, 1, 0);
    for (entries, errno) in [
        (vec![SyncEntry { flags: 2, ..fence }], Errno::EINVAL),
        (vec![SyncEntry { reserved: [1, 0], ..fence }], Errno::EINVAL),
        (vec![SyncEntry { sync_type: 3, ..fence }], Errno::EINVAL),
        (vec![SyncEntry { flags: 0, ..fence }], Errno::EOPNOTSUPP),
        (vec![SyncEntry { addr: address + 4, ..fence }], Errno::EINVAL),
        (vec![SyncEntry { addr: 8, ..fence }], Errno::EFAULT),
        (vec![fence, fence], Errno::EINVAL),
        (vec![SyncEntry::syncobj(1, DRM_XE_SYNC_FLAG_SIGNAL)], Errno::EOPNOTSUPP),
        (vec![SyncEntry { addr: 1 << 32, ..point }], Errno::EINVAL),
        (vec![SyncEntry { timeline_value: 0, ..point }], Errno::EINVAL),
        (vec![point], Errno::ENOENT),
    ] {
        assert_eq!(ask(&entries, 1), Err(errno), "{entries:?}");
    }
    assert_eq!(ask(&[fence], 0), Err(Errno::EOPNOTSUPP));
    assert_eq!(ask(&[], 0), Ok(()));
}
