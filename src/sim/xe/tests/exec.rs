//! GPU commands through mirrored addresses: stores, copies, atomics, faults.

use std::time::Duration;

use super::bind::{MIRROR, bind};
use super::migrate::{check, filled, in_vram};
use super::*;
use crate::channel::DeviceMapping;
use crate::sim::xe::XeInjection;
use crate::uapi::xe::{
    DRM_XE_VM_BIND_FLAG_READONLY, Exec, ExecQueueCreate, ExecQueueGetProperty, ExecQueueSetProperty,
    VmBindOp, WaitUserFence,
};
use crate::xe::{
    Advice, AtomicMode, Batch, BatchBuffer, Bind, BindQueue, Bo, BoOptions, Comparison, Engine, EngineClass,
    ExecQueue, FaultAccess, FaultKind, MirrorOptions, PatIndex, PreferredLocation, PrefetchTarget, Priority,
    Purgeable, QueueOptions, RegionMask, ReportedLocation, Syncobj, Syncs, Timeout, UserFence,
};

const PATIENCE: Timeout = Timeout::Within(Duration::from_secs(60));

fn engine(device: &Device) -> Engine {
    *device.engines().unwrap().iter().find(|engine| engine.class == EngineClass::Copy).unwrap()
}

fn queue(vm: &Vm) -> ExecQueue {
    ExecQueue::create(vm, &[engine(vm.device())], QueueOptions::new()).unwrap()
}

/// Runs commands and waits until they are done or the queue is dead.
fn run(vm: &Vm, queue: &ExecQueue, batch: Batch) -> Result<(), Error> {
    let batch = BatchBuffer::new(batch).unwrap();
    let mut fence = UserFence::new().unwrap();
    // SAFETY: the tests' commands write to buffers of theirs, which outlive the wait below; so do the batch and the fence.
    unsafe { queue.submit(batch.address(), Syncs::new().fence(&mut fence)) }?;
    fence.wait(vm.device(), PATIENCE, Some(queue))
}

/// Four bytes of an object, which the GPU writes in one piece.
fn object_word(mapping: &DeviceMapping, at: usize) -> u32 {
    assert!(at + 4 <= mapping.len());
    // SAFETY: inside the mapping.
    let word = unsafe { mapping.as_ptr().add(at) };
    // SAFETY: mapped, and a multiple of 4 in these tests.
    unsafe { word.cast::<u32>().read_volatile() }
}

fn word(buffer: &Buffer<u8>, at: usize) -> u32 {
    u32::from_le_bytes(buffer[at..at + 4].try_into().unwrap())
}

#[test]
fn stores_copies_and_atomics_reach_the_process() {
    for platform in [Platform::Battlemage, Platform::LunarLake, Platform::PonteVecchio] {
        let bench = Bench::new(platform);
        let vm = bench.mirrored();
        let queue = queue(&vm);
        let mut buffer = memory(M2);
        buffer[64] = 7;
        let at = buffer.range().start();
        let batch = Batch::new()
            .store_u32(at, 0xdead_beef)
            .store_u64(at + 8, 0x1122_3344_5566_7788)
            .copy_u32(at + 32, at + 64)
            .flush()
            .atomic_increment(at + 64)
            .atomic_increment(at + 64)
            .atomic_decrement(at + 4096);
        run(&vm, &queue, batch).unwrap();
        let vram = bench.device.config().has_vram;
        assert_eq!(in_vram(buffer.range()), if vram { M2 } else { 0 }, "{platform:?}");
        assert_eq!(word(&buffer, 0), 0xdead_beef);
        assert_eq!((word(&buffer, 8), word(&buffer, 12)), (0x5566_7788, 0x1122_3344));
        assert_eq!((word(&buffer, 32), word(&buffer, 64), word(&buffer, 4096)), (7, 9, u32::MAX));
        assert_eq!(vm.faults().unwrap(), []);
        assert!(!queue.is_banned().unwrap());
    }
}

#[test]
fn a_read_alone_moves_the_block() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let queue = queue(&vm);
    let (from, to) = (filled(M2), memory(M2));
    run(&vm, &queue, Batch::new().copy_u32(to.range().start(), from.range().start() + 700)).unwrap();
    assert_eq!((in_vram(from.range()), in_vram(to.range())), (M2, M2));
    assert_eq!(word(&to, 0), word(&from, 700));
    check(&from);
}

