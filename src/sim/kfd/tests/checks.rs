//! Each errno of each call, with the call that provokes it.

use super::*;

fn two_gpus() -> KfdConfig {
    let mut second = GpuConfig::mi200(0x1111, 1 << 30);
    second.device = 1;
    second.render_minor = 129;
    KfdConfig::with_gpus(vec![GpuConfig::mi200(GPU, 1 << 30), second])
}

#[test]
fn acquire_vm() {
    let bench = Bench::without_vm(two_gpus());
    let [first, second] = &bench._render[..] else { panic!() };
    let drm_fd = u32::MAX;
    assert_eq!(bench.call(&mut abi::AcquireVm { drm_fd, gpu_id: GPU }), Err(Errno::EINVAL), "no file");
    assert_eq!(bench.acquire(first, 7), Err(Errno::EINVAL), "no GPU");
    let file = Channel::from_fd(std::fs::File::open("/dev/null").unwrap().into());
    assert_eq!(bench.acquire(&file, GPU), Err(Errno::EINVAL), "not amdgpu's");
    assert_eq!(bench.acquire(first, GPU), Ok(()));
    assert_eq!(bench.acquire(first, GPU), Ok(()), "again with the same file");
    assert_eq!(bench.acquire(second, GPU), Err(Errno::EBUSY), "with another");
    assert_eq!(bench.acquire(&file, GPU), Err(Errno::EBUSY), "before the file is looked at");
    assert_eq!(bench.acquire(first, 0x1111), Err(Errno::EINVAL), "a file serves one GPU");
    assert_eq!(bench.acquire(second, 0x1111), Ok(()));
}

#[test]
fn setting_attributes_before_acquire_vm() {
    let memory = memory(1);
    let fixed = Bench::without_vm(KfdConfig::new());
    assert_eq!(fixed.set(memory.range(), &[]), Err(Errno::EINVAL));
    fixed.get(memory.range(), &[(ACCESS, GPU)]).unwrap();
    let old = Bench::without_vm(KfdConfig { kernel: Kernel::V6_16, ..KfdConfig::new() });
    assert_eq!(old.set(memory.range(), &[(8, 0)]), Err(Errno::EINVAL), "attributes are checked first");
    assert_eq!(old.set(memory.range(), &[]), Err(WOULD_OOPS));
    assert!(old.kfd.hazards()[0].contains("ACQUIRE_VM"));
}

#[test]
fn access_for_a_gpu_that_was_not_acquired() {
    let (bench, memory) = (Bench::without_vm(two_gpus()), memory(1));
    bench.acquire(&bench._render[0], GPU).unwrap();
    assert_eq!(bench.set(memory.range(), &[(ACCESS, 0x1111)]), Err(WOULD_OOPS));
    assert!(bench.kfd.hazards()[0].contains("0x1111"));
}

#[test]
fn a_kernel_without_svm() {
    let kernel = Kernel { svm: false, ..Kernel::V7_3 };
    let (bench, memory) = (Bench::with(KfdConfig { kernel, ..KfdConfig::new() }), memory(1));
    assert_eq!(bench.svm(1, 1, 7, &[]).0, Err(Errno::EPERM));
    assert_eq!(bench.get(memory.range(), &[]), Err(Errno::EPERM));
    assert_eq!(bench.call(&mut abi::SetXnackMode { xnack_enabled: -1 }), Err(Errno::EPERM));
}

#[test]
fn a_gpu_without_svm_is_known_but_takes_no_attribute() {
    let mut config = two_gpus();
    config.gpus[1].svm = false;
    let (bench, memory) = (Bench::with(config), memory(1));
    assert_eq!(bench.set(memory.range(), &[(NO_ACCESS, 0x1111)]), Err(Errno::EINVAL));
    assert_eq!(bench.set(memory.range(), &[(PREFETCH, 0x1111)]), Err(Errno::EINVAL));
    assert_eq!(bench.access(memory.range(), 0x1111), NO_ACCESS);
}

