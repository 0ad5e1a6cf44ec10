//! Every errno that the driver answers a call with is told with kind, reason and cure.

use super::*;

const RANGE: (u64, u64) = (0x10000, 0x1000);

fn range() -> PageRange {
    PageRange::new(RANGE.0, RANGE.1).unwrap()
}

/// Makes `call` fail with each errno and checks what becomes of it. `known` maps those that mean something to the call.
#[track_caller]
fn each(known: &[(Errno, ErrorKind)], call: impl Fn(&Vm) -> Result<()>) {
    let everywhere = [
        (Errno::ENODEV, ErrorKind::DeviceLost),
        (Errno::ECANCELED, ErrorKind::DeviceLost),
        (Errno::ENOTTY, ErrorKind::Unsupported),
        (Errno::ENOMEM, ErrorKind::OutOfMemory),
    ];
    let script = Arc::new(Script::default());
    // SAFETY: the node runs no commands.
    let vm = unsafe { Vm::adopt(&script.device(), 2) }.unwrap();
    for &(errno, kind) in known.iter().chain(&everywhere) {
        script.fail_with(errno);
        let error = call(&vm).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (kind, Some(errno)), "{error}");
        assert!(error.call().starts_with("DRM_IOCTL_"), "{error}");
        assert!(error.hint().is_some(), "no cure: {error}");
        let bare = Error::from_errno(error.call(), errno);
        assert_ne!(error.reason(), bare.reason(), "no reason of its own: {error}");
    }
}

#[test]
fn prefetch() {
    use ErrorKind::*;
    each(
        &[
            (Errno::EINVAL, InvalidArgument),
            (Errno::EPERM, MemoryKind),
            (Errno::EIO, MemoryKind),
            (Errno::EFAULT, ForeignProcess),
            (Errno::EBUSY, Busy),
            (Errno::ENOENT, NotFound),
            (Errno::ENOSPC, OutOfVram),
        ],
        |vm| vm.prefetch(range(), PrefetchTarget::System),
    );
}

#[test]
fn bind_and_mirror() {
    use ErrorKind::*;
    let known = [
        (Errno::EINVAL, InvalidArgument),
        (Errno::EBUSY, AddressInUse),
        (Errno::ENOENT, NotFound),
        (Errno::ENOBUFS, OutOfMemory),
        (Errno::ENOSPC, OutOfVram),
        (Errno::EOPNOTSUPP, Unsupported),
        (Errno::EFAULT, NotMapped),
        (Errno::EPERM, MemoryKind),
        (Errno::EIO, MemoryKind),
        (Errno::ENOEXEC, Busy),
    ];
    each(&known, |vm| vm.mirror(range()));
    each(&known, |vm| vm.unmap(range()));
    each(&known, |vm| vm.bind(&[Bind::map_null(range())], Syncs::new()));
    each(&known, |vm| vm.unmap_to_mirror(range()));
}

#[test]
fn advise() {
    use ErrorKind::*;
    each(
        &[
            (Errno::EINVAL, InvalidArgument),
            (Errno::ENOENT, NotFound),
            (Errno::ENOLINK, NoInterconnect),
            (Errno::EFAULT, NotMapped),
        ],
        |vm| vm.advise(range(), Advice::Atomic(AtomicMode::Cpu)),
    );
    each(&[(Errno::EFAULT, NotMapped), (Errno::ENOENT, NotFound)], |vm| {
        vm.set_purgeable(range(), Purgeable::DontNeed).map(drop)
    });
}

#[test]
fn questions() {
    use ErrorKind::*;
    each(
        &[(Errno::EINVAL, InvalidArgument), (Errno::ENOBUFS, OutOfMemory), (Errno::EFAULT, NotMapped)],
        |vm| vm.range_attributes(range()).map(drop),
    );
    each(&[(Errno::ENOENT, NotFound), (Errno::EFAULT, NotMapped)], |vm| vm.faults().map(drop));
    each(&[(Errno::ENOSPC, NotMapped), (Errno::EOPNOTSUPP, Unsupported), (Errno::EIO, DeviceLost)], |vm| {
        vm.device().memory_regions().map(drop)
    });
}

