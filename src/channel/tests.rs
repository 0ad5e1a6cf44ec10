use std::sync::Mutex;

use super::*;
use crate::uapi::IoctlArg;
use crate::uapi::xe::VmCreate;

/// Records what it is asked and answers from a script.
#[derive(Debug, Default)]
struct Recorder {
    calls: Mutex<Vec<(u32, Vec<u8>)>>,
    answers: Mutex<Vec<Errno>>,
}

// SAFETY: the number it answers with is of its own invention, and names no descriptor.
unsafe impl VirtualNode for Recorder {
    unsafe fn ioctl(&self, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
        self.calls.lock().unwrap().push((request, arg.to_vec()));
        arg[12..16].copy_from_slice(&7u32.to_le_bytes());
        match self.answers.lock().unwrap().pop() {
            Some(errno) => Err(errno),
            None => Ok(()),
        }
    }

    fn name(&self) -> String {
        "recorder".into()
    }
}

fn create(channel: &Channel, retry: Retry) -> (VmCreate, Result<()>) {
    let mut arg = VmCreate { flags: 6, ..Default::default() };
    // SAFETY: the argument holds no address.
    let result = unsafe { channel.call(&mut arg, retry) };
    (arg, result)
}

#[test]
fn the_far_end_sees_the_bytes_and_its_changes_come_back() {
    let node = Arc::new(Recorder::default());
    let channel = Channel::to_virtual(node.clone());
    let (arg, result) = create(&channel, Retry::Always);
    result.unwrap();
    assert_eq!(arg.vm_id, 7);
    let calls = node.calls.lock().unwrap();
    assert_eq!(calls[0].0, VmCreate::REQUEST);
    assert_eq!(calls[0].1[8..12], 6u32.to_le_bytes());
    assert!(channel.is_virtual() && channel.descriptor().is_none());
}

#[test]
fn changes_come_back_with_an_error_too() {
    let node = Arc::new(Recorder::default());
    node.answers.lock().unwrap().push(Errno::ENOSPC);
    let (arg, result) = create(&Channel::to_virtual(node), Retry::Always);
    let error = result.unwrap_err();
    assert_eq!(arg.vm_id, 7);
    assert_eq!((error.call(), error.errno()), ("DRM_IOCTL_XE_VM_CREATE", Some(Errno::ENOSPC)));
}

#[test]
fn an_interrupted_call_is_made_again() {
    let node = Arc::new(Recorder::default());
    node.answers.lock().unwrap().extend([Errno::EAGAIN, Errno::EINTR]);
    create(&Channel::to_virtual(node.clone()), Retry::Always).1.unwrap();
    assert_eq!(node.calls.lock().unwrap().len(), 3);
}

#[test]
fn the_wrong_kind_of_file_is_an_error_that_names_the_call() {
    let channel = Channel::open(Path::new("/dev/null")).unwrap();
    let error = create(&channel, Retry::Always).1.unwrap_err();
    assert_eq!((error.call(), error.errno()), ("DRM_IOCTL_XE_VM_CREATE", Some(Errno::ENOTTY)));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_missing_file_is_named() {
    let error = Channel::open(Path::new("/dev/no-such-node")).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOENT));
    assert!(error.to_string().contains("/dev/no-such-node"), "{error}");
}

#[test]
fn a_buffer_of_the_wrong_length_never_reaches_the_driver() {
    let node = Arc::new(Recorder::default());
    let channel = Channel::to_virtual(node.clone());
    // SAFETY: the argument holds no address.
    let result = unsafe { channel.call_sized("f", VmCreate::REQUEST, &mut [0; 16], Retry::Never) };
    assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(node.calls.lock().unwrap().is_empty());
}

#[test]
fn a_clone_reaches_the_same_far_end() {
    let node = Arc::new(Recorder::default());
    let channel = Channel::to_virtual(node.clone()).try_clone().unwrap();
    create(&channel, Retry::Never).1.unwrap();
    assert_eq!(node.calls.lock().unwrap().len(), 1);
    let file = Channel::open(Path::new("/dev/null")).unwrap();
    assert!(file.try_clone().unwrap().descriptor().is_some());
}

#[test]
fn mapping_a_file_and_a_node_without_memory() {
    let error = Channel::to_virtual(Arc::new(Recorder::default())).map("buffer", 0, 4096).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENODEV));
    let memory = rustix::fs::memfd_create("device", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&memory, 8192).unwrap();
    rustix::io::pwrite(&memory, &[42], 4096).unwrap();
    let mapping = Channel::from_fd(memory).map("buffer", 4096, 4096).unwrap();
    assert_eq!(mapping.len(), 4096);
    // SAFETY: the mapping is 4096 bytes of memfd that nothing else uses.
    assert_eq!(unsafe { mapping.as_ptr().read_volatile() }, 42);
}

#[test]
fn a_forked_child_is_not_the_owner_and_can_become_one() {
    let guard = ProcessGuard::current().unwrap();
    assert_eq!(guard, ProcessGuard::current().unwrap());
    guard.check("f").unwrap();
    // SAFETY: the child makes system calls and touches atomics only before it exits.
    let child = unsafe { nix::unistd::fork() }.unwrap();
    match child {
        nix::unistd::ForkResult::Child => {
            let foreign = !guard.is_owner();
            let own = ProcessGuard::current().is_ok_and(|own| own.is_owner() && own != guard);
            // SAFETY: ends the child at once, without running destructors of the test process.
            unsafe { nix::libc::_exit(if foreign && own { 0 } else { 1 }) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
            assert!(guard.is_owner());
        }
    }
}

#[test]
fn files_are_opened_for_both_ways_and_not_inherited() {
    use rustix::fs::OFlags;
    let channel = Channel::open(std::path::Path::new("/dev/null")).unwrap();
    let file = channel.descriptor().expect("a real file");
    let flags = rustix::io::fcntl_getfd(file).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    assert_eq!(rustix::fs::fcntl_getfl(file).unwrap() & OFlags::ACCMODE, OFlags::RDWR);
}