#[test]
fn special_mappings_are_refused_and_files_are_not() {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap};
    let bench = Bench::new();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let len = std::num::NonZeroUsize::new(page_size() as usize).unwrap();
    // SAFETY: a new mapping at an address of the kernel's choice.
    let mapped = unsafe { mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, &file, 0) }.unwrap();
    let range = PageRange::new(mapped.as_ptr() as u64, page_size()).unwrap();
    bench.set(range, &[(PREFETCH, GPU), (ACCESS, GPU)]).unwrap();
    // SAFETY: the mapping was made above and nothing refers to it.
    unsafe { nix::sys::mman::munmap(mapped, page_size() as usize) }.unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let vdso = maps.lines().find(|line| line.ends_with("[vdso]")).expect("a vDSO");
    let start = u64::from_str_radix(vdso.split('-').next().unwrap(), 16).unwrap();
    let vdso = PageRange::new(start, page_size()).unwrap();
    assert_eq!(bench.set(vdso, &[]), Err(Errno::EFAULT));
    assert_eq!(bench.get(vdso, &[]), Err(Errno::EFAULT));
}

#[test]
fn memory_objects_and_ranges_exclude_each_other() {
    let (bench, first, second) = (Bench::new(), memory(4), memory(4));
    let allocate = |va: u64, flags: u32, user: u64| {
        let mut arg = abi::AllocMemoryOfGpu {
            va_addr: va,
            size: page_size(),
            gpu_id: GPU,
            flags,
            mmap_offset: user,
            ..Default::default()
        };
        bench.call(&mut arg).map(|()| arg)
    };
    let gtt = abi::KFD_IOC_ALLOC_MEM_FLAGS_GTT;
    bench.set(first.range(), &[]).unwrap();
    assert_eq!(allocate(first.range().start(), gtt, 0), Err(Errno::EADDRINUSE));
    let userptr = abi::KFD_IOC_ALLOC_MEM_FLAGS_USERPTR;
    assert_eq!(allocate(1 << 40, userptr, first.range().start()), Err(Errno::EADDRINUSE));

    let object = allocate(second.range().start(), gtt, 0).unwrap();
    bench.set(pages(&second, 1, 2), &[]).unwrap();
    bench.set(pages(&second, 0, 1), &[]).unwrap();
    let ids = [GPU];
    let mut map = abi::MapMemoryToGpu {
        handle: object.handle,
        device_ids_array_ptr: ids.as_ptr() as u64,
        n_devices: 1,
        n_success: 0,
    };
    bench.call(&mut map).unwrap();
    assert_eq!(map.n_success, 1);
    assert_eq!(bench.set(second.range(), &[]), Err(Errno::EADDRINUSE));
    assert_eq!(bench.get(second.range(), &[]), Err(Errno::EADDRINUSE));
    let free = abi::FreeMemoryOfGpu { handle: object.handle };
    assert_eq!(bench.call(&mut free.clone()), Err(Errno::EBUSY));
    let mut unmap = abi::UnmapMemoryFromGpu {
        handle: object.handle,
        device_ids_array_ptr: ids.as_ptr() as u64,
        n_devices: 1,
        n_success: 0,
    };
    bench.call(&mut unmap).unwrap();
    unmap.n_success = 0;
    assert_eq!(bench.call(&mut unmap), Err(Errno::EINVAL), "it is not mapped any more");
    bench.get(second.range(), &[]).unwrap();
    bench.call(&mut free.clone()).unwrap();
    assert_eq!(bench.call(&mut free.clone()), Err(Errno::EINVAL));
}

