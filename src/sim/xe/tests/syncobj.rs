//! Sync objects.

use std::os::fd::AsFd;

use super::*;
use crate::uapi::drm::{SyncobjCreate, SyncobjDestroy, SyncobjHandleToFd, SyncobjQuery, SyncobjWait};
use crate::xe::Syncobj;

#[test]
fn binary_sync_objects() {
    let bench = Bench::new(Platform::Battlemage);
    let object = Syncobj::create(&bench.device, false).unwrap();
    refused(object.wait(0, false), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    refused(object.wait(0, true), ErrorKind::TimedOut, Some(Errno::ETIME));
    object.signal().unwrap();
    object.wait(0, false).unwrap();
    object.reset().unwrap();
    refused(object.wait(0, true), ErrorKind::TimedOut, Some(Errno::ETIME));
    Syncobj::create(&bench.device, true).unwrap().wait(0, false).unwrap();
}

#[test]
fn timelines() {
    let bench = Bench::new(Platform::Battlemage);
    let timeline = Syncobj::create(&bench.device, false).unwrap();
    assert_eq!(timeline.point().unwrap(), 0);
    timeline.signal_point(5).unwrap();
    assert_eq!(timeline.point().unwrap(), 5);
    timeline.wait_point(3, 0, false).unwrap();
    refused(timeline.wait_point(6, 0, true), ErrorKind::TimedOut, Some(Errno::ETIME));
    std::thread::scope(|scope| {
        scope.spawn(|| timeline.wait_point(9, i64::MAX, true).unwrap());
        timeline.signal_point(9).unwrap();
    });
}

#[test]
fn exported_objects_are_the_same() {
    let bench = Bench::new(Platform::Battlemage);
    let object = Syncobj::create(&bench.device, false).unwrap();
    let fd = object.export().unwrap();
    let other = Bench::new(Platform::Battlemage);
    let imported = Syncobj::import(&other.device, fd.as_fd()).unwrap();
    object.signal().unwrap();
    imported.wait(0, false).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    refused(Syncobj::import(&bench.device, null.as_fd()), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
}

#[test]
fn arguments_are_checked() {
    let bench = Bench::new(Platform::Battlemage);
    let channel = bench.device.channel();
    assert_eq!(raw(channel, &mut SyncobjCreate { flags: 2, ..Default::default() }), Err(Errno::EINVAL));
    assert_eq!(raw(channel, &mut SyncobjDestroy { handle: 9, pad: 0 }), Err(Errno::EINVAL));
    let handle = 9u32;
    let handles = &raw const handle as u64;
    let wait = SyncobjWait { handles, count_handles: 1, ..Default::default() };
    for (arg, errno) in [
        (wait, Errno::ENOENT),
        (SyncobjWait { count_handles: 0, ..wait }, Errno::EINVAL),
        (SyncobjWait { flags: 1 << 8, ..wait }, Errno::EINVAL),
        (SyncobjWait { handles: 8, ..wait }, Errno::EFAULT),
    ] {
        assert_eq!(raw(channel, &mut arg.clone()), Err(errno), "{arg:?}");
    }
    let mut query = SyncobjQuery::default();
    assert_eq!(raw(channel, &mut query), Err(Errno::EINVAL));
    let mut export = SyncobjHandleToFd::default();
    assert_eq!(raw(channel, &mut export), Err(Errno::EINVAL));
}

#[test]
fn a_destroyed_object_is_gone() {
    let bench = Bench::new(Platform::Battlemage);
    let mut made = SyncobjCreate::default();
    // SAFETY: the arguments of these calls hold no address.
    unsafe { bench.device.channel().call(&mut made, Retry::Never) }.unwrap();
    let destroy = |pad| {
        let mut arg = SyncobjDestroy { handle: made.handle, pad };
        // SAFETY: as above.
        unsafe { bench.device.channel().call(&mut arg, Retry::Never) }
    };
    refused(destroy(1), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    destroy(0).unwrap();
    refused(destroy(0), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
}
