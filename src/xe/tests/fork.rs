//! What a forked child may do with its parent's objects: nothing, and dropping them tells the driver nothing.

use super::*;

/// Whether `question` is answered with yes in a forked child.
fn in_child(question: impl FnOnce() -> bool) -> bool {
    // SAFETY: the C library makes its allocator usable in the child; the child takes no lock that another thread could have held,
    // and leaves by `_exit`.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let yes = question();
            // SAFETY: ends the child at once, without running the parent's exit handlers.
            unsafe { libc::_exit(if yes { 0 } else { 1 }) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            status == nix::sys::wait::WaitStatus::Exited(child, 0)
        }
    }
}

#[test]
fn a_child_is_refused_everything_and_destroys_nothing() {
    let script = Arc::new(Script::default());
    let device = script.device();
    let vm = Vm::create(&device, VmFlags::SVM).unwrap();
    let bo = Bo::create(&device, 4096, BoOptions::new()).unwrap();
    let syncobj = Syncobj::create(&device, true).unwrap();
    let copy = Engine { class: EngineClass::Copy, instance: 0, gt_id: 0 };
    let queue = ExecQueue::create(&vm, &[copy], QueueOptions::new()).unwrap();
    let binds = BindQueue::create(&vm).unwrap();
    script.forget();
    let range = PageRange::new(0x10000, 0x1000).unwrap();
    let foreign = |result: Result<()>| result.is_err_and(|error| error.kind() == ErrorKind::ForeignProcess);
    assert!(in_child(|| {
        let mut fence = UserFence::new().unwrap();
        let refused = foreign(vm.mirror_all())
            && foreign(vm.unmap(range))
            && foreign(vm.unmap_to_mirror(range))
            && foreign(vm.bind(&[Bind::map_null(range)], Syncs::new()))
            && foreign(vm.prefetch(range, PrefetchTarget::System))
            && foreign(vm.prefetch_with_fence(range, PrefetchTarget::System, &mut fence))
            && foreign(vm.advise(range, Advice::Atomic(AtomicMode::Cpu)))
            && foreign(vm.set_purgeable(range, Purgeable::DontNeed).map(drop))
            && foreign(vm.range_attributes(range).map(drop))
            && foreign(vm.faults().map(drop))
            && foreign(ExecQueue::create(&vm, &[copy], QueueOptions::new()).map(drop))
            && foreign(queue.is_banned().map(drop))
            // SAFETY: refused, and the script runs nothing.
            && foreign(unsafe { queue.submit(0, Syncs::new()) })
            && foreign(bo.map().map(drop))
            && foreign(syncobj.signal());
        drop((queue, binds, syncobj, bo, vm));
        refused && script.calls.lock().unwrap().is_empty()
    }));
}
