//! Numbers, sizes and directions of requests, and who may make them.

use super::*;

/// A call with any request number and buffer.
fn raw(channel: &Channel, request: u32, bytes: &mut [u8]) -> Result<(), Errno> {
    // SAFETY: the arguments hold no address that would be written to.
    unsafe { channel.call_sized("raw", request, bytes, Retry::Never) }.map_err(errno)
}

const fn request(direction: u32, size: u32, kind: u32, nr: u32) -> u32 {
    direction << 30 | size << 16 | kind << 8 | nr
}

#[test]
fn numbers_out_of_range_and_numbers_without_a_call() {
    let bench = Bench::new();
    for (nr, expected) in
        [(0, Errno::ENOTTY), (0x29, Errno::ENOTTY), (0xff, Errno::ENOTTY), (0x22, Errno::EINVAL)]
    {
        assert_eq!(raw(&bench.channel, request(3, 8, 0x4b, nr), &mut [0; 8]), Err(expected), "{nr:#x}");
    }
    for (minor, last) in [(5, 0x21), (9, 0x23), (18, 0x26), (19, 0x27), (23, 0x28)] {
        // So that what is not known can be told from what has wrong arguments.
        let kernel = Kernel { unknown_call_is_enotty: true, ..Kernel::with_minor(minor) };
        let bench = Bench::without_vm(KfdConfig { kernel, ..KfdConfig::new() });
        assert_eq!(
            raw(&bench.channel, request(3, 8, 0x4b, last + 1), &mut [0; 8]),
            Err(Errno::ENOTTY),
            "{minor}"
        );
        assert_ne!(
            raw(&bench.channel, request(3, 8, 0x4b, last), &mut [0; 8]),
            Err(Errno::ENOTTY),
            "{minor}"
        );
    }
}

#[test]
fn before_6_17_unknown_numbers_and_operations_have_other_answers() {
    for (kernel, number, operation) in [
        (Kernel::V6_16, Errno::EINVAL, Ok(())),
        (Kernel::V6_17, Errno::ENOTTY, Err(Errno::EINVAL)),
        (Kernel::V7_3, Errno::ENOTTY, Err(Errno::EINVAL)),
    ] {
        let bench = Bench::with(KfdConfig { kernel, ..KfdConfig::new() });
        assert_eq!(raw(&bench.channel, request(3, 8, 0x4b, 0xff), &mut [0; 8]), Err(number), "{kernel:?}");
        let memory = memory(1);
        let answer = bench.svm(memory.range().start(), memory.range().len(), 2, &[(GRANULARITY, 3)]);
        assert_eq!(answer.0, operation, "{kernel:?}");
        assert_eq!(bench.get_one(memory.range(), GRANULARITY), 9, "nothing was done");
    }
}

#[test]
fn type_and_direction_of_the_request_do_not_matter() {
    let bench = Bench::new();
    let mut version = [0xff; 8];
    raw(&bench.channel, request(0, 8, 0, 1), &mut version).unwrap();
    assert_eq!(version, [1, 0, 0, 0, 23, 0, 0, 0]);
}

