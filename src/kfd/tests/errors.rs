//! Each errno has a kind, a reason of its own, and where something helps a hint.

use super::*;
use crate::Error;
use crate::uapi::IoctlArg;
use crate::uapi::kfd as abi;

/// The error of `call` when the kernel answers each of these to a request, which differ in their reasons.
fn explained(nr: u32, call: impl Fn(&Process) -> Error, expected: &[(Errno, ErrorKind)]) {
    let (recorder, process, machine) = recorded(KfdConfig::new());
    process.acquire_vm(&machine.renders[0], gpu(GPU)).unwrap();
    let mut reasons = Vec::new();
    for &(errno, kind) in expected {
        recorder.refuse(nr, errno);
        let error = call(&process);
        assert_eq!((error.kind(), error.errno()), (kind, Some(errno)), "{error}");
        assert!(!reasons.contains(&error.reason().to_owned()), "{error}");
        reasons.push(error.reason().to_owned());
    }
}

#[test]
fn of_setting_attributes() {
    let memory = memory(1);
    explained(
        abi::AMDKFD_IOC_SVM,
        |process| {
            let error =
                process.set_attributes(memory.range(), &[SvmAttribute::Access(gpu(GPU))]).unwrap_err();
            assert_eq!(error.range(), Some(memory.range()));
            assert_eq!(error.call(), "AMDKFD_IOC_SVM");
            error
        },
        &[
            (Errno::EINVAL, ErrorKind::InvalidArgument),
            (Errno::EOVERFLOW, ErrorKind::InvalidArgument),
            (Errno::EFAULT, ErrorKind::NotMapped),
            (Errno::EADDRINUSE, ErrorKind::AddressInUse),
            (Errno::ENOMEM, ErrorKind::OutOfMemory),
            (Errno::EPERM, ErrorKind::Unsupported),
            (Errno::EOPNOTSUPP, ErrorKind::Unsupported),
            (Errno::ENODEV, ErrorKind::DeviceLost),
            (Errno::EBADF, ErrorKind::ForeignProcess),
            (Errno::EAGAIN, ErrorKind::TryAgain),
        ],
    );
}

#[test]
fn of_reading_attributes() {
    let memory = memory(1);
    explained(
        abi::AMDKFD_IOC_SVM,
        |process| process.get_attributes(memory.range(), &[gpu(GPU)]).unwrap_err(),
        &[
            (Errno::EINVAL, ErrorKind::NotFound),
            (Errno::EOVERFLOW, ErrorKind::InvalidArgument),
            (Errno::EFAULT, ErrorKind::NotMapped),
            (Errno::EADDRINUSE, ErrorKind::AddressInUse),
            (Errno::EOPNOTSUPP, ErrorKind::Unsupported),
        ],
    );
}

#[test]
fn of_the_xnack_mode() {
    explained(
        abi::SetXnackMode::REQUEST,
        |process| process.set_xnack(Xnack::On).unwrap_err(),
        &[
            (Errno::EBUSY, ErrorKind::Busy),
            (Errno::EPERM, ErrorKind::Unsupported),
            (Errno::ENOMEM, ErrorKind::OutOfMemory),
            (Errno::EBADF, ErrorKind::ForeignProcess),
        ],
    );
}

#[test]
fn of_acquiring_an_address_space() {
    let kfd = Kfd::new(KfdConfig::new()).unwrap();
    let render = kfd.open_render_node(0).unwrap();
    explained(
        abi::AcquireVm::REQUEST,
        |process| process.acquire_vm(&render, gpu(GPU)).unwrap_err(),
        &[
            (Errno::EINVAL, ErrorKind::InvalidArgument),
            (Errno::ENOMEM, ErrorKind::OutOfMemory),
            (Errno::EBADF, ErrorKind::ForeignProcess),
        ],
    );
}

#[test]
fn of_files_that_are_no_kfd() {
    for path in ["/dev/null", "/dev/zero", "/proc/self/maps"] {
        let file = std::fs::File::open(path).unwrap();
        let error = Process::open(Channel::from_fd(file.into())).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Unsupported, Some(Errno::ENOTTY)), "{path}");
        assert!(error.hint().unwrap().contains("/dev/kfd"), "{error}");
    }
}

/// Each wrapper over a file that is no KFD: the process is opened on a good one, the calls go to `/dev/null`.
#[test]
fn of_each_wrapper_on_the_wrong_file() {
    #[derive(Debug)]
    struct Switch {
        good: Mutex<Option<Channel>>,
        bad: Channel,
    }
    // SAFETY: every call is passed on to another far end.
    unsafe impl VirtualNode for Switch {
        unsafe fn ioctl(&self, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
            let good = self.good.lock().unwrap();
            let channel = good.as_ref().unwrap_or(&self.bad);
            // SAFETY: passes the caller's own bytes on.
            unsafe { channel.call_sized("switch", request, arg, crate::channel::Retry::Never) }
                .map_err(|error| error.errno().unwrap_or(Errno::EIO))
        }
        fn name(&self) -> String {
            "switch".into()
        }
    }
    let machine = Machine::new();
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    let switch = Arc::new(Switch {
        good: Mutex::new(Some(machine.kfd.open().unwrap())),
        bad: Channel::from_fd(null.into()),
    });
    let process = Process::open(Channel::to_virtual(switch.clone())).unwrap();
    process.acquire_vm(&machine.renders[0], gpu(GPU)).unwrap();
    *switch.good.lock().unwrap() = None;
    let (memory, id) = (memory(1), gpu(GPU));
    let errors = [
        process.allocate(id, 1, MemoryKind::System).map(drop).unwrap_err(),
        process.create_sdma_queue(id, 0).map(drop).unwrap_err(),
        process.memory_exceptions().map(drop).unwrap_err(),
        process.set_attributes(memory.range(), &[SvmAttribute::Access(id)]).unwrap_err(),
        process.get_attributes(memory.range(), &[]).unwrap_err(),
        process.xnack().unwrap_err(),
        process.set_xnack(Xnack::On).unwrap_err(),
        process.available_memory(id).unwrap_err(),
        process.acquire_vm(&machine.renders[0], id).unwrap_err(),
        process.smi_events(id, SmiMask::SVM).unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Unsupported, Some(Errno::ENOTTY)), "{error}");
    }
}