#[test]
fn allocations_that_fail_in_order() {
    let bench = Bench::without_vm(KfdConfig::new());
    let allocate = |size, gpu_id, flags, mmap_offset| {
        bench.call(&mut abi::AllocMemoryOfGpu {
            va_addr: 1 << 40,
            size,
            gpu_id,
            flags,
            mmap_offset,
            ..Default::default()
        })
    };
    let page = page_size();
    assert_eq!(allocate(0, 7, 0, 0), Err(Errno::EINVAL));
    assert_eq!(allocate(page, 7, 0, 0), Err(Errno::EINVAL));
    assert_eq!(allocate(page, GPU, 0, 0), Err(Errno::ENODEV));
    bench.acquire(&bench._render[0], GPU).unwrap();
    assert_eq!(allocate(page, GPU, 0, 0), Err(Errno::EINVAL));
    assert_eq!(allocate(page, GPU, abi::KFD_IOC_ALLOC_MEM_FLAGS_DOORBELL, 0), Err(Errno::EINVAL));
    assert_eq!(allocate(2 * page, GPU, abi::KFD_IOC_ALLOC_MEM_FLAGS_MMIO_REMAP, 0), Err(Errno::EINVAL));
    assert_eq!(allocate(page, GPU, abi::KFD_IOC_ALLOC_MEM_FLAGS_USERPTR, 0), Err(Errno::EINVAL));
    assert_eq!(allocate(2 << 30, GPU, abi::KFD_IOC_ALLOC_MEM_FLAGS_VRAM, 0), Err(Errno::ENOMEM));
    allocate(1 << 30, GPU, abi::KFD_IOC_ALLOC_MEM_FLAGS_VRAM, 0).unwrap();
}

#[test]
fn mapping_objects_that_do_not_exist() {
    let bench = Bench::without_vm(KfdConfig::new());
    let ids = [GPU, 7];
    let map = |handle, n_devices, n_success, ids: u64| {
        bench.call(&mut abi::MapMemoryToGpu { handle, device_ids_array_ptr: ids, n_devices, n_success })
    };
    let here = ids.as_ptr() as u64;
    let handle = u64::from(GPU) << 32 | 1;
    assert_eq!(map(handle, 0, 0, here), Err(Errno::EINVAL));
    assert_eq!(map(handle, 1, 2, here), Err(Errno::EINVAL));
    assert_eq!(map(handle, 1, 0, 16), Err(Errno::EFAULT));
    assert_eq!(map(7 << 32 | 1, 1, 0, here), Err(Errno::EINVAL));
    assert_eq!(map(handle, 1, 0, here), Err(Errno::ENODEV));
    bench.acquire(&bench._render[0], GPU).unwrap();
    assert_eq!(map(handle, 1, 0, here), Err(Errno::ENOMEM));
    let mut object = abi::AllocMemoryOfGpu {
        va_addr: 1 << 40,
        size: page_size(),
        gpu_id: GPU,
        flags: abi::KFD_IOC_ALLOC_MEM_FLAGS_GTT,
        ..Default::default()
    };
    bench.call(&mut object).unwrap();
    let mut both =
        abi::MapMemoryToGpu { handle: object.handle, device_ids_array_ptr: here, n_devices: 2, n_success: 0 };
    assert_eq!(bench.call(&mut both), Err(Errno::EINVAL));
    assert_eq!(both.n_success, 1, "progress is reported with the error");
}

#[test]
fn an_address_of_a_gpu_has_one_object() {
    let bench = Bench::with(two_gpus());
    let ids = [GPU, 0x1111];
    let allocate = |va_addr| {
        let flags = abi::KFD_IOC_ALLOC_MEM_FLAGS_GTT;
        let mut arg = abi::AllocMemoryOfGpu {
            va_addr,
            size: 2 * page_size(),
            gpu_id: GPU,
            flags,
            ..Default::default()
        };
        bench.call(&mut arg).map(|()| arg.handle)
    };
    let map = |handle, gpu: usize| {
        let device_ids_array_ptr = ids[gpu..].as_ptr() as u64;
        bench.call(&mut abi::MapMemoryToGpu { handle, device_ids_array_ptr, n_devices: 1, n_success: 0 })
    };
    let first = allocate(1 << 40).unwrap();
    let second = allocate((1 << 40) + page_size()).unwrap();
    let apart = allocate((1 << 40) + 3 * page_size()).unwrap();
    map(first, 0).unwrap();
    map(first, 0).unwrap();
    assert_eq!(map(second, 0), Err(Errno::EINVAL), "they overlap");
    map(second, 1).unwrap();
    map(apart, 0).unwrap();
    // What was mapped before counts as done and is not looked at again.
    let mut rest = abi::MapMemoryToGpu {
        handle: second,
        device_ids_array_ptr: ids.as_ptr() as u64,
        n_devices: 2,
        n_success: 1,
    };
    bench.call(&mut rest).unwrap();
    assert_eq!(rest.n_success, 2);
    let state = bench.kfd.primary.lock();
    let object_at = |gpu, page: u64| {
        state.objects.at(gpu, (1 << 40) + page * page_size()).map(|object| object.pages.start())
    };
    assert_eq!(object_at(0, 1), Some(1 << 40));
    assert_eq!((object_at(1, 0), object_at(1, 1)), (None, Some((1 << 40) + page_size())));
    assert_eq!(object_at(0, 3), Some((1 << 40) + 3 * page_size()));
}

