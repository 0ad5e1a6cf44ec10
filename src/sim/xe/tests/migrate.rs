//! Prefetches that really move pages, and what brings them back.

use super::bind::{MIRROR, bind};
use super::*;
use crate::pagemap::{Injection, Space, Trigger};
use crate::sim::xe::XeInjection;
use crate::uapi::xe::{
    DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC, DRM_XE_VM_BIND_FLAG_READONLY, DRM_XE_VM_BIND_OP_PREFETCH, Madvise,
    MadvisePreferredLoc, VmBindOp,
};
use crate::xe::{
    Advice, AtomicMode, Batch, BatchBuffer, Bo, BoOptions, EngineClass, ExecQueue, MirrorOptions,
    PreferredLocation, PrefetchTarget, QueueOptions, RegionMask, Syncs,
};
use rustix::mm::MprotectFlags;

/// Bytes of a range that are in any simulated VRAM.
pub(super) fn in_vram(range: PageRange) -> u64 {
    Space::of_process().unwrap().device_bytes(range, None).unwrap()
}

pub(super) fn filled(bytes: u64) -> Buffer<u8> {
    let mut buffer = memory(bytes);
    for (at, byte) in buffer.iter_mut().enumerate() {
        *byte = (at / 7) as u8;
    }
    buffer
}

#[track_caller]
pub(super) fn check(buffer: &Buffer<u8>) {
    assert!(buffer.iter().enumerate().all(|(at, &byte)| byte == (at / 7) as u8));
}

#[test]
fn pages_move_and_a_touch_brings_their_block_back() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = filled(2 * M2);
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    assert_eq!(in_vram(buffer.range()), 2 * M2);
    assert_eq!(bench.device.memory_regions().unwrap()[1].used, 2 * M2);
    assert_eq!(buffer[5], 0);
    assert_eq!(in_vram(buffer.range()), M2, "a touch brings back the block, not the page");
    check(&buffer);
    assert_eq!(in_vram(buffer.range()), 0);
}

#[test]
fn system_is_where_a_prefetch_to_system_brings_pages() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = filled(2 * M2);
    for target in [PrefetchTarget::System, PrefetchTarget::Region(0)] {
        vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
        assert_eq!(in_vram(buffer.range()), 2 * M2);
        vm.prefetch(buffer.range(), target).unwrap();
        assert_eq!(in_vram(buffer.range()), 0);
    }
    check(&buffer);
}

#[test]
fn requests_are_rounded_outwards_to_blocks() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = filled(2 * M2);
    vm.prefetch(pages(buffer.range().start() + 5 * PAGE, 1), PrefetchTarget::Region(1)).unwrap();
    assert_eq!(in_vram(buffer.range()), M2);
    check(&buffer);
}

#[test]
fn absent_pages_are_made_on_the_device() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = memory(M2);
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    assert_eq!(in_vram(buffer.range()), M2);
    assert!(buffer.iter().all(|&byte| byte == 0));
}

#[test]
fn what_does_not_migrate_succeeds_where_it_is() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let file = rustix::fs::memfd_create("shared", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, M2).unwrap();
    let shared = Channel::from_fd(file).map("shared", 0, M2 as usize).unwrap();
    let range = PageRange::new(shared.as_ptr().as_ptr() as u64, M2).unwrap();
    vm.prefetch(range, PrefetchTarget::Region(1)).unwrap();
    assert_eq!(in_vram(range), 0);
    refused(vm.unmap(range), ErrorKind::AddressInUse, Some(Errno::EBUSY));
    drop(shared);
    vm.unmap(range).unwrap();
}

