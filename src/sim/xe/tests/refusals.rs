//! Every errno that the driver answers a call with, provoked on a simulated device and seen through the wrappers: kind, reason and
//! cure. One table for all calls, in the order of their numbers.
//!
//! Not in it is what cannot be provoked through the wrappers, which make arguments that the driver takes (sizes, reserved fields,
//! unknown flags): those are asked for raw, in the other tests of this folder. `ENOMEM`, `ENOBUFS` and failures to copy need a
//! kernel that is out of memory; what they mean is a test of `xe`.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::Duration;

use super::*;
use crate::Result;
use crate::pagemap::Trigger;
use crate::sim::xe::XeInjection;
use crate::xe::{
    Advice, AtomicMode, Batch, BatchBuffer, Bind, BindQueue, Bo, BoOptions, Comparison, CpuCaching, Engine,
    EngineClass, ExecQueue, MirrorOptions, PatIndex, PreferredLocation, PrefetchTarget, Priority, Purgeable,
    QueueOptions, RegionMask, Syncobj, Syncs, Timeout, UserFence,
};

/// Call, how its refusal is provoked, errno, kind.
type Row = (&'static str, &'static str, Errno, ErrorKind, fn() -> Result<()>);

fn battlemage() -> Bench {
    Bench::new(Platform::Battlemage)
}

/// A VM that the device does not have.
fn nowhere(device: &Device) -> Vm {
    // SAFETY: there is no such VM, so nothing that belongs to anybody changes.
    unsafe { Vm::adopt(device, 77) }.unwrap()
}

fn engine(device: &Device, class: EngineClass) -> Engine {
    *device.engines().unwrap().iter().find(|engine| engine.class == class).unwrap()
}

fn copy_queue(vm: &Vm) -> ExecQueue {
    ExecQueue::create(vm, &[engine(vm.device(), EngineClass::Copy)], QueueOptions::new()).unwrap()
}

/// A queue that a store to nowhere has ended, with its fence.
fn dead_queue(vm: &Vm) -> (ExecQueue, Result<()>) {
    let queue = copy_queue(vm);
    let batch = BatchBuffer::new(Batch::new().store_u32(1 << 46, 1)).unwrap();
    let mut fence = UserFence::new().unwrap();
    // SAFETY: the batch and the fence outlive the wait; nothing is mapped where the command stores.
    unsafe { queue.submit(batch.address(), Syncs::new().fence(&mut fence)) }.unwrap();
    let end = fence.wait(vm.device(), Timeout::Within(Duration::from_secs(60)), Some(&queue));
    std::mem::forget(fence);
    (queue, end)
}

fn user_fence(word: &std::sync::atomic::AtomicU64, device: &Device, timeout: Timeout) -> Result<()> {
    device.wait_user_fence(word, Comparison::Equal, 1, u64::MAX, timeout, None)
}

/// A page of a mapping that the CPU may not write to.
fn code() -> PageRange {
    PageRange::rounded_out(code as fn() -> PageRange as usize as u64, 1).unwrap()
}

fn location(device: &Device, instance: u16) -> Advice<'_> {
    Advice::PreferredLocation(PreferredLocation::Region { device, instance })
}

use ErrorKind::*;

