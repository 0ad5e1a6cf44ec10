use super::*;

#[test]
fn what_a_process_knows_of_itself() {
    let machine = Machine::with(two_gpus());
    let process = &machine.process;
    assert_eq!(process.version(), Version { major: 1, minor: 23 });
    assert_eq!(process.gpus().collect::<Vec<_>>(), [gpu(GPU), gpu(0x1111)]);
    assert_eq!(process.apertures(gpu(GPU)).unwrap().gpuvm, (0x1_0000, 0x7fff_ffff_ffff));
    assert_eq!(process.apertures(gpu(7)), None);
    assert_eq!(process.available_memory(gpu(GPU)).unwrap(), 1 << 30);
    assert_eq!(process.available_memory(gpu(7)).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn the_simulated_topology_is_one_that_is_read() {
    let mut config = two_gpus();
    config.gpus[0].hive_id = 5;
    config.gpus[1].hive_id = 5;
    config.gpus.push(GpuConfig { visible: false, ..GpuConfig::vega10(0x2222, 1 << 30) });
    let kfd = Kfd::new(config).unwrap();
    let topology = Topology::read(&kfd.topology()).unwrap();
    let gpus: Vec<_> = topology.svm_gpus().collect();
    assert_eq!(gpus.len(), 2);
    assert_eq!((gpus[0].gpu_id(), gpus[1].gpu_id()), (Some(gpu(GPU)), Some(gpu(0x1111))));
    assert_eq!((gpus[0].vram_bytes(), gpus[1].drm_render_minor()), (1 << 30, Some(129)));
    assert_eq!(gpus[0].gfx_version().unwrap().to_string(), "gfx90a");
    assert!(topology.are_linked(gpu(GPU), gpu(0x1111)));
    assert_eq!(gpus[0].io_links()[1].link, LinkType::Xgmi);
    assert_eq!(topology.denied_nodes(), [3]);
}

#[test]
fn an_interface_without_svm() {
    for (kernel, word) in
        [(Kernel::with_minor(4), "1.4"), (Kernel { svm: false, ..Kernel::V7_3 }, "CONFIG_HSA_AMD_SVM")]
    {
        let kfd = Kfd::new(KfdConfig { kernel, ..KfdConfig::new() }).unwrap();
        let error = Process::open(kfd.open().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.reason().contains(word), "{error}");
    }
}

#[test]
fn calls_of_later_interfaces_are_refused_without_asking() {
    let machine = Machine::with(KfdConfig { kernel: Kernel::with_minor(8), ..KfdConfig::new() });
    for error in [
        machine.process.available_memory(gpu(GPU)).unwrap_err(),
        machine.process.smi_events(gpu(GPU), SmiMask::MIGRATIONS).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Unsupported, None), "{error}");
    }
    machine.process.smi_events(gpu(GPU), SmiMask::VM_FAULT).unwrap();
}

#[test]
fn attributes_wait_for_every_gpu() {
    let machine = Machine::without_vm(KfdConfig { kernel: Kernel::V6_16, ..two_gpus() });
    let (process, memory) = (&machine.process, memory(1));
    let set = || process.set_attributes(memory.range(), &[SvmAttribute::Access(gpu(GPU))]);
    for render in &machine.renders {
        let error = set().unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::InvalidArgument, None));
        assert!(error.hint().unwrap().contains("acquire_vm"), "{error}");
        let next = if process.is_acquired(gpu(GPU)).unwrap() { 0x1111 } else { GPU };
        process.acquire_vm(render, gpu(next)).unwrap();
    }
    set().unwrap();
    assert!(machine.kfd.hazards().is_empty(), "{:?}", machine.kfd.hazards());
}

#[test]
fn gpus_without_svm_need_not_be_acquired() {
    let mut config = KfdConfig { kernel: Kernel::V6_16, ..two_gpus() };
    config.gpus[1].svm = false;
    let machine = Machine::without_vm(config);
    let memory = memory(1);
    machine.process.acquire_vm(&machine.renders[0], gpu(GPU)).unwrap();
    let set = |id| machine.process.set_attributes(memory.range(), &[SvmAttribute::Access(gpu(id))]);
    set(GPU).unwrap();
    assert_eq!(set(0x1111).unwrap_err().errno(), Some(Errno::EINVAL), "the kernel's own answer");
}

