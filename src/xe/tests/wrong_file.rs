//! Each wrapper on a file that is no DRM node.

use super::*;

#[track_caller]
fn not_drm<T: std::fmt::Debug>(result: Result<T>) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Unsupported, Some(Errno::ENOTTY)), "{error}");
    assert_eq!(error.reason(), "the file is not a DRM device");
}

#[test]
fn every_wrapper_says_so() {
    let device = Device::unchecked(Channel::open("/dev/null".as_ref()).unwrap());
    let range = PageRange::new(0x10000, 0x1000).unwrap();
    not_drm(device.memory_regions());
    not_drm(device.engines());
    not_drm(device.gts());
    not_drm(Vm::create(&device, VmFlags::SVM));
    not_drm(Bo::create(&device, 4096, BoOptions::new()));
    not_drm(Syncobj::create(&device, true));
    not_drm(Device::from_channel(Channel::open("/dev/null".as_ref()).unwrap()));
    let word = std::sync::atomic::AtomicU64::new(0);
    not_drm(device.wait_user_fence(&word, Comparison::Equal, 1, 1, Timeout::Never, None));
    // SAFETY: the file is no device.
    let vm = unsafe { Vm::adopt(&device, 1) }.unwrap();
    not_drm(vm.mirror_all());
    not_drm(vm.unmap(range));
    not_drm(vm.unmap_to_mirror(range));
    not_drm(vm.bind(&[Bind::map_null(range)], Syncs::new()));
    not_drm(vm.prefetch(range, PrefetchTarget::System));
    not_drm(vm.advise(range, Advice::Atomic(AtomicMode::Cpu)));
    not_drm(vm.set_purgeable(range, Purgeable::DontNeed));
    not_drm(vm.range_attributes(range));
    not_drm(vm.faults());
    not_drm(BindQueue::create(&vm));
    let copy = Engine { class: EngineClass::Copy, instance: 0, gt_id: 0 };
    not_drm(ExecQueue::create(&vm, &[copy], QueueOptions::new()));
    let null = std::fs::File::open("/dev/null").unwrap();
    not_drm(Syncobj::import(&device, std::os::fd::AsFd::as_fd(&null)));
}