const ROWS: &[Row] = &[
    ("DEVICE_QUERY", "the device is unplugged", Errno::ENODEV, DeviceLost, || {
        let bench = battlemage();
        bench.gpu.unplug();
        bench.device.memory_regions().map(drop)
    }),
    ("DEVICE_QUERY", "the device is wedged", Errno::ECANCELED, DeviceLost, || {
        let bench = battlemage();
        bench.gpu.wedge();
        bench.device.memory_regions().map(drop)
    }),
    ("GEM_CREATE", "cached memory in VRAM", Errno::EINVAL, InvalidArgument, || {
        let options = BoOptions::new().placed_in(RegionMask::from_bits(2)).cached(CpuCaching::WriteBack);
        Bo::create(&battlemage().device, PAGE, options).map(drop)
    }),
    ("GEM_CREATE", "uncompressed memory before Xe2", Errno::EOPNOTSUPP, Unsupported, || {
        Bo::create(&Bench::new(Platform::PonteVecchio).device, PAGE, BoOptions::new().uncompressed())
            .map(drop)
    }),
    ("GEM_CREATE", "for a VM that is not there", Errno::ENOENT, NotFound, || {
        let bench = battlemage();
        Bo::create(&bench.device, PAGE, BoOptions::new().private_to(&nowhere(&bench.device))).map(drop)
    }),
    ("GEM_CREATE", "more than all VRAM", Errno::ENOSPC, OutOfVram, || {
        let options = BoOptions::new().placed_in(RegionMask::from_bits(2));
        Bo::create(&battlemage().device, 1 << 40, options).map(drop)
    }),
    ("GEM_CREATE", "the device is unplugged", Errno::ENODEV, DeviceLost, || {
        let bench = battlemage();
        bench.gpu.unplug();
        Bo::create(&bench.device, PAGE, BoOptions::new()).map(drop)
    }),
    ("VM_CREATE", "page faults on a device without", Errno::EINVAL, Unsupported, || {
        Vm::create(&Bench::new(Platform::Alchemist).device, VmFlags::SVM).map(drop)
    }),
    ("VM_CREATE", "the device is unplugged", Errno::ENODEV, DeviceLost, || {
        let bench = battlemage();
        bench.gpu.unplug();
        Vm::create(&bench.device, VmFlags::SVM).map(drop)
    }),
    ("VM_CREATE", "the device is wedged", Errno::ECANCELED, DeviceLost, || {
        let bench = battlemage();
        bench.gpu.wedge();
        Vm::create(&bench.device, VmFlags::SVM).map(drop)
    }),
    ("VM_BIND", "a VM that is not there", Errno::EINVAL, InvalidArgument, || {
        nowhere(&battlemage().device).mirror_all()
    }),
    ("VM_BIND", "a PAT index that is reserved", Errno::EINVAL, InvalidArgument, || {
        let bench = battlemage();
        let whole = bench.device.config().whole_va();
        bench.vm().mirror_with(whole, MirrorOptions::new().pat(PatIndex(17)))
    }),
    ("VM_BIND", "beyond the device's addresses", Errno::EINVAL, InvalidArgument, || {
        battlemage().vm().mirror(PageRange::new(1 << 48, PAGE)?)
    }),
    ("VM_BIND", "unmapping what the GPU uses", Errno::EBUSY, AddressInUse, || {
        let vm = battlemage().mirrored();
        let buffer = memory(M2);
        vm.prefetch(buffer.range(), PrefetchTarget::System)?;
        vm.unmap(buffer.range())
    }),
    ("VM_BIND", "a user pointer to nothing", Errno::EFAULT, NotMapped, || {
        battlemage().vm().bind(&[Bind::map_userptr(1 << 45, pages(0, 1))], Syncs::new())
    }),
    ("VM_BIND", "a writable user pointer to code", Errno::EPERM, MemoryKind, || {
        battlemage().vm().bind(&[Bind::map_userptr(code().start(), pages(0, 1))], Syncs::new())
    }),
    ("VM_BIND", "decompression without compression", Errno::EOPNOTSUPP, Unsupported, || {
        let bench = Bench::with(XeConfig::new(Platform::Battlemage).without_compression());
        let bo = Bo::create(&bench.device, PAGE, BoOptions::new())?;
        bench.vm().bind(&[Bind::map(&bo, 0, pages(0, 1)).decompress()], Syncs::new())
    }),
    ("VM_BIND", "the content of an object was given away", Errno::EBUSY, AddressInUse, || {
        let bench = battlemage();
        let vm = bench.vm();
        let bo = Bo::create(&bench.device, PAGE, BoOptions::new())?;
        vm.bind(&[Bind::map(&bo, 0, pages(0, 1))], Syncs::new())?;
        vm.set_purgeable(pages(0, 1), Purgeable::DontNeed)?;
        vm.bind(&[Bind::map(&bo, 0, pages(8 * PAGE, 1))], Syncs::new())
    }),
    ("VM_BIND", "on a queue that is not there", Errno::ENOENT, NotFound, || {
        let elsewhere = BindQueue::create(&battlemage().vm())?;
        let bench = battlemage();
        let bo = Bo::create(&bench.device, PAGE, BoOptions::new())?;
        bench.vm().bind(&[Bind::map(&bo, 0, pages(0, 1))], Syncs::new().on(&elsewhere))
    }),
    ("VM_BIND", "on a queue of another VM", Errno::EINVAL, InvalidArgument, || {
        let bench = battlemage();
        let elsewhere = BindQueue::create(&bench.vm())?;
        let bo = Bo::create(&bench.device, PAGE, BoOptions::new())?;
        bench.vm().bind(&[Bind::map(&bo, 0, pages(0, 1))], Syncs::new().on(&elsewhere))
    }),
    ("VM_BIND", "the device is wedged", Errno::ECANCELED, DeviceLost, || {
        let bench = battlemage();
        let vm = bench.vm();
        bench.gpu.wedge();
        vm.mirror_all()
    }),
    ("VM_BIND", "the device is unplugged", Errno::ENODEV, DeviceLost, || {
        let bench = battlemage();
        let vm = bench.vm();
        bench.gpu.unplug();
        vm.mirror_all()
    }),
    ("VM_BIND prefetch", "a VM that is not there", Errno::EINVAL, InvalidArgument, || {
        nowhere(&battlemage().device).prefetch(pages(0, 1), PrefetchTarget::System)
    }),
    ("VM_BIND prefetch", "a region that is not there", Errno::EINVAL, InvalidArgument, || {
        battlemage().mirrored().prefetch(pages(0, 1), PrefetchTarget::Region(7))
    }),
    ("VM_BIND prefetch", "code under a writable mirror", Errno::EPERM, MemoryKind, || {
        battlemage().mirrored().prefetch(code(), PrefetchTarget::System)
    }),
    ("VM_BIND prefetch", "the pages keep changing", Errno::EAGAIN, TryAgain, || {
        let bench = battlemage();
        bench.gpu.inject(XeInjection::none().again(Trigger::ALWAYS))?;
        bench.mirrored().prefetch(memory(M2).range(), PrefetchTarget::System)
    }),
    ("VM_BIND prefetch", "the device is wedged", Errno::ECANCELED, DeviceLost, || {
        let bench = battlemage();
        let vm = bench.mirrored();
        bench.gpu.wedge();
        vm.prefetch(memory(M2).range(), PrefetchTarget::System)
    }),
    ("VM_BIND prefetch", "the device is unplugged", Errno::ENODEV, DeviceLost, || {
        let bench = battlemage();
        let vm = bench.mirrored();
        bench.gpu.unplug();
        vm.prefetch(memory(M2).range(), PrefetchTarget::System)
    }),
    ("EXEC_QUEUE_CREATE", "an engine that is not there", Errno::EINVAL, InvalidArgument, || {
        let vm = battlemage().vm();
        let engine = Engine { instance: 9, ..engine(vm.device(), EngineClass::Copy) };
        ExecQueue::create(&vm, &[engine], QueueOptions::new()).map(drop)
    }),
    ("EXEC_QUEUE_CREATE", "in a VM that is not there", Errno::ENOENT, NotFound, || {
        let bench = battlemage();
        let copy = engine(&bench.device, EngineClass::Copy);
        ExecQueue::create(&nowhere(&bench.device), &[copy], QueueOptions::new()).map(drop)
    }),
    ("EXEC_QUEUE_CREATE", "high priority without the right", Errno::EPERM, PermissionDenied, || {
        let vm = battlemage().vm();
        let copy = engine(vm.device(), EngineClass::Copy);
        ExecQueue::create(&vm, &[copy], QueueOptions::new().priority(Priority::High)).map(drop)
    }),
    ("EXEC_QUEUE_CREATE", "a time slice of nothing", Errno::EINVAL, InvalidArgument, || {
        let vm = battlemage().vm();
        let copy = engine(vm.device(), EngineClass::Copy);
        ExecQueue::create(&vm, &[copy], QueueOptions::new().timeslice_us(0)).map(drop)
    }),
    ("EXEC_QUEUE_CREATE", "the device is wedged", Errno::ECANCELED, DeviceLost, || {
        let bench = battlemage();
        let vm = bench.vm();
        let copy = engine(&bench.device, EngineClass::Copy);
        bench.gpu.wedge();
        ExecQueue::create(&vm, &[copy], QueueOptions::new()).map(drop)
    }),
    ("EXEC_QUEUE_CREATE", "the device is unplugged", Errno::ENODEV, DeviceLost, || {
        let bench = battlemage();
        let vm = bench.vm();
        let copy = engine(&bench.device, EngineClass::Copy);
        bench.gpu.unplug();
        ExecQueue::create(&vm, &[copy], QueueOptions::new()).map(drop)
    }),
    ("EXEC_QUEUE_GET_PROPERTY", "the device is wedged", Errno::ECANCELED, DeviceLost, || {
        let bench = battlemage();
        let queue = copy_queue(&bench.vm());
        bench.gpu.wedge();
        queue.is_banned().map(drop)
    }),
    ("EXEC_QUEUE_GET_PROPERTY", "the device is unplugged", Errno::ENODEV, DeviceLost, || {
        let bench = battlemage();
        let queue = copy_queue(&bench.vm());
        bench.gpu.unplug();
        queue.is_banned().map(drop)
    }),
    ("EXEC", "on a queue that a fault has ended", Errno::ECANCELED, DeviceLost, || {
        let vm = battlemage().mirrored();
        let (queue, _) = dead_queue(&vm);
        // SAFETY: a dead queue runs nothing.
        unsafe { queue.submit(0, Syncs::new()) }
    }),
    ("EXEC", "a syncobj to signal where only user fences can be", Errno::EOPNOTSUPP, Unsupported, || {
        let vm = battlemage().mirrored();
        let syncobj = Syncobj::create(vm.device(), false)?;
        // SAFETY: refused before anything is run.
        unsafe { copy_queue(&vm).submit(0, Syncs::new().signal(&syncobj)) }
    }),
    ("EXEC", "a syncobj to wait for that nobody will signal", Errno::EINVAL, InvalidArgument, || {
        let vm = battlemage().mirrored();
        let syncobj = Syncobj::create(vm.device(), false)?;
        // SAFETY: refused before anything is run.
        unsafe { copy_queue(&vm).submit(0, Syncs::new().wait(&syncobj)) }
    }),
    ("EXEC", "on a queue that is full", Errno::EAGAIN, TryAgain, || {
        let bench = battlemage();
        let vm = bench.mirrored();
        let queue = copy_queue(&vm);
        bench.gpu.inject(XeInjection::none().fence_delay(Duration::from_secs(1)))?;
        let batch = BatchBuffer::new(Batch::new())?;
        // SAFETY: the batch does nothing.
        let submit = || unsafe { queue.submit(batch.address(), Syncs::new()) };
        let refused = std::iter::repeat_with(submit).take(1100).find(Result::is_err).unwrap_or(Ok(()));
        bench.gpu.inject(XeInjection::none())?;
        refused
    }),
    ("EXEC", "the device is unplugged", Errno::ENODEV, DeviceLost, || {
        let bench = battlemage();
        let queue = copy_queue(&bench.mirrored());
        bench.gpu.unplug();
        // SAFETY: refused before anything is run.
        unsafe { queue.submit(0, Syncs::new()) }
    }),
    ("WAIT_USER_FENCE", "nothing happens in time", Errno::ETIME, TimedOut, || {
        user_fence(&std::sync::atomic::AtomicU64::new(0), &battlemage().device, Timeout::Poll)
    }),
    ("WAIT_USER_FENCE", "for a queue that a fault has ended", Errno::EIO, DeviceLost, || {
        dead_queue(&battlemage().mirrored()).1
    }),
    ("WAIT_USER_FENCE", "for a queue that is not there", Errno::ENOENT, NotFound, || {
        let elsewhere = copy_queue(&battlemage().vm());
        let word = std::sync::atomic::AtomicU64::new(0);
        let timeout = Timeout::Poll;
        battlemage().device.wait_user_fence(&word, Comparison::Equal, 1, u64::MAX, timeout, Some(&elsewhere))
    }),
    ("WAIT_USER_FENCE", "the device is wedged", Errno::ECANCELED, DeviceLost, || {
        let bench = battlemage();
        bench.gpu.wedge();
        user_fence(&std::sync::atomic::AtomicU64::new(0), &bench.device, Timeout::Never)
    }),
    ("WAIT_USER_FENCE", "the device is unplugged", Errno::ENODEV, DeviceLost, || {
        let bench = battlemage();
        bench.gpu.unplug();
        user_fence(&std::sync::atomic::AtomicU64::new(0), &bench.device, Timeout::Never)
    }),
    ("MADVISE", "a VM that is not there", Errno::EINVAL, InvalidArgument, || {
        nowhere(&battlemage().device).advise(pages(0, 1), Advice::Atomic(AtomicMode::Device))
    }),
    ("MADVISE", "a mode of atomics that is not known", Errno::EINVAL, InvalidArgument, || {
        battlemage().mirrored().advise(pages(0, 1), Advice::Atomic(AtomicMode::Other(9)))
    }),
    ("MADVISE", "a PAT index that is reserved", Errno::EINVAL, InvalidArgument, || {
        battlemage().mirrored().advise(pages(0, 1), Advice::Pat(PatIndex(17)))
    }),
    ("MADVISE", "a kernel before 6.18", Errno::EINVAL, Unsupported, || {
        Bench::at(KernelVersion::V6_17).mirrored().advise(pages(0, 1), Advice::Atomic(AtomicMode::Device))
    }),
    ("MADVISE", "a region before 7.0", Errno::EINVAL, Unsupported, || {
        let bench = Bench::at(KernelVersion::V6_19);
        bench.mirrored().advise(pages(0, 1), location(&bench.device, 1))
    }),
    ("MADVISE", "a region that is not there", Errno::ENOENT, NotFound, || {
        let bench = battlemage();
        bench.mirrored().advise(pages(0, 1), location(&bench.device, 9))
    }),
    ("MADVISE", "memory that no fast link leads to", Errno::ENOLINK, NoInterconnect, || {
        battlemage().mirrored().advise(pages(0, 1), location(&battlemage().device, 1))
    }),
    ("MADVISE", "memory of a device that was unplugged", Errno::ENODEV, DeviceLost, || {
        let peer = battlemage();
        peer.gpu.unplug();
        battlemage().mirrored().advise(pages(0, 1), location(&peer.device, 1))
    }),
    ("MADVISE", "the device is wedged", Errno::ECANCELED, DeviceLost, || {
        let bench = battlemage();
        let vm = bench.mirrored();
        bench.gpu.wedge();
        vm.advise(pages(0, 1), Advice::Atomic(AtomicMode::Device))
    }),
    ("VM_QUERY_MEM_RANGE_ATTRS", "a VM that is not there", Errno::EINVAL, InvalidArgument, || {
        nowhere(&battlemage().device).range_attributes(pages(0, 1)).map(drop)
    }),
    ("VM_QUERY_MEM_RANGE_ATTRS", "a kernel before 6.18", Errno::EINVAL, Unsupported, || {
        Bench::at(KernelVersion::V6_17).mirrored().range_attributes(pages(0, 1)).map(drop)
    }),
    ("VM_QUERY_MEM_RANGE_ATTRS", "the device is unplugged", Errno::ENODEV, DeviceLost, || {
        let bench = battlemage();
        let vm = bench.mirrored();
        bench.gpu.unplug();
        vm.range_attributes(pages(0, 1)).map(drop)
    }),
    ("VM_GET_PROPERTY", "a VM that is not there", Errno::ENOENT, NotFound, || {
        nowhere(&battlemage().device).faults().map(drop)
    }),
    ("VM_GET_PROPERTY", "a kernel before 7.1", Errno::EINVAL, Unsupported, || {
        Bench::at(KernelVersion::V6_19).mirrored().faults().map(drop)
    }),
    ("VM_GET_PROPERTY", "the device is unplugged", Errno::ENODEV, DeviceLost, || {
        let bench = battlemage();
        let vm = bench.mirrored();
        bench.gpu.unplug();
        vm.faults().map(drop)
    }),
    ("SYNCOBJ_FD_TO_HANDLE", "a file that is no sync object", Errno::EINVAL, InvalidArgument, || {
        let null = std::fs::File::open("/dev/null").unwrap();
        Syncobj::import(&battlemage().device, null.as_fd()).map(drop)
    }),
    ("SYNCOBJ_WAIT", "nobody signals it in time", Errno::ETIME, TimedOut, || {
        Syncobj::create(&battlemage().device, false)?.wait(0, true)
    }),
    ("SYNCOBJ_WAIT", "nobody will signal it", Errno::EINVAL, InvalidArgument, || {
        Syncobj::create(&battlemage().device, false)?.wait(0, false)
    }),
    ("SYNCOBJ_CREATE", "the device is wedged", Errno::ECANCELED, DeviceLost, || {
        let bench = battlemage();
        bench.gpu.wedge();
        Syncobj::create(&bench.device, false).map(drop)
    }),
    ("SYNCOBJ_CREATE", "the device is unplugged", Errno::ENODEV, DeviceLost, || {
        let bench = battlemage();
        bench.gpu.unplug();
        Syncobj::create(&bench.device, false).map(drop)
    }),
];