#[test]
fn advice_decides_where_a_fault_finds_its_page() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let queue = queue(&vm);
    let buffer = memory(M2);
    let at = buffer.range().start();
    vm.advise(buffer.range(), Advice::PreferredLocation(PreferredLocation::System)).unwrap();
    run(&vm, &queue, Batch::new().store_u32(at, 1)).unwrap();
    assert_eq!(in_vram(buffer.range()), 0);
    // An atomic needs VRAM unless the GPU alone does atomics.
    vm.advise(buffer.range(), Advice::Atomic(AtomicMode::Device)).unwrap();
    run(&vm, &queue, Batch::new().atomic_increment(at)).unwrap();
    assert_eq!(in_vram(buffer.range()), 0);
    vm.advise(buffer.range(), Advice::Atomic(AtomicMode::Global)).unwrap();
    run(&vm, &queue, Batch::new().atomic_increment(at)).unwrap();
    assert_eq!(in_vram(buffer.range()), M2);
    assert_eq!(word(&buffer, 0), 3);
}

#[test]
fn atomics_on_memory_that_cannot_move() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let fence = UserFence::new().unwrap();
    let page = pages(fence.address(), 1);
    let first = queue(&vm);
    let failed = run(&vm, &first, Batch::new().atomic_increment(fence.address() + 8)).unwrap_err();
    assert_eq!((failed.kind(), failed.errno()), (ErrorKind::DeviceLost, Some(Errno::EIO)));
    let faults = vm.faults().unwrap();
    assert_eq!((faults[0].access, faults[0].kind), (FaultAccess::Atomic, FaultKind::NotPresent));
    assert_eq!((faults[0].address, faults[0].precision), (fence.address(), 4096));
    vm.advise(page, Advice::Atomic(AtomicMode::Device)).unwrap();
    let second = queue(&vm);
    run(&vm, &second, Batch::new().atomic_increment(fence.address() + 8)).unwrap();
    // SAFETY: the word lies in the fence's own page.
    assert_eq!(unsafe { ((fence.address() + 8) as *const u32).read_volatile() }, 1);
    vm.advise(page, Advice::Atomic(AtomicMode::Cpu)).unwrap();
    run(&vm, &second, Batch::new().atomic_increment(fence.address() + 8)).unwrap_err();
}

#[test]
fn faults_that_cannot_be_served_ban_the_queue_and_not_the_vm() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let bad = queue(&vm);
    let error = run(&vm, &bad, Batch::new().store_u32(0x1000, 1)).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::DeviceLost, Some(Errno::EIO)));
    assert!(bad.is_banned().unwrap());
    let batch = BatchBuffer::new(Batch::new()).unwrap();
    // SAFETY: the batch does nothing, and is refused.
    let again = unsafe { bad.submit(batch.address(), Syncs::new()) };
    refused(again, ErrorKind::DeviceLost, Some(Errno::ECANCELED));
    let good = queue(&vm);
    let buffer = memory(M2);
    run(&vm, &good, Batch::new().store_u32(buffer.range().start(), 5)).unwrap();
    assert_eq!(word(&buffer, 0), 5);
    let code = faults_that_cannot_be_served_ban_the_queue_and_not_the_vm as fn() as usize as u64 & !3;
    // Even reading what is read-only kills, through a writable mirror.
    run(&vm, &good, Batch::new().copy_u32(buffer.range().start(), code)).unwrap_err();
    let seen: Vec<_> =
        vm.faults().unwrap().iter().map(|fault| (fault.address, fault.access, fault.kind)).collect();
    assert_eq!(
        seen,
        [
            (0x1000, FaultAccess::Write, FaultKind::NotPresent),
            (code & !0xfff, FaultAccess::Read, FaultKind::NotPresent)
        ]
    );
}

#[test]
fn the_first_fifty_faults_are_kept() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    for at in 1..=52 {
        run(&vm, &queue(&vm), Batch::new().store_u32(at * PAGE, 1)).unwrap_err();
    }
    let faults = vm.faults().unwrap();
    assert_eq!(faults.len(), 50);
    assert_eq!((faults[0].address, faults[49].address), (PAGE, 50 * PAGE));
}