#[test]
fn what_does_not_migrate_is_mapped_anew_by_each_prefetch() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let file = rustix::fs::memfd_create("shared", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, M2).unwrap();
    let shared = Channel::from_fd(file).map("shared", 0, M2 as usize).unwrap();
    let range = PageRange::new(shared.as_ptr().as_ptr() as u64, M2).unwrap();
    // Whether a store arrives. (A user fence would need a mirror that can be written to.)
    let stores = |value: u32| {
        let engines = bench.device.engines().unwrap();
        let copy = engines.iter().find(|engine| engine.class == EngineClass::Copy).unwrap();
        let queue = ExecQueue::create(&vm, &[*copy], QueueOptions::new()).unwrap();
        let batch = BatchBuffer::new(Batch::new().store_u32(range.start(), value)).unwrap();
        // SAFETY: the command writes to the shared memory; it and the batch are there until the store is seen or the queue is dead.
        unsafe { queue.submit(batch.address(), Syncs::new()) }.unwrap();
        loop {
            // SAFETY: mapped, aligned, and written by the command in one piece.
            let seen = unsafe { shared.as_ptr().as_ptr().cast::<u32>().read_volatile() };
            if seen == value || queue.is_banned().unwrap() {
                break seen == value;
            }
            std::thread::yield_now();
        }
    };
    vm.prefetch(range, PrefetchTarget::Region(1)).unwrap();
    assert!(stores(1));
    // The crate's own call does not change the options of a mirror.
    let flags = MIRROR.flags | DRM_XE_VM_BIND_FLAG_READONLY;
    let whole = bench.device.config().whole_va();
    bind(&vm, VmBindOp { addr: whole.start(), range: whole.len(), flags, ..MIRROR }).unwrap();
    assert!(stores(2), "page tables that were written stay as they are");
    vm.prefetch(range, PrefetchTarget::Region(1)).unwrap();
    assert!(!stores(3));
}

#[test]
fn memory_that_the_process_may_not_write_to_keeps_none_behind_it_from_moving() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    vm.mirror_with(bench.device.config().whole_va(), MirrorOptions::new().read_only()).unwrap();
    let buffer = filled(M2);
    let first = pages(buffer.range().start(), 1);
    let protect = |flags| {
        // SAFETY: the test's own memory, to which nothing writes meanwhile.
        unsafe { rustix::mm::mprotect(first.start() as *mut _, first.len() as usize, flags) }.unwrap();
    };
    protect(MprotectFlags::READ);
    let whole = VmBindOp {
        op: DRM_XE_VM_BIND_OP_PREFETCH,
        addr: buffer.range().start(),
        range: M2,
        prefetch_mem_region_instance: 1,
        ..Default::default()
    };
    bind(&vm, whole).unwrap();
    assert_eq!(in_vram(buffer.range()), M2 - PAGE);
    protect(MprotectFlags::READ | MprotectFlags::WRITE);
    check(&buffer);
}

#[test]
fn kernels_and_devices_without_migration_succeed_without_moving() {
    let buffer = filled(M2);
    let built_without = Bench::with(XeConfig::new(Platform::Battlemage).without_migration());
    built_without.mirrored().prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    assert_eq!(in_vram(buffer.range()), 0);
    let integrated = Bench::new(Platform::LunarLake);
    integrated.mirrored().prefetch(buffer.range(), PrefetchTarget::Advised).unwrap();
    assert_eq!(in_vram(buffer.range()), 0);
}

#[test]
fn advice_says_where_an_advised_prefetch_goes() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = filled(M2);
    vm.prefetch(buffer.range(), PrefetchTarget::Advised).unwrap();
    assert_eq!(in_vram(buffer.range()), M2, "the faulting device is the default");
    vm.advise(buffer.range(), Advice::PreferredLocation(PreferredLocation::System)).unwrap();
    assert_eq!(in_vram(buffer.range()), M2, "advice moves nothing");
    vm.prefetch(buffer.range(), PrefetchTarget::Advised).unwrap();
    assert_eq!(in_vram(buffer.range()), 0);
    check(&buffer);
}

#[test]
fn a_peer_gets_the_pages() {
    let near = Bench::with(XeConfig::new(Platform::Battlemage).linked(71));
    let peer = Bench::with(XeConfig::new(Platform::Battlemage).linked(71));
    let vm = near.mirrored();
    let buffer = filled(M2);
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    vm.prefetch_to_peer(buffer.range(), &peer.device, 1).unwrap();
    assert_eq!(near.device.memory_regions().unwrap()[1].used, 0);
    assert_eq!(peer.device.memory_regions().unwrap()[1].used, M2);
    check(&buffer);
}

#[test]
fn the_second_tile_has_its_own_memory() {
    let bench = Bench::with(XeConfig::new(Platform::PonteVecchio).tiles(&[16 << 20, 16 << 20]));
    let vm = bench.mirrored();
    let buffer = filled(M2);
    vm.prefetch(buffer.range(), PrefetchTarget::Region(2)).unwrap();
    let used: Vec<u64> = bench.device.memory_regions().unwrap().iter().map(|region| region.used).collect();
    assert_eq!(used[1..], [0, M2]);
    let small = filled(PAGE);
    vm.prefetch(small.range(), PrefetchTarget::Region(1)).unwrap();
    check(&buffer);
    check(&small);
}

