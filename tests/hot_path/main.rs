//! What a call on the hot path is made of: one system call and no allocation. Both are counted on a real file descriptor, with
//! every system call of the thread seen by seccomp. Where seccomp cannot notify, the cases are "ignored", with the reason.

#[path = "../stand_in/mod.rs"]
mod stand_in;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use drm_pagemap::channel::Channel;
use drm_pagemap::kfd::{self, GpuId, SvmAttribute, Topology, TopologySource};
use drm_pagemap::uapi::IoctlArg;
use drm_pagemap::uapi::kfd::AMDKFD_IOC_SVM;
use drm_pagemap::uapi::xe::{Madvise, VmBind, VmQueryMemRangeAttrs};
use drm_pagemap::{Device, Gpu, Location, Observe, PageRange, xe};
use libtest_mimic::{Arguments, Failed, Trial};
use stand_in::watch::Recorder;
use stand_in::{Driver, Filter, GPU_ID, in_filtered_thread, topology};

const VRAM: xe::PrefetchTarget = xe::PrefetchTarget::Region(1);
const SIZE: u64 = 2 << 20;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: as the system's allocator, which does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as for our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as for our caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() {
    type Case = (&'static str, fn(&Recorder));
    let cases: [Case; 9] = [
        ("xe_prefetch", xe_prefetch),
        ("xe_prefetch_of_nothing", xe_prefetch_of_nothing),
        ("xe_advise", xe_advise),
        ("xe_query_again", xe_query_again),
        ("xe_batches", xe_batches),
        ("xe_mirror", xe_mirror),
        ("kfd_set_attributes", kfd_set_attributes),
        ("kfd_get_attributes", kfd_get_attributes),
        ("kfd_mirror", kfd_mirror),
    ];
    let lacking = in_filtered_thread(Filter::Everything, Driver::default(), |_| ()).err();
    let trials = cases.map(|(name, case)| match &lacking {
        Some(error) => {
            Trial::test(format!("{name}: seccomp cannot notify: {error}"), || Ok(())).with_ignored_flag(true)
        }
        None => Trial::test(name, move || {
            in_filtered_thread(Filter::Everything, Driver::default(), case).map_err(Failed::from)
        }),
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit();
}

/// Asserts what `act` costs: these driver calls and no other system call, and this many allocations.
#[track_caller]
fn costs(recorder: &Recorder, requests: &[u32], allocations: u64, act: impl Fn()) {
    // The first time, what is looked up once (abilities of the kernel, the page size) is looked up.
    act();
    let before = ALLOCATIONS.get();
    let ((), calls) = recorder.record(act);
    let allocated = ALLOCATIONS.get() - before;
    let expected: Vec<_> = requests.iter().map(|&request| (libc::SYS_ioctl, Some(request))).collect();
    assert_eq!(calls, expected, "number and request of each system call");
    assert_eq!(allocated, allocations, "allocations");
}

fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

fn range(index: u64, step: u64) -> PageRange {
    PageRange::new(0x7f00_0000_0000 + index * step, SIZE).unwrap()
}

fn xe_device() -> xe::Device {
    xe::Device::from_channel(Channel::from_fd(null())).unwrap()
}

fn vm() -> xe::Vm {
    let vm = xe::Vm::create(&xe_device(), xe::VmFlags::SVM).unwrap();
    vm.mirror_all().unwrap();
    vm
}

fn xe_prefetch(recorder: &Recorder) {
    let vm = vm();
    costs(recorder, &[VmBind::REQUEST], 0, || vm.prefetch(range(0, 0), VRAM).unwrap());
    costs(recorder, &[VmBind::REQUEST], 0, || vm.prefetch(range(0, 0), xe::PrefetchTarget::System).unwrap());
}

fn xe_prefetch_of_nothing(recorder: &Recorder) {
    let vm = vm();
    let nothing = PageRange::new(0x7f00_0000_0000, 0).unwrap();
    costs(recorder, &[], 0, || vm.prefetch(nothing, VRAM).unwrap());
}

fn xe_advise(recorder: &Recorder) {
    let vm = vm();
    for location in [xe::PreferredLocation::System, xe::PreferredLocation::FaultingDevice] {
        let advice = xe::Advice::PreferredLocation(location);
        costs(recorder, &[Madvise::REQUEST], 0, || vm.advise(range(0, 0), advice).unwrap());
    }
    let advice = xe::Advice::Atomic(xe::AtomicMode::Global);
    costs(recorder, &[Madvise::REQUEST], 0, || vm.advise(range(0, 0), advice).unwrap());
}

fn xe_query_again(recorder: &Recorder) {
    let vm = vm();
    let buffer = std::cell::RefCell::new(xe::RangeAttributeBuffer::new());
    costs(recorder, &[VmQueryMemRangeAttrs::REQUEST], 0, || {
        assert_eq!(vm.range_attributes_into(range(0, 0), &mut buffer.borrow_mut()).unwrap().len(), 1);
    });
}

fn xe_batches(recorder: &Recorder) {
    let vm = vm();
    let apart: Vec<_> = (0..1024).map(|index| range(index, 2 * SIZE)).collect();
    costs(recorder, &[VmBind::REQUEST; 1024], 0, || vm.prefetch_each(&apart, VRAM).unwrap());
    let adjacent: Vec<_> = (0..1024).map(|index| range(index, SIZE)).collect();
    costs(recorder, &[VmBind::REQUEST], 0, || vm.prefetch_each(&adjacent, VRAM).unwrap());
    // Two runs of neighbours with an empty range in each, and one alone.
    let empty = PageRange::new(range(1, SIZE).start(), 0).unwrap();
    let mixed =
        [range(0, SIZE), empty, range(1, SIZE), range(9, SIZE), range(10, SIZE), empty, range(5, SIZE)];
    costs(recorder, &[VmBind::REQUEST; 3], 0, || vm.prefetch_each(&mixed, VRAM).unwrap());
    costs(recorder, &[], 0, || vm.prefetch_each(&[empty, empty], VRAM).unwrap());
}

fn xe_mirror(recorder: &Recorder) {
    let gpu = Gpu::of_device(Device::Xe(xe_device())).unwrap();
    let mirror = gpu.mirror().unwrap();
    for location in [gpu.vram(), Location::System] {
        costs(recorder, &[VmBind::REQUEST], 0, || {
            let prefetch = mirror.prefetch_range(range(0, 0)).to(location.clone());
            let _ = prefetch.observe(Observe::Nothing).run().unwrap();
        });
        // Given, and taken back.
        costs(recorder, &[Madvise::REQUEST; 2], 0, || {
            mirror.advise_range(range(0, 0)).prefer(location.clone()).apply().unwrap().reset().unwrap();
        });
    }
}

fn kfd() -> (kfd::Process, Gpu) {
    let process = kfd::Process::open(Channel::from_fd(null())).unwrap();
    let nodes = Topology::read(&TopologySource::Tree(Arc::new(topology()))).unwrap();
    let renders = vec![(gpu_id(), Channel::from_fd(null()))];
    let system = drm_pagemap::device::KfdSystem::new(process.clone(), nodes, renders);
    let gpu = Gpu::of_device(Device::Kfd(system.gpus()[0].clone())).unwrap();
    (process, gpu)
}

fn gpu_id() -> GpuId {
    GpuId::new(GPU_ID).unwrap()
}

/// The request for this many attributes.
fn svm(attributes: u32) -> u32 {
    AMDKFD_IOC_SVM + ((attributes * 8) << 16)
}

fn kfd_set_attributes(recorder: &Recorder) {
    let (process, gpu) = kfd();
    let _mirror = gpu.mirror().unwrap();
    let all = [SvmAttribute::Access(gpu_id()); 16];
    for count in [1, 2, 16] {
        costs(recorder, &[svm(count)], 0, || {
            process.set_attributes(range(0, 0), &all[..count as usize]).unwrap();
        });
    }
    // More attributes than fit without one.
    let many = [SvmAttribute::Access(gpu_id()); 17];
    costs(recorder, &[svm(17)], 1, || process.set_attributes(range(0, 0), &many).unwrap());
}

fn kfd_get_attributes(recorder: &Recorder) {
    let (process, _gpu) = kfd();
    // One allocation: the list of GPUs in the answer.
    costs(recorder, &[svm(6)], 1, || {
        process.get_attributes(range(0, 0), &[gpu_id()]).unwrap();
    });
    costs(recorder, &[svm(5)], 0, || {
        process.get_attributes(range(0, 0), &[]).unwrap();
    });
    let answer = std::cell::RefCell::new(kfd::RangeAttributes::default());
    costs(recorder, &[svm(6)], 0, || {
        process.get_attributes_into(range(0, 0), &[gpu_id()], &mut answer.borrow_mut()).unwrap();
    });
}

fn kfd_mirror(recorder: &Recorder) {
    let (_process, gpu) = kfd();
    let mirror = gpu.mirror().unwrap();
    for location in [gpu.vram(), Location::System] {
        costs(recorder, &[svm(2)], 0, || {
            let prefetch = mirror.prefetch_range(range(0, 0)).to(location.clone());
            let _ = prefetch.observe(Observe::Nothing).run().unwrap();
        });
        costs(recorder, &[svm(1); 2], 0, || {
            mirror.advise_range(range(0, 0)).prefer(location.clone()).apply().unwrap().reset().unwrap();
        });
    }
}