#[test]
fn xnack_modes() {
    let bench = Bench::with(KfdConfig::with_gpus(vec![GpuConfig::navi31(GPU, 1 << 30)]));
    let mode = |bench: &Bench, value: i32| {
        let mut arg = abi::SetXnackMode { xnack_enabled: value };
        bench.call(&mut arg).map(|()| arg.xnack_enabled)
    };
    assert_eq!(mode(&bench, -1), Ok(0));
    assert_eq!(mode(&bench, 1), Err(Errno::EPERM));
    assert_eq!(mode(&bench, 0), Ok(0));
    let bench = Bench::new();
    assert_eq!(mode(&bench, 2), Ok(2), "echoed, not normalised");
    assert_eq!(mode(&bench, -7), Ok(1));
    bench.kfd.faults().pretend_queue(true);
    assert_eq!(mode(&bench, -1), Ok(1));
    assert_eq!(mode(&bench, 1), Err(Errno::EBUSY), "even the mode that is set already");
}

#[test]
fn the_limit_on_registered_memory_counts_without_xnack_only() {
    let config = KfdConfig { system_memory_limit: Some(4 * page_size()), ..KfdConfig::new() };
    let (bench, memory) = (Bench::with(config), memory(8));
    bench.set(pages(&memory, 0, 3), &[]).unwrap();
    assert_eq!(bench.set(pages(&memory, 2, 5), &[(GRANULARITY, 1)]), Err(Errno::ENOMEM));
    assert_eq!(bench.ranges(), [pages(&memory, 0, 3)], "a failure before the attributes changes nothing");
    bench.set(pages(&memory, 0, 4), &[]).unwrap();
    bench.call(&mut abi::SetXnackMode { xnack_enabled: 1 }).unwrap();
    bench.set(memory.range(), &[]).unwrap();
    assert_eq!(bench.call(&mut abi::SetXnackMode { xnack_enabled: 0 }), Err(Errno::ENOMEM));
    let mut mode = abi::SetXnackMode { xnack_enabled: -1 };
    bench.call(&mut mode).unwrap();
    assert_eq!(mode.xnack_enabled, 1, "a failed change leaves the mode");
}

#[test]
fn a_mapping_that_races_is_reported_and_the_attributes_stay() {
    let (bench, memory) = (Bench::new(), memory(1));
    bench.kfd.faults().mapping_races(1);
    assert_eq!(bench.set(memory.range(), &[(ACCESS, GPU)]), Err(Errno::EAGAIN));
    assert_eq!(bench.access(memory.range(), GPU), ACCESS);
    bench.set(memory.range(), &[(ACCESS, GPU)]).unwrap();
    bench.kfd.faults().mapping_interrupted(1);
    assert_eq!(bench.set(memory.range(), &[(SET_FLAGS, 8)]), Err(Errno::EINTR));
}

#[test]
fn errors_of_a_migration_to_vram_never_reach_the_caller() {
    let (bench, memory) = (Bench::new(), memory(4));
    bench.kfd.faults().fill_vram(true);
    bench.set(memory.range(), &[(PREFETCH, GPU)]).unwrap();
    assert_eq!(bench.kfd.shared.memory.in_vram(memory.range()), []);
    assert_eq!(bench.get_one(memory.range(), PREFETCH), GPU);
}