#[test]
fn a_read_only_mirror_reads_what_is_read_only() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    vm.mirror_with(bench.device.config().whole_va(), MirrorOptions::new().read_only()).unwrap();
    let bo = Bo::create(&bench.device, PAGE, BoOptions::new()).unwrap();
    let at = pages(16 * PAGE, 1);
    vm.bind(&[Bind::map(&bo, 0, at)], Syncs::new()).unwrap();
    static CONSTANT: u32 = 0x600d_c0de;
    let reader = queue(&vm);
    let batch = BatchBuffer::new(Batch::new().copy_u32(at.start(), &raw const CONSTANT as u64)).unwrap();
    // SAFETY: the command writes to the object alone; the batch outlives the queue's work, which ends with the queue.
    unsafe { reader.submit(batch.address(), Syncs::new()) }.unwrap();
    let mapping = bo.map().unwrap();
    let seen = || object_word(&mapping, 0);
    while seen() == 0 && !reader.is_banned().unwrap() {
        std::thread::yield_now();
    }
    assert_eq!(seen(), CONSTANT);
    let buffer = memory(M2);
    run(&vm, &queue(&vm), Batch::new().store_u32(buffer.range().start(), 1)).unwrap_err();
    let fault = vm.faults().unwrap()[0];
    assert_eq!((fault.access, fault.kind), (FaultAccess::Write, FaultKind::NotPresent));
}

#[test]
fn objects_user_pointers_and_null_mappings() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let queue = queue(&vm);
    let bo = Bo::create(&bench.device, 2 * PAGE, BoOptions::new()).unwrap();
    let buffer = memory(M2);
    let (object, user, null) = (pages(PAGE, 2), pages(8 * PAGE, 1), pages(10 * PAGE, 1));
    vm.bind(
        &[
            Bind::map(&bo, 0, object).immediate(),
            Bind::map_userptr(buffer.range().start() + PAGE, user),
            Bind::map_null(null),
        ],
        Syncs::new(),
    )
    .unwrap();
    // Memory that cannot be in VRAM takes no atomic that has to be there.
    vm.advise(object, Advice::Atomic(AtomicMode::Device)).unwrap();
    let batch = Batch::new()
        .store_u32(object.start() + PAGE, 11)
        .atomic_increment(object.start() + PAGE)
        .store_u32(user.start() + 8, 12)
        .store_u32(null.start(), 13)
        .copy_u32(object.start(), null.start());
    run(&vm, &queue, batch).unwrap();
    let mapping = bo.map().unwrap();
    let words = [object_word(&mapping, 0), object_word(&mapping, 4096)];
    assert_eq!(words, [0, 12]);
    assert_eq!(word(&buffer, 4096 + 8), 12);
}

#[test]
fn page_tables_of_objects_in_system_memory_let_atomics_through() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let bo = Bo::create(&bench.device, PAGE, BoOptions::new()).unwrap();
    let (now, later) = (pages(PAGE, 1), pages(3 * PAGE, 1));
    vm.bind(&[Bind::map(&bo, 0, now).immediate(), Bind::map(&bo, 0, later)], Syncs::new()).unwrap();
    let mapping = bo.map().unwrap();
    let increment = |at: u64| run(&vm, &queue(&vm), Batch::new().atomic_increment(at));
    increment(now.start()).unwrap();
    assert_eq!(object_word(&mapping, 0), 1);
    // Without any, the atomic faults, and memory that cannot be in VRAM is no place for it.
    increment(later.start()).unwrap_err();
    assert_eq!(vm.faults().unwrap()[0].kind, FaultKind::NotPresent);
    // Whatever else is done there first writes them.
    run(&vm, &queue(&vm), Batch::new().store_u32(later.start() + 8, 5)).unwrap();
    increment(later.start()).unwrap();
    assert_eq!(object_word(&mapping, 0), 2);
    // Another mode takes them away.
    vm.advise(now, Advice::Atomic(AtomicMode::Cpu)).unwrap();
    increment(now.start()).unwrap_err();
    run(&vm, &queue(&vm), Batch::new().store_u32(now.start() + 8, 5)).unwrap();
    increment(now.start()).unwrap_err();
    assert_eq!(vm.faults().unwrap().last().unwrap().kind, FaultKind::AtomicAccess);
    assert_eq!(object_word(&mapping, 0), 2);
}

