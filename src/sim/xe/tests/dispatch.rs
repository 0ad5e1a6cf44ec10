//! What happens before and after the handler of an ioctl.

use super::*;
use crate::uapi::abi::{iow, iowr};
use crate::uapi::xe::{DRM_IOCTL_XE_VM_CREATE, VmCreate, VmDestroy, VmGetProperty};

fn sized(channel: &Channel, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
    // SAFETY: the arguments hold no addresses.
    unsafe { channel.call_sized("test", request, arg, Retry::Never) }.map_err(|error| error.errno().unwrap())
}

#[test]
fn shorter_arguments_are_extended_and_longer_ones_cut() {
    let bench = Bench::new(Platform::Battlemage);
    let channel = bench.device.channel();
    let mut short = [0u8; 16];
    short[8] = 6;
    sized(channel, iowr(b'd', 0x43, 16), &mut short).unwrap();
    assert_eq!(short[12], 1);
    let mut long = [0xffu8; 64];
    long[..32].fill(0);
    long[8] = 6;
    sized(channel, iowr(b'd', 0x43, 64), &mut long).unwrap();
    assert_eq!(long[12], 2);
    assert!(long[32..].iter().all(|&byte| byte == 0xff));
}

#[test]
fn only_the_directions_in_the_request_are_copied() {
    let bench = Bench::new(Platform::Battlemage);
    let mut arg = [0u8; 32];
    arg[8] = 6;
    sized(bench.device.channel(), iow(b'd', 0x43, 32), &mut arg).unwrap();
    assert_eq!(arg[12], 0);
}

#[test]
fn changes_come_back_with_an_error() {
    let bench = Bench::new(Platform::Battlemage);
    let mut wait = crate::uapi::xe::WaitUserFence {
        addr: 8,
        timeout: -1,
        value: 1,
        mask: u64::MAX,
        ..Default::default()
    };
    assert_eq!(raw(bench.device.channel(), &mut wait), Err(Errno::EFAULT));
    assert!(wait.timeout > 0, "an endless wait comes back as a long one: {}", wait.timeout);
}

#[test]
fn unknown_requests_have_the_kernels_answers() {
    let bench = Bench::new(Platform::Battlemage);
    let channel = bench.device.channel();
    for (request, errno) in [
        (iowr(b'd', 0x50, 8), Errno::EINVAL),
        (iowr(b'd', 0x9f, 8), Errno::EINVAL),
        (iowr(b'd', 0x3f, 8), Errno::EINVAL),
        (iowr(b'd', 0xfe, 8), Errno::EINVAL),
        (iowr(b'K', 0x43, 8), Errno::ENOTTY),
    ] {
        assert_eq!(sized(channel, request, &mut [0; 8]), Err(errno), "{request:#x}");
    }
}

#[test]
fn ioctls_come_with_their_kernels() {
    for kernel in KernelVersion::ALL {
        let bench = Bench::at(kernel);
        let vm = bench.vm();
        let answer = raw(bench.device.channel(), &mut VmGetProperty { vm_id: vm.id(), ..Default::default() });
        assert_eq!(answer.is_ok(), kernel >= KernelVersion::V7_1);
        if let Err(errno) = answer {
            assert_eq!(errno, Errno::EINVAL);
        }
    }
}

#[test]
fn unplugged_and_wedged_devices_answer_everything_alike() {
    let unplugged = Bench::new(Platform::Battlemage);
    let vm = unplugged.vm();
    unplugged.gpu.unplug();
    let error = refused(vm.mirror_all(), ErrorKind::DeviceLost, Some(Errno::ENODEV));
    assert!(error.reason().contains("unplugged"));
    refused(Vm::create(&unplugged.device, VmFlags::SVM), ErrorKind::DeviceLost, Some(Errno::ENODEV));
    let wedged = Bench::new(Platform::Battlemage);
    wedged.gpu.wedge();
    refused(wedged.device.memory_regions(), ErrorKind::DeviceLost, Some(Errno::ECANCELED));
    // Wedged is found out first, even for requests that are not DRM's.
    assert_eq!(sized(wedged.device.channel(), iowr(b'K', 0, 8), &mut [0; 8]), Err(Errno::ECANCELED));
    wedged.gpu.unplug();
    assert_eq!(raw(wedged.device.channel(), &mut VmDestroy::default()), Err(Errno::ECANCELED));
}

#[test]
fn ids_are_used_again_at_once() {
    let bench = Bench::new(Platform::Battlemage);
    let first = bench.vm();
    let second = bench.vm();
    assert_eq!((first.id(), second.id()), (1, 2));
    drop(first);
    assert_eq!(bench.vm().id(), 1);
}

#[test]
fn objects_belong_to_an_open_file() {
    let bench = Bench::new(Platform::Battlemage);
    let vm = bench.vm();
    let other = Device::from_channel(bench.gpu.open().unwrap()).unwrap();
    // SAFETY: nothing was submitted to the VM.
    let stranger = unsafe { Vm::adopt(&other, vm.id()) }.unwrap();
    refused(stranger.mirror_all(), ErrorKind::InvalidArgument, Some(Errno::EINVAL));
    let _ = (DRM_IOCTL_XE_VM_CREATE, VmCreate::default());
}