#[test]
fn apertures_and_available_memory() {
    let bench = Bench::new();
    let mut arg = abi::GetProcessAperturesNew::default();
    bench.call(&mut arg).unwrap();
    assert_eq!(arg.num_of_nodes, 1);
    let mut entries = [abi::ProcessDeviceApertures::default(); 2];
    arg = abi::GetProcessAperturesNew {
        kfd_process_device_apertures_ptr: entries.as_mut_ptr() as u64,
        num_of_nodes: 2,
        pad: 0,
    };
    bench.call(&mut arg).unwrap();
    assert_eq!((arg.num_of_nodes, entries[0].gpu_id, entries[0].gpuvm_base), (1, GPU, 0x10000));
    assert_eq!((entries[0].gpuvm_limit, entries[0].lds_base), (0x7fff_ffff_ffff, 1 << 48));
    arg.num_of_nodes = 3;
    assert_eq!(bench.call(&mut arg), Err(Errno::EINVAL));
    arg = abi::GetProcessAperturesNew { kfd_process_device_apertures_ptr: 16, num_of_nodes: 1, pad: 0 };
    assert_eq!(bench.call(&mut arg), Err(Errno::EFAULT));
    let older = Bench::with(KfdConfig { kernel: Kernel::V6_18, ..KfdConfig::new() });
    arg = abi::GetProcessAperturesNew {
        kfd_process_device_apertures_ptr: entries.as_mut_ptr() as u64,
        num_of_nodes: 100,
        pad: 0,
    };
    assert_eq!((older.call(&mut arg), arg.num_of_nodes), (Ok(()), 1), "the count is not checked before 7.x");

    let mut available = abi::GetAvailableMemory { gpu_id: GPU, ..Default::default() };
    bench.call(&mut available).unwrap();
    assert_eq!(available.available, 1 << 30);
    available.gpu_id = 7;
    assert_eq!(bench.call(&mut available), Err(Errno::EINVAL));
    assert_eq!(bench.call(&mut abi::SmiEvents { gpuid: 7, anon_fd: 0 }), Err(Errno::EINVAL));
}

/// A memory object, mapped on the GPU.
fn object(bench: &Bench, va: u64, size: u64) -> u64 {
    let mut arg = abi::AllocMemoryOfGpu {
        va_addr: va,
        size,
        gpu_id: GPU,
        flags: abi::KFD_IOC_ALLOC_MEM_FLAGS_GTT,
        ..Default::default()
    };
    bench.call(&mut arg).unwrap();
    let ids = [GPU];
    let mut map = abi::MapMemoryToGpu {
        handle: arg.handle,
        device_ids_array_ptr: ids.as_ptr() as u64,
        n_devices: 1,
        n_success: 0,
    };
    bench.call(&mut map).unwrap();
    va
}