#[test]
fn a_mirror_bound_again_swallows_the_mapping_of_the_last_fault() {
    let bench = Bench::new(Platform::Battlemage);
    let buffer = memory(M2);
    let page = |number: u64, count: u64| pages(buffer.range().start() + number * PAGE, count);
    let ends = |fault: bool| {
        let vm = bench.mirrored();
        let queue = queue(&vm);
        // Cuts the mirror at both ends of the page and changes nothing of it.
        vm.advise(page(13, 1), Advice::PreferredLocation(PreferredLocation::FaultingDevice)).unwrap();
        vm.advise(page(40, 1), Advice::PreferredLocation(PreferredLocation::System)).unwrap();
        if fault {
            // The second store is not served, and the fence not written, which would be the last fault.
            run(&vm, &queue, Batch::new().store_u32(page(13, 1).start(), 1).store_u32(0, 1)).unwrap_err();
        }
        // Ends one page before the cut: the driver's look behind it reaches over it.
        vm.mirror(page(4, 8)).unwrap();
        let listed = vm.range_attributes(page(0, 30)).unwrap();
        listed.iter().map(|listed| (listed.range.end() - buffer.range().start()) / PAGE).collect::<Vec<_>>()
    };
    assert_eq!(ends(false)[..2], [13, 14]);
    assert_eq!(ends(true)[0], 14);
}

#[test]
fn pages_around_one_that_was_discarded_stay_in_vram() {
    let bench = Bench::new(Platform::Battlemage);
    let (vm, buffer) = (bench.mirrored(), filled(M2));
    let page = |number: u64, count: u64| pages(buffer.range().start() + number * PAGE, count);
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    let gone = page(400, 20);
    // SAFETY: discards the test's own bytes, to which no reference exists at this moment.
    unsafe {
        rustix::mm::madvise(gone.start() as *mut _, gone.len() as usize, rustix::mm::Advice::LinuxDontNeed)
    }
    .unwrap();
    // Cuts the mirror, so that a fault there is about that page alone.
    vm.advise(page(400, 1), Advice::PreferredLocation(PreferredLocation::FaultingDevice)).unwrap();
    assert_eq!(in_vram(buffer.range()), M2 - gone.len());
    run(&vm, &queue(&vm), Batch::new().store_u32(page(400, 1).start(), 1)).unwrap();
    assert_eq!(in_vram(buffer.range()), M2 - gone.len() + PAGE);
    assert_eq!((word(&buffer, 400 * PAGE as usize), buffer[5], buffer[410 * PAGE as usize]), (1, 0, 0));
}

#[test]
fn an_atomic_on_a_mirror_made_read_only_moves_nothing() {
    let bench = Bench::new(Platform::Battlemage);
    let (vm, buffer) = (bench.mirrored(), filled(M2));
    vm.prefetch(buffer.range(), PrefetchTarget::System).unwrap();
    let (flags, whole) = (MIRROR.flags | DRM_XE_VM_BIND_FLAG_READONLY, bench.device.config().whole_va());
    bind(&vm, VmBindOp { addr: whole.start(), range: whole.len(), flags, ..MIRROR }).unwrap();
    let at = buffer.range().start();
    run(&vm, &queue(&vm), Batch::new().atomic_increment(at)).unwrap_err();
    let fault = vm.faults().unwrap()[0];
    assert_eq!((fault.address, fault.access), (at, FaultAccess::Atomic));
    assert_eq!(in_vram(buffer.range()), 0);
    check(&buffer);
}

#[test]
fn objects_that_may_be_thrown_away_are_not_faulted_in() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let bo = Bo::create(&bench.device, M2, BoOptions::new().placed_in(RegionMask::SYSTEM.with(1))).unwrap();
    let at = pages(M2, M2 / PAGE);
    vm.bind(&[Bind::map(&bo, 0, at)], Syncs::new()).unwrap();
    let store = || run(&vm, &queue(&vm), Batch::new().store_u32(at.start(), 1));
    assert!(vm.set_purgeable(at, Purgeable::DontNeed).unwrap());
    store().unwrap_err();
    assert!(vm.set_purgeable(at, Purgeable::WillNeed).unwrap());
    store().unwrap();
    // What is in the page tables stays there until it is thrown away.
    assert!(vm.set_purgeable(at, Purgeable::DontNeed).unwrap());
    store().unwrap();
}

