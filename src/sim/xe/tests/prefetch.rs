use super::*;
use crate::xe::{PrefetchTarget, UserFence};

#[test]
fn targets_the_kernel_lacks_are_refused_before_it_is_asked() {
    let buffer = memory(M2);
    for kernel in [KernelVersion::V6_16, KernelVersion::V6_17] {
        // On 6.17 the simulated kernel panics as the real one does, if it is asked.
        let vm = Bench::at(kernel).mirrored();
        vm.prefetch(buffer.range(), PrefetchTarget::System).unwrap();
        vm.prefetch(buffer.range(), PrefetchTarget::Region(0)).unwrap();
        refused(vm.prefetch(buffer.range(), PrefetchTarget::Region(1)), ErrorKind::Unsupported, None);
        refused(vm.prefetch(buffer.range(), PrefetchTarget::Advised), ErrorKind::Unsupported, None);
        for target in [PrefetchTarget::Region(1), PrefetchTarget::Advised] {
            refused(vm.prefetch_each(&[buffer.range()], target), ErrorKind::Unsupported, None);
            let mut fence = UserFence::new().unwrap();
            refused(vm.prefetch_with_fence(buffer.range(), target, &mut fence), ErrorKind::Unsupported, None);
            assert!(fence.is_signalled(), "it waits for nothing");
        }
    }
    let integrated = Bench::new(Platform::LunarLake).mirrored();
    refused(integrated.prefetch(buffer.range(), PrefetchTarget::Region(1)), ErrorKind::Unsupported, None);
    integrated.prefetch(buffer.range(), PrefetchTarget::Advised).unwrap();
}

#[test]
fn unsuitable_memory_is_refused_with_its_kind() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    let code = PageRange::rounded_out(unsuitable_memory_is_refused_with_its_kind as fn() as usize as u64, 1)
        .unwrap();
    let error = refused(vm.prefetch(code, PrefetchTarget::System), ErrorKind::MemoryKind, Some(Errno::EPERM));
    assert_eq!(error.range(), Some(code));
    let read_only = bench.vm();
    read_only
        .mirror_with(bench.device.config().whole_va(), crate::xe::MirrorOptions::new().read_only())
        .unwrap();
    read_only.prefetch(code, PrefetchTarget::System).unwrap();
    refused(vm.prefetch(code, PrefetchTarget::Region(7)), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    let beyond = PageRange::new(1 << 48, PAGE).unwrap();
    let error =
        refused(vm.prefetch(beyond, PrefetchTarget::System), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    assert!(error.reason().contains("48-bit"), "{error}");
}

#[test]
fn nothing_mapped_is_nothing_to_do() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.mirrored();
    vm.prefetch(pages(PAGE, 4), PrefetchTarget::System).unwrap();
    vm.unmap(pages(PAGE, 4)).unwrap();
    vm.prefetch(pages(PAGE, 0), PrefetchTarget::System).unwrap();
    let buffer = memory(M2);
    let unmirrored = bench.vm();
    unmirrored.prefetch(buffer.range(), PrefetchTarget::System).unwrap();
    unmirrored.prefetch_each(&[buffer.range(), buffer.range()], PrefetchTarget::System).unwrap();
}

#[test]
fn a_dead_vm_is_not_found() {
    let bench = Bench::new(Platform::Battlemage);
    // SAFETY: there is no such VM.
    let vm = unsafe { Vm::adopt(&bench.device, 5) }.unwrap();
    refused(
        vm.prefetch(pages(0, 1), PrefetchTarget::System),
        ErrorKind::InvalidArgument,
        Some(Errno::EINVAL),
    );
}