#[test]
fn queues_that_fail_in_order() {
    let bench = Bench::without_vm(KfdConfig::new());
    let page = page_size();
    let good = abi::CreateQueue {
        ring_base_address: 1 << 40,
        ring_size: 4096,
        read_pointer_address: 2 << 40,
        write_pointer_address: (2 << 40) + 0x100,
        gpu_id: GPU,
        queue_type: abi::KFD_IOC_QUEUE_TYPE_SDMA,
        queue_percentage: 100,
        queue_priority: 7,
        ..Default::default()
    };
    let mut nothing = abi::CreateQueue::default();
    assert_eq!(bench.call(&mut nothing), Err(Errno::EINVAL));
    assert_eq!(nothing.ring_size, 1024, "what the kernel makes of it is told though the call fails");
    let create = |change: &dyn Fn(&mut abi::CreateQueue)| {
        let mut arg = good;
        change(&mut arg);
        bench.call(&mut arg).map(|()| arg)
    };
    type Change<'a> = &'a dyn Fn(&mut abi::CreateQueue);
    let wrong: [(Change<'_>, Errno); 10] = [
        (&|arg| arg.queue_percentage = 101, Errno::EINVAL),
        (&|arg| arg.queue_priority = 16, Errno::EINVAL),
        (&|arg| arg.ring_base_address = 1 << 63, Errno::EFAULT),
        (&|arg| arg.ring_size = 3000, Errno::EINVAL),
        (&|arg| arg.metadata_ring_size = 3, Errno::EINVAL),
        (&|arg| arg.read_pointer_address = 1 << 63, Errno::EFAULT),
        (&|arg| arg.ctx_save_restore_address = 1 << 63, Errno::EFAULT),
        (&|arg| arg.queue_type = 5, Errno::ENOTSUPP),
        (&|arg| arg.gpu_id = 7, Errno::EINVAL),
        (&|_| (), Errno::ESRCH),
    ];
    for (index, (change, expected)) in wrong.iter().enumerate() {
        assert_eq!(create(change).map(drop), Err(*expected), "{index}");
    }
    bench.acquire(&bench._render[0], GPU).unwrap();
    let by_engine = |arg: &mut abi::CreateQueue| {
        arg.queue_type = abi::KFD_IOC_QUEUE_TYPE_SDMA_BY_ENG_ID;
        arg.sdma_engine_id = 5;
    };
    assert_eq!(create(&by_engine).map(drop), Err(Errno::EINVAL));
    assert_eq!(create(&|_| ()).map(drop), Err(Errno::EINVAL), "no objects");
    object(&bench, 1 << 40, 4096);
    object(&bench, 2 << 40, page);
    object(&bench, 3 << 40, 2 * page);
    let two_pages = |arg: &mut abi::CreateQueue| arg.write_pointer_address = 3 << 40;
    assert_eq!(create(&two_pages).map(drop), Err(Errno::EINVAL), "pointers in more than a page");
    assert_eq!(create(&|arg| arg.ring_size = 8192).map(drop), Err(Errno::EINVAL), "a ring of another size");
    let compute = |arg: &mut abi::CreateQueue| arg.queue_type = abi::KFD_IOC_QUEUE_TYPE_COMPUTE;
    assert_eq!(create(&compute).map(drop), Err(Errno::EINVAL));
    let queue = create(&|arg| arg.queue_percentage = 100 | 0xff00).unwrap();
    assert_eq!(queue.doorbell_offset >> 46, (3 << 16) | u64::from(GPU));
    assert_eq!(bench.call(&mut abi::SetXnackMode { xnack_enabled: 0 }), Err(Errno::EBUSY));
    assert_eq!(bench.call(&mut abi::DestroyQueue { queue_id: 99, pad: 0 }), Err(Errno::EINVAL));
    bench.call(&mut abi::DestroyQueue { queue_id: queue.queue_id, pad: 0 }).unwrap();
    bench.call(&mut abi::SetXnackMode { xnack_enabled: 0 }).unwrap();
}

#[test]
fn doorbells_are_mapped_as_a_whole() {
    let bench = Bench::new();
    let map = |offset: u64, len: usize| bench.channel.map("doorbells", offset, len).map(drop).map_err(errno);
    let doorbells = abi::KFD_MMAP_TYPE_DOORBELL | u64::from(GPU) << abi::KFD_MMAP_GPU_ID_SHIFT;
    assert_eq!(map(doorbells, 8192), Ok(()));
    assert_eq!(map(doorbells, 4096), Err(Errno::EINVAL));
    assert_eq!(map(abi::KFD_MMAP_TYPE_DOORBELL | 7 << abi::KFD_MMAP_GPU_ID_SHIFT, 8192), Err(Errno::EINVAL));
    assert_eq!(map(2 << 62, 8192), Err(Errno::EINVAL));
}

#[test]
fn events_that_are_waited_for() {
    let bench = Bench::new();
    let create = |event_type: u32, auto_reset: u32| {
        let mut arg = abi::CreateEvent { event_type, auto_reset, ..Default::default() };
        bench.call(&mut arg).map(|()| arg.event_id)
    };
    assert_eq!(create(9, 0), Err(Errno::EINVAL));
    let (manual, auto) =
        (create(abi::KFD_IOC_EVENT_MEMORY, 0).unwrap(), create(abi::KFD_IOC_EVENT_MEMORY, 1).unwrap());
    let wait = |ids: &[u32], wait_for_all: u32| {
        let mut data: Vec<_> =
            ids.iter().map(|&event_id| abi::EventData { event_id, ..Default::default() }).collect();
        let mut arg = abi::WaitEvents {
            events_ptr: data.as_mut_ptr() as u64,
            num_events: data.len() as u32,
            wait_for_all,
            timeout: 0,
            wait_result: 9,
        };
        bench.call(&mut arg).map(|()| arg.wait_result).map_err(|errno| (errno, arg.wait_result))
    };
    let (complete, timeout, fail) =
        (abi::KFD_IOC_WAIT_RESULT_COMPLETE, abi::KFD_IOC_WAIT_RESULT_TIMEOUT, abi::KFD_IOC_WAIT_RESULT_FAIL);
    assert_eq!(wait(&[manual, auto], 0), Ok(timeout));
    bench.call(&mut abi::SetEvent { event_id: manual, pad: 0 }).unwrap();
    assert_eq!(wait(&[manual, auto], 1), Ok(timeout));
    assert_eq!(wait(&[manual, auto], 0), Ok(complete));
    bench.call(&mut abi::SetEvent { event_id: auto, pad: 0 }).unwrap();
    assert_eq!(wait(&[manual, auto], 1), Ok(complete));
    assert_eq!(wait(&[auto], 1), Ok(timeout), "reset by the wait");
    assert_eq!(wait(&[manual], 1), Ok(complete), "not reset");
    bench.call(&mut abi::ResetEvent { event_id: manual, pad: 0 }).unwrap();
    assert_eq!(wait(&[manual], 1), Ok(timeout));
    assert_eq!(wait(&[7], 1), Err((Errno::EINVAL, fail)));
    let mut nowhere = abi::WaitEvents { events_ptr: 16, num_events: 1, ..Default::default() };
    assert_eq!(bench.call(&mut nowhere), Err(Errno::EFAULT));
    bench.call(&mut abi::DestroyEvent { event_id: manual, pad: 0 }).unwrap();
    assert_eq!(bench.call(&mut abi::DestroyEvent { event_id: manual, pad: 0 }), Err(Errno::EINVAL));
    assert_eq!(bench.call(&mut abi::SetEvent { event_id: manual, pad: 0 }), Err(Errno::EINVAL));
}

#[test]
fn objects_are_mapped_through_the_file_that_was_acquired() {
    let bench = Bench::new();
    let mut arg = abi::AllocMemoryOfGpu {
        va_addr: 1 << 40,
        size: page_size(),
        gpu_id: GPU,
        flags: abi::KFD_IOC_ALLOC_MEM_FLAGS_GTT,
        ..Default::default()
    };
    bench.call(&mut arg).unwrap();
    let map = |render: &Channel, offset: u64| {
        render.map("object", offset, page_size() as usize).map(drop).map_err(errno)
    };
    assert_eq!(map(&bench._render[0], arg.mmap_offset), Ok(()));
    assert_eq!(map(&bench._render[0], arg.mmap_offset + page_size()), Err(Errno::EINVAL));
    assert_eq!(map(&bench.kfd.open_render_node(0).unwrap(), arg.mmap_offset), Err(Errno::EACCES));
}

#[test]
fn a_render_node_tells_whose_it_is() {
    use crate::uapi::drm;
    let bench = Bench::new();
    let render = &bench._render[0];
    let mut name = [0u8; 8];
    let mut version = drm::Version { name_len: 3, name: name.as_mut_ptr() as u64, ..Default::default() };
    call(render, &mut version).unwrap();
    assert_eq!((version.name_len, &name[..4]), (6, &b"amd\0"[..]));
    version.name_len = 8;
    call(render, &mut version).unwrap();
    assert_eq!((&name[..6], version.version_major), (&b"amdgpu"[..], 3));
    let mut capability = drm::GetCap { capability: drm::DRM_CAP_SYNCOBJ, value: 0 };
    call(render, &mut capability).unwrap();
    assert_eq!(capability.value, 1);
    assert_eq!(call(render, &mut drm::GetCap { capability: 99, value: 0 }), Err(Errno::EINVAL));
    assert_eq!(call(render, &mut abi::GetVersion::default()), Err(Errno::ENOTTY));
    assert_eq!(call(render, &mut drm::GemClose::default()), Err(Errno::EINVAL));
}