#[test]
fn a_reset_of_just_one_mapping_forgets_its_pat_index() {
    let bench = Bench::new(Platform::Battlemage);
    for whole in [false, true] {
        let (vm, buffer) = (bench.mirrored(), memory(2 * M2));
        let start = buffer.range().start();
        let bound_with = vm.range_attributes(pages(start, 1)).unwrap()[0].pat;
        let system = Advice::PreferredLocation(PreferredLocation::System);
        // What the GPU uses of the first block is the mapping that the advice made, or less.
        vm.advise(pages(start, if whole { 512 } else { 600 }), system).unwrap();
        if whole {
            vm.advise(pages(start + M2, 512), system).unwrap();
        }
        run(&vm, &queue(&vm), Batch::new().store_u32(start, 1)).unwrap();
        drop(buffer);
        let reset = &vm.range_attributes(pages(start, 1)).unwrap()[0];
        assert_eq!(reset.preferred_location, ReportedLocation::FaultingDevice);
        assert_eq!(reset.pat == bound_with, !whole, "{reset:?}");
        if whole {
            assert_eq!(reset.pat, PatIndex(0));
        }
    }
}

#[test]
fn a_batch_in_a_null_mapping_runs_into_what_is_behind_it() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    let null = pages(16 * PAGE, 512);
    vm.bind(&[Bind::map_null(null)], Syncs::new()).unwrap();
    let (queue, word) = (queue(&vm), std::sync::atomic::AtomicU64::new(0));
    // SAFETY: nothing is stored: all that the batch reads is zero, and behind it there is nothing.
    unsafe { queue.submit(null.start(), Syncs::new()) }.unwrap();
    let end = bench.device.wait_user_fence(&word, Comparison::Equal, 1, u64::MAX, PATIENCE, Some(&queue));
    refused(end, ErrorKind::DeviceLost, Some(Errno::EIO));
    assert_eq!(vm.faults().unwrap()[0].address, null.end());
}

#[test]
fn a_vm_without_faults_and_syncobjs() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = Vm::create(&bench.device, VmFlags::empty()).unwrap();
    let bo = Bo::create(&bench.device, 4 * PAGE, BoOptions::new().private_to(&vm)).unwrap();
    let at = pages(PAGE, 4);
    let bound = Syncobj::create(&bench.device, false).unwrap();
    vm.bind(&[Bind::map(&bo, 0, at)], Syncs::new().signal(&bound)).unwrap();
    let mapping = bo.map().unwrap();
    let commands = Batch::new().store_u32(at.start() + 8192, 77).finish();
    // SAFETY: the first page of the object, which nothing reads yet.
    unsafe {
        mapping.as_ptr().as_ptr().cast::<u32>().copy_from_nonoverlapping(commands.as_ptr(), commands.len())
    };
    let queue = queue(&vm);
    let timeline = Syncobj::create(&bench.device, false).unwrap();
    // SAFETY: the commands write to the object alone, which stays bound until they are done.
    unsafe { queue.submit(at.start(), Syncs::new().wait(&bound).signal_point(&timeline, 3)) }.unwrap();
    timeline.wait_point(3, i64::MAX, true).unwrap();
    assert_eq!(timeline.point().unwrap(), 3);
    assert_eq!(object_word(&mapping, 8192), 77);
    // Nothing is bound there, and nothing serves the fault.
    // SAFETY: as above; the commands cannot be read at all.
    unsafe { queue.submit(1 << 30, Syncs::new()) }.unwrap();
    while !queue.is_banned().unwrap() {
        std::thread::yield_now();
    }
    assert_eq!(vm.faults().unwrap(), []);
}

#[test]
fn submissions_wait_for_what_they_are_told_to() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let queue = queue(&vm);
    let gate = Syncobj::create(&bench.device, false).unwrap();
    let buffer = memory(M2);
    let batch = BatchBuffer::new(Batch::new().store_u32(buffer.range().start(), 1)).unwrap();
    let mut fence = UserFence::new().unwrap();
    // SAFETY: buffer, batch and fence outlive the wait below.
    let submit = |syncs: Syncs<'_>| unsafe { queue.submit(batch.address(), syncs) };
    refused(submit(Syncs::new().wait(&gate)), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    refused(submit(Syncs::new().signal(&gate)), ErrorKind::Unsupported, Some(Errno::EOPNOTSUPP));
    // A point that was submitted and is signalled later: by another queue's work, here by hand.
    gate.signal_point(1).unwrap();
    submit(Syncs::new().wait_point(&gate, 1).fence(&mut fence)).unwrap();
    fence.wait(&bench.device, PATIENCE, Some(&queue)).unwrap();
    assert_eq!(word(&buffer, 0), 1);
}