/// Calls of the driver and what it may answer, as its sources have it, of those that a caller of the wrappers can meet on a machine
/// that has memory left.
const EXPECTED: &[(&str, &[Errno])] = &[
    ("DEVICE_QUERY", &[Errno::ENODEV, Errno::ECANCELED]),
    ("GEM_CREATE", &[Errno::EINVAL, Errno::EOPNOTSUPP, Errno::ENOENT, Errno::ENOSPC, Errno::ENODEV]),
    ("VM_CREATE", &[Errno::EINVAL, Errno::ENODEV, Errno::ECANCELED]),
    (
        "VM_BIND",
        &[
            Errno::EINVAL,
            Errno::EBUSY,
            Errno::EFAULT,
            Errno::EPERM,
            Errno::EOPNOTSUPP,
            Errno::ENOENT,
            Errno::ECANCELED,
            Errno::ENODEV,
        ],
    ),
    ("VM_BIND prefetch", &[Errno::EINVAL, Errno::EPERM, Errno::EAGAIN, Errno::ECANCELED, Errno::ENODEV]),
    ("EXEC_QUEUE_CREATE", &[Errno::EINVAL, Errno::ENOENT, Errno::EPERM, Errno::ECANCELED, Errno::ENODEV]),
    ("EXEC_QUEUE_GET_PROPERTY", &[Errno::ECANCELED, Errno::ENODEV]),
    ("EXEC", &[Errno::ECANCELED, Errno::EOPNOTSUPP, Errno::EINVAL, Errno::EAGAIN, Errno::ENODEV]),
    ("WAIT_USER_FENCE", &[Errno::ETIME, Errno::EIO, Errno::ENODEV, Errno::ENOENT, Errno::ECANCELED]),
    ("MADVISE", &[Errno::EINVAL, Errno::ENOENT, Errno::ENOLINK, Errno::ENODEV, Errno::ECANCELED]),
    ("VM_QUERY_MEM_RANGE_ATTRS", &[Errno::EINVAL, Errno::ENODEV]),
    ("VM_GET_PROPERTY", &[Errno::ENOENT, Errno::EINVAL, Errno::ENODEV]),
    ("SYNCOBJ_FD_TO_HANDLE", &[Errno::EINVAL]),
    ("SYNCOBJ_WAIT", &[Errno::ETIME, Errno::EINVAL]),
    ("SYNCOBJ_CREATE", &[Errno::ECANCELED, Errno::ENODEV]),
];

#[test]
fn each_refusal_says_what_it_is() {
    let mut wrong = Vec::new();
    let mut told = BTreeSet::new();
    for &(call, how, errno, kind, provoke) in ROWS {
        let mut complain = |what: String| wrong.push(format!("{call}, {how}: {what}"));
        let Err(error) = provoke() else {
            complain("accepted".to_owned());
            continue;
        };
        // Where the crate asked beforehand, there is no errno to tell.
        let asked_first = error.errno().is_none() && error.kind() == Unsupported;
        if error.kind() != kind || (error.errno() != Some(errno) && !asked_first) {
            complain(format!("{:?} {:?}, not {kind:?} {errno}: {error}", error.kind(), error.errno()));
        }
        let bare = Error::from_errno(error.call(), errno);
        if error.reason().is_empty() || error.reason() == bare.reason() {
            complain(format!("no reason of its own: {error}"));
        }
        if error.hint().is_none() {
            complain(format!("no cure: {error}"));
        }
        told.insert((call, errno.raw()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for &(call, errnos) in EXPECTED {
        for errno in errnos {
            assert!(told.remove(&(call, errno.raw())), "{call} is nowhere made to answer {errno}");
        }
    }
    assert!(told.is_empty(), "not expected: {told:?}");
}
