use super::*;
use crate::uapi::xe::{VmCreate, VmDestroy, VmGetProperty};

const LEGAL: [VmFlags; 6] = [
    VmFlags::empty(),
    VmFlags::SCRATCH_PAGE,
    VmFlags::LR_MODE,
    VmFlags::LR_MODE.union(VmFlags::SCRATCH_PAGE),
    VmFlags::SVM,
    VmFlags::SVM.union(VmFlags::NO_VM_OVERCOMMIT),
];

#[test]
fn every_legal_combination_of_flags_is_accepted_and_no_other() {
    let bench = Bench::new(Platform::Battlemage);
    let needs_scratch = VmFlags::SVM | VmFlags::SCRATCH_PAGE;
    for bits in 0..16 {
        let flags = VmFlags::from_bits_retain(bits);
        let legal = LEGAL.contains(&flags)
            || flags == needs_scratch
            || flags == needs_scratch | VmFlags::NO_VM_OVERCOMMIT;
        let created = Vm::create(&bench.device, flags);
        assert_eq!(created.is_ok(), legal, "{flags:?}: {created:?}");
        let asked = raw(bench.device.channel(), &mut VmCreate { flags: bits, ..Default::default() });
        assert_eq!(asked.is_ok(), legal, "{flags:?}: {asked:?}");
        if !legal {
            refused(created, ErrorKind::InvalidArgument, None);
            assert_eq!(asked, Err(Errno::EINVAL));
        }
    }
    refused(Vm::create(&bench.device, VmFlags::from_bits_retain(16)), ErrorKind::InvalidArgument, None);
}

#[test]
fn what_a_device_or_kernel_lacks_is_unsupported() {
    let scratch = VmFlags::SVM | VmFlags::SCRATCH_PAGE;
    let discrete = Bench::new(Platform::PonteVecchio);
    refused(Vm::create(&discrete.device, scratch), ErrorKind::Unsupported, Some(Errno::EINVAL));
    let old = Bench::at(KernelVersion::V7_0);
    let overcommit = VmFlags::SVM | VmFlags::NO_VM_OVERCOMMIT;
    refused(Vm::create(&old.device, overcommit), ErrorKind::Unsupported, Some(Errno::EINVAL));
    let no_faults = Bench::new(Platform::Alchemist);
    refused(Vm::create(&no_faults.device, VmFlags::SVM), ErrorKind::Unsupported, Some(Errno::EINVAL));
    Vm::create(&no_faults.device, VmFlags::LR_MODE).unwrap();
}

#[test]
fn reserved_fields_are_refused() {
    let bench = Bench::new(Platform::Battlemage);
    let channel = bench.device.channel();
    for arg in [
        VmCreate { extensions: 8, ..Default::default() },
        VmCreate { reserved: [1, 0], ..Default::default() },
        VmCreate { reserved: [0, 1], ..Default::default() },
    ] {
        assert_eq!(raw(channel, &mut arg.clone()), Err(Errno::EINVAL));
    }
    let vm = bench.vm();
    let destroy = VmDestroy { vm_id: vm.id(), ..Default::default() };
    for arg in [VmDestroy { pad: 1, ..destroy }, VmDestroy { reserved: [0, 9], ..destroy }] {
        assert_eq!(raw(channel, &mut arg.clone()), Err(Errno::EINVAL));
    }
    assert_eq!(raw(channel, &mut VmDestroy { vm_id: 77, ..destroy }), Err(Errno::ENOENT));
    let property = VmGetProperty { vm_id: vm.id(), ..Default::default() };
    for arg in [
        VmGetProperty { extensions: 1, ..property },
        VmGetProperty { pad: 1, ..property },
        VmGetProperty { reserved: [0, 0, 1], ..property },
        VmGetProperty { property: 1, ..property },
        VmGetProperty { size: 48, ..property },
        VmGetProperty { size: 7, ..property },
    ] {
        assert_eq!(raw(channel, &mut arg.clone()), Err(Errno::EINVAL), "{arg:?}");
    }
    assert_eq!(raw(channel, &mut VmGetProperty { vm_id: 77, ..property }), Err(Errno::ENOENT));
}

#[test]
fn dropping_destroys_and_adopting_does_not() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    let id = vm.id();
    // SAFETY: nothing was submitted to the VM.
    let adopted = unsafe { Vm::adopt(&bench.device, id) }.unwrap();
    adopted.mirror_all().unwrap();
    drop(adopted);
    assert_eq!(vm.faults().unwrap(), []);
    drop(vm);
    // SAFETY: nothing was submitted to the VM.
    let gone = unsafe { Vm::adopt(&bench.device, id) }.unwrap();
    refused(gone.faults(), ErrorKind::NotFound, Some(Errno::ENOENT));
}

#[test]
fn faults_need_their_kernel() {
    let bench = Bench::at(KernelVersion::V7_0);
    let error = refused(bench.vm().faults(), ErrorKind::Unsupported, Some(Errno::EINVAL));
    assert_eq!(error.hint(), Some("Linux 7.1 or newer"));
}

#[test]
fn a_forked_child_is_refused_and_leaves_the_parents_vm_alone() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    // SAFETY: the child makes no allocation that a lock of another thread could hold up before it exits: errors are boxed, but the
    // child tests for them in a loop of its own and leaves by `_exit`.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let refused = vm.unmap(pages(0, 1)).is_err_and(|error| error.kind() == ErrorKind::ForeignProcess);
            // Would destroy the parent's VM by its id.
            drop(vm);
            // SAFETY: ends the child at once, without running the parent's exit handlers.
            unsafe { libc::_exit(if refused { 0 } else { 1 }) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
    }
    vm.unmap(pages(0, 1)).unwrap();
}