#[test]
fn a_fence_is_for_one_operation_at_a_time() {
    let bench = Bench::new(Platform::Battlemage);
    bench.gpu.inject(XeInjection::none().fence_delay(Duration::from_millis(200))).unwrap();
    let vm = bench.mirrored();
    let buffer = memory(M2);
    let mut fence = UserFence::new().unwrap();
    vm.prefetch_with_fence(buffer.range(), PrefetchTarget::System, &mut fence).unwrap();
    let error = refused(
        vm.prefetch_with_fence(buffer.range(), PrefetchTarget::System, &mut fence),
        ErrorKind::Busy,
        None,
    );
    assert!(error.reason().contains("still waiting"), "{error}");
    refused(fence.wait(&bench.device, Timeout::Poll, None), ErrorKind::TimedOut, Some(Errno::ETIME));
    refused(
        fence.wait(&bench.device, Timeout::Within(Duration::from_millis(1)), None),
        ErrorKind::TimedOut,
        Some(Errno::ETIME),
    );
    refused(
        fence.wait(&bench.device, Timeout::Until { monotonic_ns: 1 }, None),
        ErrorKind::TimedOut,
        Some(Errno::ETIME),
    );
    fence.wait(&bench.device, Timeout::Never, None).unwrap();
}

#[test]
fn an_unsignalled_fence_keeps_its_mapping() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    bench.gpu.inject(XeInjection::none().fence_delay(Duration::from_millis(300))).unwrap();
    let bo = Bo::create(&bench.device, PAGE, BoOptions::new()).unwrap();
    let mut fence = UserFence::new().unwrap();
    vm.bind(&[Bind::map(&bo, 0, pages(PAGE, 1)).immediate()], Syncs::new().fence(&mut fence)).unwrap();
    refused(vm.unmap(pages(PAGE, 1)), ErrorKind::AddressInUse, Some(Errno::EBUSY));
    fence.wait(&bench.device, PATIENCE, None).unwrap();
    vm.unmap(pages(PAGE, 1)).unwrap();
    bench.gpu.inject(XeInjection::none()).unwrap();
}

#[test]
fn a_dropped_fence_leaves_its_page_to_the_kernel() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    bench.gpu.inject(XeInjection::none().fence_delay(Duration::from_millis(100))).unwrap();
    let buffer = memory(M2);
    let mut fence = UserFence::new().unwrap();
    vm.prefetch_with_fence(buffer.range(), PrefetchTarget::System, &mut fence).unwrap();
    let address = fence.address() as *const u64;
    drop(fence);
    // SAFETY: an unsignalled fence's page is never unmapped, which is what this shows.
    while unsafe { address.read_volatile() } != 1 {
        std::thread::yield_now();
    }
}

#[test]
fn words_are_compared_unsigned_and_under_a_mask() {
    let bench = Bench::new(Platform::Battlemage);
    let word = std::sync::atomic::AtomicU64::new(0xf0);
    let poll = |comparison, value, mask| {
        bench.device.wait_user_fence(&word, comparison, value, mask, Timeout::Poll, None).is_ok()
    };
    use Comparison::*;
    for (comparison, below, equal, above) in [
        (Equal, false, true, false),
        (NotEqual, true, false, true),
        (Greater, true, false, false),
        (GreaterOrEqual, true, true, false),
        (Less, false, false, true),
        (LessOrEqual, false, true, true),
    ] {
        assert_eq!(poll(comparison, 0xef, u64::MAX), below, "{comparison:?}");
        assert_eq!(poll(comparison, 0xf0, u64::MAX), equal, "{comparison:?}");
        assert_eq!(poll(comparison, u64::MAX, u64::MAX), above, "{comparison:?}");
    }
    assert!(poll(Equal, 0x0f00, 0xf));
}

