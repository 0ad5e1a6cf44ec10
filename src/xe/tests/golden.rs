//! The bytes of each call, beside what Intel's compute runtime sends where it makes the same one.

use super::*;

fn script() -> (Arc<Script>, Vm) {
    let script = Arc::new(Script::default());
    let vm = Vm::create(&script.device(), VmFlags::SVM).unwrap();
    script.forget();
    (script, vm)
}

/// Zeroes with some dwords set.
fn dwords(len: usize, set: &[(usize, u32)]) -> Vec<u32> {
    let mut dwords = vec![0; len];
    for &(at, value) in set {
        dwords[at] = value;
    }
    dwords
}

const PAGE: u64 = 4096;

#[test]
fn a_vm_is_created_and_destroyed() {
    let script = Arc::new(Script::default());
    let vm = Vm::create(&script.device(), VmFlags::SVM).unwrap();
    assert_eq!(script.only(), (0xC020_6443, dwords(8, &[(2, 6)])));
    drop(vm);
    assert_eq!(script.only(), (0x4018_6444, dwords(6, &[(0, 2)])));
}

/// The compute runtime: one operation, `flags 0x60`, `range 1 << 48`, `pat 0`, with a user fence. Here: `pat 2`, no fence (see
/// [`Vm::mirror_all`]).
#[test]
fn a_mirror_of_everything() {
    let (script, vm) = script();
    vm.mirror_all().unwrap();
    let bind = dwords(
        34,
        &[
            (2, 2),           // vm_id
            (5, 1),           // num_binds
            (6 + 3, 2),       // pat_index
            (6 + 7, 1 << 16), // range: 1 << 48
            (6 + 11, 0x60),   // CPU_ADDR_MIRROR | MADVISE_AUTORESET
        ],
    );
    assert_eq!(script.only(), (0x4088_6445, bind));
}

/// The compute runtime sends the same two operations for each freed object, with `flags 0x20`; here the flags of the VM's mirrors.
#[test]
fn closing_a_hole_is_a_vector_of_two() {
    let (script, vm) = script();
    vm.mirror_all().unwrap();
    script.forget();
    vm.unmap_to_mirror(PageRange::new(4 * PAGE, 2 * PAGE).unwrap()).unwrap();
    let (request, bind) = script.only();
    assert_eq!(request, 0x4088_6445);
    let pointer = u64::from(bind[6]) | u64::from(bind[7]) << 32;
    assert_ne!(pointer, 0);
    assert_eq!(bind, dwords(34, &[(2, 2), (5, 2), (6, bind[6]), (7, bind[7])]));
}

#[test]
fn unmapping() {
    let (script, vm) = script();
    vm.unmap(PageRange::new(0x7f00_0000_1000, 3 * PAGE).unwrap()).unwrap();
    let bind = dwords(
        34,
        &[
            (2, 2),
            (5, 1),
            (6 + 6, 0x3000),
            (6 + 8, 0x1000),
            (6 + 9, 0x7f00),
            (6 + 10, abi::DRM_XE_VM_BIND_OP_UNMAP),
        ],
    );
    assert_eq!(script.only(), (0x4088_6445, bind));
}

/// One call each, and the advised location is all ones in a 32-bit field.
#[test]
fn prefetching_is_one_call() {
    let (script, vm) = script();
    let range = PageRange::new(0x7f00_0000_1000, PAGE).unwrap();
    for (target, region) in
        [(PrefetchTarget::System, 0), (PrefetchTarget::Region(1), 1), (PrefetchTarget::Advised, u32::MAX)]
    {
        vm.prefetch(range, target).unwrap();
        let bind = dwords(
            34,
            &[
                (2, 2),
                (5, 1),
                (6 + 6, 0x1000),
                (6 + 8, 0x1000),
                (6 + 9, 0x7f00),
                (6 + 10, abi::DRM_XE_VM_BIND_OP_PREFETCH),
                (6 + 12, region),
            ],
        );
        assert_eq!(script.only(), (0x4088_6445, bind));
    }
    vm.prefetch(PageRange::new(PAGE, 0).unwrap(), PrefetchTarget::System).unwrap();
    assert!(script.calls.lock().unwrap().is_empty());
}