#[test]
fn ranges_of_4k_stay_where_vram_has_64k_pages() {
    let bench = Bench::new(Platform::PonteVecchio);
    let vm = bench.vm();
    let buffer = filled(M2);
    let page = pages(buffer.range().start() + 3 * PAGE, 1);
    vm.mirror(page).unwrap();
    vm.prefetch(page, PrefetchTarget::Region(1)).unwrap();
    assert_eq!(in_vram(buffer.range()), 0);
    let on_xe2 = Bench::new(Platform::Battlemage);
    let vm = on_xe2.vm();
    vm.mirror(page).unwrap();
    vm.prefetch(page, PrefetchTarget::Region(1)).unwrap();
    assert_eq!(in_vram(buffer.range()), PAGE);
    check(&buffer);
}

#[test]
fn pressure_sends_the_oldest_back_and_loses_nothing() {
    let bench = Bench::with(XeConfig::new(Platform::Battlemage).vram(8 << 20));
    let vm = bench.mirrored();
    let buffers: Vec<_> = (0..6).map(|_| filled(M2)).collect();
    for buffer in &buffers {
        vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
        assert_eq!(in_vram(buffer.range()), M2);
    }
    let resident: u64 = buffers.iter().map(|buffer| in_vram(buffer.range())).sum();
    assert_eq!(resident, 8 << 20);
    assert_eq!((in_vram(buffers[0].range()), in_vram(buffers[1].range())), (0, 0));
    buffers.iter().for_each(check);
}

/// What the real driver answers to a request larger than its memory: the end evicts the beginning, again and again.
#[test]
fn more_than_fits_at_once_asks_to_come_again() {
    let bench = Bench::with(XeConfig::new(Platform::Battlemage).vram(8 << 20));
    let vm = bench.mirrored();
    let buffer = filled(12 << 20);
    let error = refused(
        vm.prefetch(buffer.range(), PrefetchTarget::Region(1)),
        ErrorKind::TryAgain,
        Some(Errno::EAGAIN),
    );
    assert!(error.reason().contains("do not fit"), "{error}");
    assert_eq!(in_vram(buffer.range()), 8 << 20);
    check(&buffer);
}

#[test]
fn objects_and_pages_share_the_memory() {
    let bench = Bench::with(XeConfig::new(Platform::Battlemage).vram(8 << 20));
    let vm = bench.mirrored();
    let buffer = filled(8 << 20);
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    assert_eq!(in_vram(buffer.range()), 8 << 20);
    let vram = BoOptions::new().placed_in(RegionMask::default().with(1));
    let object = Bo::create(&bench.device, 4 << 20, vram).unwrap();
    assert_eq!(in_vram(buffer.range()), 4 << 20);
    assert_eq!(bench.device.memory_regions().unwrap()[1].used, 8 << 20);
    refused(Bo::create(&bench.device, 5 << 20, vram), ErrorKind::OutOfVram, Some(Errno::ENOSPC));
    Bo::create(&bench.device, 5 << 20, vram.placed_in(RegionMask::SYSTEM.with(1))).unwrap();
    drop(object);
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    check(&buffer);
}

/// The heart of the driver's reporting: what could not be moved is success.
#[test]
fn failed_migration_is_success() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = filled(2 * M2);
    for injection in
        [Injection::none().allocation(Trigger::ALWAYS), Injection::none().pinned(Trigger::ALWAYS, 9)]
    {
        bench.gpu.inject(XeInjection::none().vram(injection)).unwrap();
        vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
        assert_eq!(in_vram(buffer.range()), 0);
        // Ranges were made all the same.
        refused(vm.unmap(buffer.range()), ErrorKind::AddressInUse, Some(Errno::EBUSY));
    }
    // The second block fails: the first has moved, the call succeeds.
    bench.gpu.inject(XeInjection::none().vram(Injection::none().allocation(Trigger::nth(2)))).unwrap();
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    assert_eq!(in_vram(buffer.range()), M2);
    bench.gpu.inject(XeInjection::none()).unwrap();
    check(&buffer);
}

#[test]
fn pinned_once_is_tried_again() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = filled(M2);
    bench.gpu.inject(XeInjection::none().vram(Injection::none().pinned(Trigger::ONCE, 3))).unwrap();
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    assert_eq!(in_vram(buffer.range()), M2);
    check(&buffer);
}

