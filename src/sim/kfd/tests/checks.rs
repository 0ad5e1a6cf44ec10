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
    assert_eq!(bench.kfd.shared.memory.in_vram(memory.range()), 0);
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

    let mut available = abi::GetAvailableMemory { gpu_id: GPU, ..Default::default() };
    bench.call(&mut available).unwrap();
    assert_eq!(available.available, 1 << 30);
    available.gpu_id = 7;
    assert_eq!(bench.call(&mut available), Err(Errno::EINVAL));
    assert_eq!(bench.call(&mut abi::SmiEvents { gpuid: 7, anon_fd: 0 }), Err(Errno::EINVAL));
}