/// `zeMemSetAtomicAccessAttributeExp` of the compute runtime: type 1, value 1.
#[test]
fn advice() {
    let (script, vm) = script();
    let range = PageRange::new(0x7f00_0000_0000, 2 * PAGE).unwrap();
    let base = [(3, 0x7f00), (4, 0x2000), (6, 2)];
    let check = |advice, set: &[(usize, u32)]| {
        vm.advise(range, advice).unwrap();
        assert_eq!(script.only(), (0x4040_644C, dwords(16, &[&base, set].concat())));
    };
    check(Advice::Atomic(AtomicMode::Device), &[(7, 1), (8, 1)]);
    check(Advice::Pat(PatIndex(3)), &[(7, 2), (8, 3)]);
    check(Advice::PreferredLocation(PreferredLocation::FaultingDevice), &[]);
    check(Advice::PreferredLocation(PreferredLocation::System), &[(8, u32::MAX)]);
}

/// Number 0 means something else to the driver, so such a file is named by a duplicate.
#[test]
fn a_region_is_never_named_by_file_0() {
    let (script, vm) = script();
    let peer = Arc::new(Script { as_file_0: true, ..Script::default() }).device();
    let range = PageRange::new(0x7f00_0000_0000, PAGE).unwrap();
    let location = PreferredLocation::Region { device: &peer, instance: 2 };
    vm.advise(range, Advice::PreferredLocation(location)).unwrap();
    let calls = script.calls.lock().unwrap();
    // System first, because the driver compares file numbers only.
    let fds: Vec<i32> =
        calls.iter().map(|(_, arg)| i32::from_ne_bytes(arg[32..36].try_into().unwrap())).collect();
    assert_eq!((fds.len(), fds[0]), (2, -1));
    assert!(fds[1] > 0, "{fds:?}");
    assert_eq!(calls[1].1[36..40], [0, 0, 2, 0]);
}

#[test]
fn a_device_without_a_file_cannot_be_preferred() {
    let (_script, vm) = script();
    let peer = Arc::new(Script::default()).device();
    let location = PreferredLocation::Region { device: &peer, instance: 1 };
    let range = PageRange::new(0, PAGE).unwrap();
    let error = vm.advise(range, Advice::PreferredLocation(location)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

/// As the compute runtime asks: count first, then with elements of 64 bytes.
#[test]
fn attributes_are_asked_for_in_two_calls() {
    let (script, vm) = script();
    let range = PageRange::new(PAGE, PAGE).unwrap();
    assert_eq!(vm.range_attributes(range).unwrap(), []);
    assert_eq!(script.only(), (0xC040_644D, dwords(16, &[(2, 2), (4, 0x1000), (6, 0x1000)])));
    let mut buffer = RangeAttributeBuffer::with_capacity(3);
    let error = vm.range_attributes_into(range, &mut buffer);
    let (_, query) = script.only();
    assert_eq!((query[3], query[8], query[9]), (3, 64, 0));
    // The script leaves the entries zeroed, which are three empty mappings at address 0.
    assert_eq!(error.unwrap().len(), 3);
}

#[test]
fn a_fence_is_a_sync_that_signals() {
    let (script, vm) = script();
    let mut fence = UserFence::new().unwrap();
    let range = PageRange::new(PAGE, PAGE).unwrap();
    vm.prefetch_with_fence(range, PrefetchTarget::System, &mut fence).unwrap();
    let (_, bind) = script.only();
    assert_eq!(bind[27], 1);
    assert_ne!(bind[28], 0);
    assert_eq!((fence.value(), fence.is_signalled()), (1, false));
    let busy = vm.prefetch_with_fence(range, PrefetchTarget::System, &mut fence).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Busy);
    std::mem::forget(fence);
}

#[test]
fn the_page_of_a_fence_goes_with_it_unless_the_driver_may_still_write_there() {
    let (_script, vm) = script();
    let is_mapped = |at: u64| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        // A shared page of no file; what another thread may map there meanwhile is not one.
        maps.lines().any(|line| line.starts_with(&format!("{at:x}-")) && line.contains("/dev/zero"))
    };
    // A page between others of its kind would be listed as one with them.
    let fences = [(); 3].map(|()| UserFence::new().unwrap());
    let addresses = fences.each_ref().map(UserFence::address);
    drop(fences);
    assert!(addresses.iter().all(|&at| !is_mapped(at)));

    let mut armed = UserFence::new().unwrap();
    let range = PageRange::new(PAGE, PAGE).unwrap();
    vm.prefetch_with_fence(range, PrefetchTarget::System, &mut armed).unwrap();
    let at = armed.address();
    drop(armed);
    assert!(is_mapped(at), "the fence is not signalled");
    // SAFETY: the page of the fence above, which nobody writes: the script is no driver.
    unsafe { rustix::mm::munmap(at as *mut _, PAGE as usize) }.unwrap();
}