#[test]
fn creation() {
    use ErrorKind::*;
    each(&[(Errno::EINVAL, Unsupported), (Errno::ENOSPC, OutOfVram), (Errno::EBUSY, Busy)], |vm| {
        Vm::create(vm.device(), VmFlags::SVM).map(drop)
    });
    each(
        &[
            (Errno::EINVAL, InvalidArgument),
            (Errno::EOPNOTSUPP, Unsupported),
            (Errno::ENOENT, NotFound),
            (Errno::ENOSPC, OutOfVram),
        ],
        |vm| Bo::create(vm.device(), 4096, BoOptions::new()).map(drop),
    );
    each(
        &[
            (Errno::EINVAL, InvalidArgument),
            (Errno::ENOENT, NotFound),
            (Errno::EPERM, PermissionDenied),
            (Errno::EOPNOTSUPP, Unsupported),
            (Errno::ENOSPC, OutOfVram),
            (Errno::E2BIG, InvalidArgument),
        ],
        |vm| BindQueue::create(vm).map(drop),
    );
    each(&[(Errno::EOPNOTSUPP, Unsupported)], |vm| Syncobj::create(vm.device(), false).map(drop));
}

#[test]
fn execution() {
    use ErrorKind::*;
    let script = Arc::new(Script::default());
    // SAFETY: the node runs no commands.
    let vm = unsafe { Vm::adopt(&script.device(), 2) }.unwrap();
    let copy = Engine { class: EngineClass::Copy, instance: 0, gt_id: 0 };
    let queue = ExecQueue::create(&vm, &[copy], QueueOptions::new()).unwrap();
    for (errno, kind) in [
        (Errno::EAGAIN, TryAgain),
        (Errno::ECANCELED, DeviceLost),
        (Errno::EINVAL, InvalidArgument),
        (Errno::ENOENT, NotFound),
        (Errno::EOPNOTSUPP, Unsupported),
    ] {
        script.fail_with(errno);
        // SAFETY: the script runs nothing.
        let error = unsafe { queue.submit(0, Syncs::new()) }.unwrap_err();
        assert_eq!((error.kind(), error.errno()), (kind, Some(errno)), "{error}");
        assert!(error.hint().is_some());
    }
    script.fail_with(Errno::ENOENT);
    assert_eq!(queue.is_banned().unwrap_err().kind(), NotFound);
    let word = std::sync::atomic::AtomicU64::new(0);
    for (errno, kind) in [
        (Errno::ETIME, TimedOut),
        (Errno::EIO, DeviceLost),
        (Errno::ENOENT, NotFound),
        (Errno::EFAULT, NotMapped),
        (Errno::EINVAL, InvalidArgument),
    ] {
        script.fail_with(errno);
        let wait = vm.device().wait_user_fence(&word, Comparison::Equal, 1, 1, Timeout::Poll, Some(&queue));
        let error = wait.unwrap_err();
        assert_eq!((error.kind(), error.errno()), (kind, Some(errno)), "{error}");
        assert!(error.hint().is_some());
    }
}

/// No two errnos of a call are told alike, so that a log line says which it was.
#[test]
fn meanings_of_a_call_can_be_told_apart() {
    let tables: [&[Meaning]; 2] = [super::super::bind::BIND, super::super::errors::EVERYWHERE];
    for table in tables {
        for (at, meaning) in table.iter().enumerate() {
            for other in &table[at + 1..] {
                assert_ne!(meaning.errno, other.errno);
                assert_ne!(meaning.reason, other.reason);
            }
        }
    }
}

/// The one errno that comes after the change was made takes the fence's page out of use.
#[test]
fn a_fence_whose_fate_is_unknown_is_not_used_again() {
    let script = Arc::new(Script::default());
    // SAFETY: the node runs no commands.
    let vm = unsafe { Vm::adopt(&script.device(), 2) }.unwrap();
    let mut fence = UserFence::new().unwrap();
    let before = fence.address();
    script.fail_with(Errno::EOPNOTSUPP);
    vm.prefetch_with_fence(range(), PrefetchTarget::System, &mut fence).unwrap_err();
    assert_ne!(fence.address(), before);
    assert!(fence.is_signalled());
    script.fail_with(Errno::EBUSY);
    let kept = fence.address();
    vm.prefetch_with_fence(range(), PrefetchTarget::System, &mut fence).unwrap_err();
    assert_eq!((fence.address(), fence.value(), fence.is_signalled()), (kept, 0, true));
}