#[test]
fn interruptions_are_repeated_and_starvation_is_told() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = filled(M2);
    for trigger in [Trigger::ONCE, Trigger::times(3)] {
        bench.gpu.inject(XeInjection::none().interrupted(trigger).again(trigger)).unwrap();
        vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
        assert_eq!(in_vram(buffer.range()), M2);
        vm.prefetch(buffer.range(), PrefetchTarget::System).unwrap();
    }
    bench.gpu.inject(XeInjection::none().interrupted(Trigger::ALWAYS)).unwrap();
    refused(vm.prefetch(buffer.range(), PrefetchTarget::System), ErrorKind::TryAgain, Some(Errno::EINTR));
    bench.gpu.inject(XeInjection::none().again(Trigger::ALWAYS)).unwrap();
    refused(vm.prefetch(buffer.range(), PrefetchTarget::Region(1)), ErrorKind::TryAgain, Some(Errno::EAGAIN));
    bench.gpu.inject(XeInjection::none()).unwrap();
}

#[test]
fn unmapping_ends_the_range_and_frees_the_memory() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = filled(2 * M2);
    let range = buffer.range();
    vm.prefetch(range, PrefetchTarget::Region(1)).unwrap();
    drop(buffer);
    vm.unmap(range).unwrap();
    assert_eq!(bench.device.memory_regions().unwrap()[1].used, 0);
}

#[test]
fn partial_unmapping_ends_the_whole_range_and_keeps_the_rest() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    // Not dropped: something else may be mapped in the hole by then.
    let buffer = std::mem::ManuallyDrop::new(filled(M2));
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    let start = buffer.range().start();
    let unmap = |start: u64| {
        // SAFETY: a half of `buffer` that is not touched any more.
        unsafe { rustix::mm::munmap(start as *mut _, (M2 / 2) as usize) }.unwrap();
    };
    unmap(start + M2 / 2);
    let left = PageRange::new(start, M2 / 2).unwrap();
    vm.unmap(left).unwrap();
    assert_eq!(in_vram(left), M2 / 2);
    assert!(buffer[..(M2 / 2) as usize].iter().enumerate().all(|(at, &byte)| byte == (at / 7) as u8));
    unmap(start);
}

#[test]
fn discarding_keeps_the_range() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = filled(M2);
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    // SAFETY: the bytes become zero, which is a value of theirs.
    unsafe {
        rustix::mm::madvise(buffer.range().start() as *mut _, M2 as usize, rustix::mm::Advice::LinuxDontNeed)
    }
    .unwrap();
    refused(vm.unmap(buffer.range()), ErrorKind::AddressInUse, Some(Errno::EBUSY));
    assert!(buffer.iter().all(|&byte| byte == 0));
}

#[test]
fn advice_ends_with_the_memory_it_was_given_for() {
    for keep in [false, true] {
        let bench = Bench::new(Platform::Battlemage);
        let vm = bench.vm();
        let options = crate::xe::MirrorOptions::new();
        let options = if keep { options.keep_advice() } else { options };
        vm.mirror_with(bench.device.config().whole_va(), options).unwrap();
        let (used, unused) = (filled(M2), filled(M2));
        let (used_range, unused_range) = (used.range(), unused.range());
        for range in [used_range, unused_range] {
            vm.advise(range, Advice::Atomic(AtomicMode::Global)).unwrap();
        }
        vm.prefetch(used_range, PrefetchTarget::Region(1)).unwrap();
        drop((used, unused));
        let mode = |range| vm.range_attributes(range).unwrap()[0].atomic;
        // Any change lets the garbage collector run; a question does not.
        vm.unmap(pages(0, 1)).unwrap();
        assert_eq!(mode(used_range), if keep { AtomicMode::Global } else { AtomicMode::Undefined });
        assert_eq!(mode(unused_range), AtomicMode::Global, "the GPU never saw it");
    }
}

#[test]
fn advice_that_cuts_a_range_ends_it() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = filled(M2);
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    vm.advise(pages(buffer.range().start(), 512), Advice::Atomic(AtomicMode::Device)).unwrap();
    assert_eq!(in_vram(buffer.range()), M2, "a range inside the advice survives");
    vm.advise(pages(buffer.range().start() + PAGE, 1), Advice::Atomic(AtomicMode::Global)).unwrap();
    assert_eq!(in_vram(buffer.range()), 0);
    vm.unmap(buffer.range()).unwrap();
    check(&buffer);
}