/// A wait of the compute runtime: one second. An interrupted wait is made again with what the driver left of the time.
#[test]
fn waiting() {
    let (script, vm) = script();
    let word = std::sync::atomic::AtomicU64::new(0);
    let wait = |timeout| {
        vm.device().wait_user_fence(&word, Comparison::GreaterOrEqual, 7, 0xff, timeout, None).unwrap();
        let (request, wait) = script.only();
        assert_eq!(request, 0xC048_644A);
        assert_eq!((wait[4], wait[6], wait[8]), (wait[4] & 0xffff_0000 | 3, 7, 0xff));
        (wait[4] >> 16, u64::from(wait[10]) | u64::from(wait[11]) << 32)
    };
    assert_eq!(wait(Timeout::Within(std::time::Duration::from_secs(1))), (0, 1_000_000_000));
    assert_eq!(wait(Timeout::Within(std::time::Duration::MAX)), (0, i64::MAX as u64));
    assert_eq!(wait(Timeout::Poll), (0, 0));
    assert_eq!(wait(Timeout::Never), (0, u64::MAX));
    assert_eq!(wait(Timeout::Until { monotonic_ns: 99 }), (1, 99));
    *script.answers.lock().unwrap() = vec![Errno::EINTR; 3000];
    vm.device().wait_user_fence(&word, Comparison::Equal, 1, 1, Timeout::Never, None).unwrap();
    assert_eq!(script.calls.lock().unwrap().len(), 3001);
}

#[test]
fn objects_queues_and_submissions() {
    let (script, vm) = script();
    let bo = Bo::create(vm.device(), 2 * PAGE, BoOptions::new().placed_in(RegionMask::from_bits(2))).unwrap();
    let create = dwords(14, &[(2, 0x2000), (4, 2), (8, 2)]);
    assert_eq!(script.only(), (0xC038_6441, create));
    vm.bind(
        &[Bind::map(&bo, PAGE, PageRange::new(0x10000, PAGE).unwrap()).immediate().read_only()],
        Syncs::new(),
    )
    .unwrap();
    let map = dwords(
        34,
        &[
            (2, 2),
            (5, 1),
            (6 + 2, 5),
            (6 + 3, 2),
            (6 + 4, 0x1000),
            (6 + 6, 0x1000),
            (6 + 8, 0x10000),
            (6 + 11, 3),
        ],
    );
    assert_eq!(script.only(), (0x4088_6445, map));
    drop(bo);
    assert_eq!(script.only(), (0x4008_6409, dwords(2, &[(0, 5)])));
    let copy = Engine { class: EngineClass::Copy, instance: 0, gt_id: 0 };
    let queue = ExecQueue::create(&vm, &[copy], QueueOptions::new()).unwrap();
    let (request, create) = script.only();
    assert_eq!(request, 0xC030_6446);
    assert_eq!(create[..6], [0, 0, 1 | 1 << 16, 2, 0, 0]);
    let mut fence = UserFence::new().unwrap();
    // SAFETY: the script runs nothing.
    unsafe { queue.submit(0x7f00_0000_0000, Syncs::new().fence(&mut fence)) }.unwrap();
    let (request, exec) = script.only();
    assert_eq!(request, 0x4038_6449);
    assert_eq!((exec[2], exec[3], exec[6], exec[7], exec[8]), (6, 1, 0, 0x7f00, 1));
    std::mem::forget(fence);
}

#[test]
fn a_batch_that_is_too_long_is_halved() {
    let (script, vm) = script();
    let binds = vec![Bind::unmap(PageRange::new(0, PAGE).unwrap()); 5];
    *script.answers.lock().unwrap() = vec![Errno::ENOBUFS; 2];
    let (done, result) = vm.bind_in_parts(&binds);
    result.unwrap();
    assert_eq!(done, 5);
    let sizes: Vec<u8> = script.calls.lock().unwrap().iter().map(|(_, arg)| arg[20]).collect();
    assert_eq!(sizes, [5, 3, 2, 2, 1]);
    *script.answers.lock().unwrap() = vec![Errno::ENOBUFS; 10];
    let (done, result) = vm.bind_in_parts(&binds);
    assert_eq!((done, result.unwrap_err().kind()), (0, ErrorKind::OutOfMemory));
}

#[test]
fn answers_that_keep_growing_end_some_day() {
    let (script, vm) = script();
    *script.answers.lock().unwrap() = vec![Errno::ENOSPC; 1000];
    let mut buffer = RangeAttributeBuffer::with_capacity(1);
    let error = vm.range_attributes_into(PageRange::new(0, PAGE).unwrap(), &mut buffer).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOSPC));
}