#[test]
fn waits_are_checked() {
    let bench = Bench::new(Platform::Battlemage);
    let word = 1u64;
    let good = WaitUserFence {
        addr: &raw const word as u64,
        value: 1,
        mask: u64::MAX,
        timeout: 1_000_000,
        ..Default::default()
    };
    let ask = |arg: WaitUserFence| raw(bench.device.channel(), &mut arg.clone());
    assert_eq!(ask(good), Ok(()));
    for (arg, errno) in [
        (WaitUserFence { extensions: 1, ..good }, Errno::EINVAL),
        (WaitUserFence { pad: 1, ..good }, Errno::EINVAL),
        (WaitUserFence { pad2: 1, ..good }, Errno::EINVAL),
        (WaitUserFence { reserved: [0, 1], ..good }, Errno::EINVAL),
        (WaitUserFence { flags: 2, ..good }, Errno::EINVAL),
        (WaitUserFence { op: 6, ..good }, Errno::EINVAL),
        (WaitUserFence { addr: good.addr + 4, ..good }, Errno::EINVAL),
        (WaitUserFence { exec_queue_id: 9, ..good }, Errno::ENOENT),
        (WaitUserFence { addr: 8, ..good }, Errno::EFAULT),
        (WaitUserFence { value: 2, timeout: 0, ..good }, Errno::ETIME),
    ] {
        assert_eq!(ask(arg), Err(errno), "{arg:?}");
    }
    let mut relative = WaitUserFence { timeout: 50_000_000_000, ..good };
    raw(bench.device.channel(), &mut relative).unwrap();
    assert!(relative.timeout < 50_000_000_000 && relative.timeout > 0, "what remains is told");
    let mut absolute = WaitUserFence { flags: 1, timeout: 5, ..good };
    raw(bench.device.channel(), &mut absolute).unwrap();
    assert_eq!(absolute.timeout, 5);
}

#[test]
fn queues_are_checked() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let copy = engine(&bench.device);
    let compute = Engine { class: EngineClass::Compute, ..copy };
    let create = |engines: &[Engine], options| ExecQueue::create(&vm, engines, options);
    create(&[compute], QueueOptions::new().low_latency()).unwrap();
    create(&[copy], QueueOptions::new().priority(Priority::Low).timeslice_us(1000)).unwrap();
    // The compute hardware is one engine (`ccs_mode`).
    let second = Engine { instance: 1, ..compute };
    let (ninth, elsewhere) = (Engine { instance: 9, ..copy }, Engine { gt_id: 9, ..copy });
    for engines in [vec![], vec![copy, compute], vec![second], vec![ninth], vec![elsewhere]] {
        refused(create(&engines, QueueOptions::new()), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    }
    let high = QueueOptions::new().priority(Priority::High);
    refused(create(&[copy], high), ErrorKind::PermissionDenied, Some(Errno::EPERM));
    let forever = QueueOptions::new().timeslice_us(u64::MAX);
    refused(create(&[copy], forever), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    // SAFETY: there is no such VM.
    let stranger = unsafe { Vm::adopt(&bench.device, 50) }.unwrap();
    refused(
        ExecQueue::create(&stranger, &[copy], QueueOptions::new()),
        ErrorKind::NotFound,
        Some(Errno::ENOENT),
    );
    let instance = crate::uapi::xe::EngineClassInstance::from(copy);
    let good = ExecQueueCreate {
        width: 1,
        num_placements: 1,
        vm_id: vm.id(),
        instances: &raw const instance as u64,
        ..Default::default()
    };
    let ask = |arg: ExecQueueCreate| raw(bench.device.channel(), &mut arg.clone());
    assert_eq!(ask(good), Ok(()));
    for (arg, errno) in [
        (ExecQueueCreate { flags: 2, ..good }, Errno::EINVAL),
        (ExecQueueCreate { reserved: [1, 0], ..good }, Errno::EINVAL),
        (ExecQueueCreate { width: 0, ..good }, Errno::EINVAL),
        (ExecQueueCreate { num_placements: 0, ..good }, Errno::EINVAL),
        (ExecQueueCreate { width: 1000, ..good }, Errno::EINVAL),
        (ExecQueueCreate { instances: 8, ..good }, Errno::EFAULT),
        (ExecQueueCreate { extensions: 8, ..good }, Errno::EFAULT),
        (ExecQueueCreate { vm_id: 50, ..good }, Errno::ENOENT),
    ] {
        assert_eq!(ask(arg), Err(errno), "{arg:?}");
    }
    let channel = bench.device.channel();
    let set = |arg: ExecQueueSetProperty| raw(channel, &mut arg.clone());
    assert_eq!(set(ExecQueueSetProperty { exec_queue_id: 1, ..Default::default() }), Err(Errno::EINVAL));
    let get = |arg: ExecQueueGetProperty| raw(channel, &mut arg.clone());
    assert_eq!(get(ExecQueueGetProperty { exec_queue_id: 1, ..Default::default() }), Ok(()));
    assert_eq!(get(ExecQueueGetProperty { exec_queue_id: 90, ..Default::default() }), Err(Errno::ENOENT));
    let property = ExecQueueGetProperty { exec_queue_id: 1, property: 1, ..Default::default() };
    assert_eq!(get(property), Err(Errno::EINVAL));
    assert_eq!(get(ExecQueueGetProperty { reserved: [1, 0], ..Default::default() }), Err(Errno::EINVAL));
}

#[test]
fn submissions_are_checked() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let queue = queue(&vm);
    let binds = BindQueue::create(&vm).unwrap();
    let batch = BatchBuffer::new(Batch::new()).unwrap();
    let good = Exec {
        exec_queue_id: queue.id(),
        num_batch_buffer: 1,
        address: batch.address(),
        ..Default::default()
    };
    let ask = |arg: Exec| raw(bench.device.channel(), &mut arg.clone());
    assert_eq!(ask(good), Ok(()));
    assert_eq!(ask(Exec { num_batch_buffer: 0, ..good }), Ok(()));
    for (arg, errno) in [
        (Exec { extensions: 1, ..good }, Errno::EINVAL),
        (Exec { pad: [0, 0, 1], ..good }, Errno::EINVAL),
        (Exec { reserved: [1, 0], ..good }, Errno::EINVAL),
        (Exec { num_syncs: 1025, ..good }, Errno::EINVAL),
        (Exec { num_syncs: 1, syncs: 8, ..good }, Errno::EFAULT),
        (Exec { exec_queue_id: 90, ..good }, Errno::ENOENT),
        (Exec { exec_queue_id: binds.id(), ..good }, Errno::EINVAL),
        (Exec { num_batch_buffer: 2, ..good }, Errno::EINVAL),
    ] {
        assert_eq!(ask(arg), Err(errno), "{arg:?}");
    }
    // Binds may be ordered on a queue of their own, of the same VM only.
    let bo = Bo::create(&bench.device, PAGE, BoOptions::new()).unwrap();
    vm.bind(&[Bind::map(&bo, 0, pages(PAGE, 1))], Syncs::new().on(&binds)).unwrap();
    let other = bench.mirrored();
    refused(
        other.bind(&[Bind::map(&bo, 0, pages(PAGE, 1))], Syncs::new().on(&binds)),
        ErrorKind::InvalidArgument,
        Some(Errno::EINVAL),
    );
}