#[test]
fn shorter_and_longer_arguments() {
    let bench = Bench::new();
    let mut short = [0xff; 4];
    raw(&bench.channel, request(2, 4, 0x4b, 1), &mut short).unwrap();
    assert_eq!(short, [1, 0, 0, 0]);
    let mut long = [0xff; 12];
    raw(&bench.channel, request(2, 12, 0x4b, 1), &mut long).unwrap();
    assert_eq!(
        long,
        [1, 0, 0, 0, 23, 0, 0, 0, 0, 0, 0, 0],
        "an argument that is only written starts as zeroes"
    );
    let mut long = [0xff; 8];
    long[..4].copy_from_slice(&(-1i32).to_ne_bytes());
    raw(&bench.channel, request(3, 8, 0x4b, 0x21), &mut long).unwrap();
    assert_eq!(long, [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "an argument that is also read keeps its end");
}

#[test]
fn arguments_that_are_only_read_stay_as_they_are() {
    let bench = Bench::new();
    let mut acquire = [0xff; 8];
    assert_eq!(raw(&bench.channel, abi::AcquireVm::REQUEST, &mut acquire), Err(Errno::EINVAL));
    assert_eq!(acquire, [0xff; 8]);
}

#[test]
fn more_attributes_than_the_size_says() {
    let memory = memory(1);
    let three_in_the_room_of_two = |bench: &Bench, nattr: u32, room: u32| {
        let mut bytes = vec![0u8; 24 + 8 * room as usize];
        bytes[..8].copy_from_slice(&memory.range().start().to_ne_bytes());
        bytes[8..16].copy_from_slice(&memory.range().len().to_ne_bytes());
        bytes[16..20].copy_from_slice(&abi::KFD_IOCTL_SVM_OP_GET_ATTR.to_ne_bytes());
        bytes[20..24].copy_from_slice(&nattr.to_ne_bytes());
        raw(&bench.channel, abi::AMDKFD_IOC_SVM + ((8 * room) << 16), &mut bytes)
    };
    let bench = Bench::new();
    assert_eq!(three_in_the_room_of_two(&bench, 3, 2), Err(Errno::EINVAL));
    assert_eq!(three_in_the_room_of_two(&bench, u32::MAX, 2), Err(Errno::EINVAL));
    assert_eq!(three_in_the_room_of_two(&bench, 2, 3), Ok(()));
    let old = Bench::with(KfdConfig { kernel: Kernel::V6_16, ..KfdConfig::new() });
    assert_eq!(three_in_the_room_of_two(&old, 3, 2), Err(WOULD_OOPS));
    assert!(old.kfd.hazards()[0].contains("leaves its buffer"));
}

#[test]
fn a_secondary_context_has_no_svm() {
    let (bench, memory) = (Bench::new(), memory(1));
    bench.set(memory.range(), &[]).unwrap();
    raw(&bench.channel, abi::AMDKFD_IOC_CREATE_PROCESS, &mut []).unwrap();
    assert_eq!(bench.set(memory.range(), &[]), Err(Errno::EOPNOTSUPP));
    assert_eq!(bench.get(memory.range(), &[]), Err(Errno::EOPNOTSUPP));
    assert_eq!(raw(&bench.channel, abi::AMDKFD_IOC_CREATE_PROCESS, &mut []), Err(Errno::EINVAL));
    let error = crate::kfd::Process::open(bench.channel.try_clone().unwrap()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
    assert!(error.reason().contains("secondary"), "{error}");
    crate::kfd::Process::open(bench.kfd.open().unwrap()).unwrap();
}

#[test]
fn a_forked_child_gets_ebadf() {
    let bench = Bench::new();
    let mut version = abi::GetVersion::default();
    bench.call(&mut version).unwrap();
    // SAFETY: the child makes system calls and touches memory that exists already before it exits.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let refused = bench.call(&mut version) == Err(Errno::EBADF);
            // SAFETY: ends the child at once, without running destructors of the test process.
            unsafe { nix::libc::_exit(i32::from(!refused)) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
    }
}

#[test]
fn opening_without_a_gpu_and_during_a_reset() {
    let none = KfdConfig::with_gpus(vec![]);
    assert_eq!(errno(Kfd::new(none.clone()).unwrap().open().unwrap_err()), Errno::EINVAL);
    let old = Kfd::new(KfdConfig { kernel: Kernel::V6_18, ..none }).unwrap();
    old.open().unwrap();
    let bench = Bench::new();
    bench.kfd.faults().lock(true);
    assert_eq!(errno(bench.kfd.open().unwrap_err()), Errno::EINVAL);
    bench.kfd.faults().lock(false);
    bench.kfd.open().unwrap();
}