#[test]
fn a_process_without_gpus_or_with_none_that_can() {
    let memory = memory(1);
    let none = KfdConfig { kernel: Kernel::V6_18, ..KfdConfig::with_gpus(vec![]) };
    let machine = Machine::with(none);
    let set = |machine: &Machine| {
        machine
            .process
            .set_attributes(memory.range(), &[SvmAttribute::Prefetch(Location::System)])
            .unwrap_err()
    };
    assert_eq!(set(&machine).kind(), ErrorKind::NotFound);
    assert!(machine.kfd.hazards().is_empty());
    machine.process.get_attributes(memory.range(), &[]).unwrap();
    assert_eq!(machine.process.xnack().unwrap(), Xnack::On);

    let mut incapable = KfdConfig::new();
    incapable.gpus[0].svm = false;
    let machine = Machine::without_vm(incapable);
    assert_eq!(set(&machine).kind(), ErrorKind::InvalidArgument);
    assert!(machine.kfd.hazards().is_empty());
}

#[test]
fn another_runtime_acquired_first() {
    let machine = Machine::with(two_gpus());
    let memory = memory(1);
    let ours = Process::open(machine.kfd.open().unwrap()).unwrap();
    let render = machine.kfd.open_render_node(0).unwrap();
    assert_eq!(ours.acquire_vm(&render, gpu(GPU)).unwrap(), Acquired::ByOther);
    // The second GPU's state is found out by itself.
    ours.set_attributes(memory.range(), &[SvmAttribute::Access(gpu(0x1111))]).unwrap();

    let adopted = Process::adopt(machine.kfd.open().unwrap(), &[gpu(GPU)]).unwrap();
    adopted.set_attributes(memory.range(), &[SvmAttribute::Access(gpu(GPU))]).unwrap();
    let unknown = Process::adopt(machine.kfd.open().unwrap(), &[gpu(7)]).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}

#[test]
fn adopting_before_anyone_acquired() {
    let machine = Machine::without_vm(KfdConfig::new());
    let error = Process::adopt(machine.kfd.open().unwrap(), &[gpu(GPU)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(!machine.process.is_acquired(gpu(GPU)).unwrap());
    machine.process.acquire_vm(&machine.renders[0], gpu(GPU)).unwrap();
    Process::adopt(machine.kfd.open().unwrap(), &[gpu(GPU)]).unwrap();
}

#[test]
fn acquiring_with_a_channel_that_is_no_file() {
    let machine = Machine::without_vm(KfdConfig::new());
    let error = machine.process.acquire_vm(machine.process.channel(), gpu(GPU)).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::InvalidArgument, None));
    let error = machine.process.acquire_vm(&machine.renders[0], gpu(7)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_forked_child_is_told_apart_before_the_kernel_is_asked() {
    let machine = Machine::new();
    let mut log = machine.process.smi_events(gpu(GPU), SmiMask::SVM).unwrap();
    let memory = memory(1);
    // SAFETY: the child makes system calls and allocates little before it exits; no other thread of the test holds a lock
    // that it needs but the allocator's, which glibc makes safe over fork.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let process = &machine.process;
            let kinds = [
                process.set_attributes(memory.range(), &[SvmAttribute::Access(gpu(GPU))]).unwrap_err().kind(),
                process.get_attributes(memory.range(), &[]).unwrap_err().kind(),
                process.xnack().unwrap_err().kind(),
                process.available_memory(gpu(GPU)).unwrap_err().kind(),
                process.acquire_vm(&machine.renders[0], gpu(GPU)).unwrap_err().kind(),
                process.is_acquired(gpu(GPU)).unwrap_err().kind(),
                process.smi_events(gpu(GPU), SmiMask::SVM).unwrap_err().kind(),
                log.next_event().unwrap_err().kind(),
                Process::open(process.channel().try_clone().unwrap()).unwrap_err().kind(),
            ];
            let refused = kinds.iter().all(|&kind| kind == ErrorKind::ForeignProcess);
            // SAFETY: ends the child at once, without running destructors of the test process.
            unsafe { nix::libc::_exit(i32::from(!refused)) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
    }
}