#[test]
fn a_full_queue_asks_to_come_back() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let queue = queue(&vm);
    // Behind work that never ends, as far as this test is concerned.
    bench.gpu.inject(XeInjection::none().fence_delay(Duration::from_secs(1))).unwrap();
    let batch = BatchBuffer::new(Batch::new()).unwrap();
    // SAFETY: the batch does nothing.
    let submit = || unsafe { queue.submit(batch.address(), Syncs::new()) };
    let error = std::iter::repeat_with(submit).take(1100).find_map(Result::err).unwrap();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::TryAgain, Some(Errno::EAGAIN)));
    assert!(error.reason().contains("thousand"), "{error}");
    bench.gpu.inject(XeInjection::none()).unwrap();
}

#[test]
fn munmap_under_the_gpu_faults_once_it_is_gone() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let queue = queue(&vm);
    let buffer = memory(M2);
    let at = buffer.range().start();
    run(&vm, &queue, Batch::new().store_u32(at, 1)).unwrap();
    // Keeps the addresses from being used again.
    drop(buffer);
    // SAFETY: a fixed mapping without access over what was the buffer; if somebody was faster, the test reserves nothing.
    let hole = unsafe {
        rustix::mm::mmap_anonymous(
            at as *mut _,
            M2 as usize,
            rustix::mm::ProtFlags::empty(),
            rustix::mm::MapFlags::PRIVATE | rustix::mm::MapFlags::FIXED_NOREPLACE,
        )
    };
    if hole.is_ok() {
        run(&vm, &queue, Batch::new().store_u32(at, 2)).unwrap_err();
        assert!(queue.is_banned().unwrap());
        // SAFETY: the mapping made above.
        unsafe { rustix::mm::munmap(at as *mut _, M2 as usize) }.unwrap();
    }
}