#[test]
fn unplugging_brings_everything_back() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let buffer = filled(2 * M2);
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    bench.gpu.unplug();
    assert_eq!(in_vram(buffer.range()), 0);
    check(&buffer);
    refused(
        vm.prefetch(buffer.range(), PrefetchTarget::Region(1)),
        ErrorKind::DeviceLost,
        Some(Errno::ENODEV),
    );
}

#[test]
fn dropping_the_device_brings_everything_back() {
    let bench = Bench::new(Platform::Battlemage);
    let buffer = filled(M2);
    let vm = bench.mirrored();
    vm.prefetch(buffer.range(), PrefetchTarget::Region(1)).unwrap();
    drop(vm);
    assert_eq!(in_vram(buffer.range()), M2, "the end of a VM moves nothing");
    drop(bench);
    assert_eq!(in_vram(buffer.range()), 0);
    check(&buffer);
}

#[test]
fn threads_touch_and_prefetch_at_once_and_nothing_is_lost() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let words: Buffer<u64> = Buffer::zeroed((M2 / 8) as usize).unwrap();
    let range = words.range();
    let counters: Vec<&std::sync::atomic::AtomicU64> = (0..4)
        .map(|lane| {
            // SAFETY: the words are aligned, live until the scope below ends, and are reached through atomics only.
            unsafe { std::sync::atomic::AtomicU64::from_ptr((range.start() + lane * 64 * PAGE) as *mut u64) }
        })
        .collect();
    std::thread::scope(|scope| {
        for counter in &counters {
            scope.spawn(|| {
                for _ in 0..300 {
                    counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        for _ in 0..50 {
            vm.prefetch(range, PrefetchTarget::Region(1)).unwrap();
        }
    });
    for counter in counters {
        assert_eq!(counter.load(std::sync::atomic::Ordering::Relaxed), 300);
    }
}

/// The driver takes a location with the same file number for unchanged; the wrapper makes it look again.
#[test]
fn another_region_of_the_same_file_is_another_location() {
    let bench = Bench::with(XeConfig::new(Platform::PonteVecchio).tiles(&[16 << 20, 16 << 20]));
    let vm = bench.mirrored();
    let buffer = filled(M2);
    let used = || {
        let regions = bench.device.memory_regions().unwrap();
        [regions[1].used, regions[2].used]
    };
    let prefer =
        |instance| Advice::PreferredLocation(PreferredLocation::Region { device: &bench.device, instance });
    vm.advise(buffer.range(), prefer(1)).unwrap();
    vm.prefetch(buffer.range(), PrefetchTarget::Advised).unwrap();
    assert_eq!(used(), [M2, 0]);
    // What one ioctl alone would do: nothing.
    let fd = std::os::fd::AsRawFd::as_raw_fd(&bench.device.channel().descriptor().unwrap());
    let loc = MadvisePreferredLoc { devmem_fd: fd as u32, region_instance: 2, ..Default::default() };
    let mut alone = Madvise {
        vm_id: vm.id(),
        start: buffer.range().start(),
        range: M2,
        attribute: DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC,
        value: loc.into(),
        ..Default::default()
    };
    raw(bench.device.channel(), &mut alone).unwrap();
    vm.prefetch(buffer.range(), PrefetchTarget::Advised).unwrap();
    assert_eq!(used(), [M2, 0]);
    vm.advise(buffer.range(), prefer(2)).unwrap();
    vm.prefetch(buffer.range(), PrefetchTarget::Advised).unwrap();
    assert_eq!(used(), [0, M2]);
    check(&buffer);
}

/// What sits in VRAM is reached by the driver all the same, also where the simulation may not see the kernel's touches.
#[test]
fn arguments_may_lie_in_vram() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let mut words: Buffer<u64> = Buffer::zeroed(512).unwrap();
    words[3] = 77;
    let word = words.range().start() + 24;
    vm.prefetch(words.range(), PrefetchTarget::Region(1)).unwrap();
    assert_ne!(in_vram(words.range()), 0);
    let mut wait =
        crate::uapi::xe::WaitUserFence { addr: word, value: 77, mask: u64::MAX, ..Default::default() };
    assert_eq!(raw(bench.device.channel(), &mut wait), Ok(()));
    assert_eq!(in_vram(words.range()), 0, "the driver's look is a touch");
    assert_eq!(words[3], 77);
}
