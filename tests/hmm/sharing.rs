//! Memory that several mappings or processes share, and memory that does not move.

use std::os::fd::AsFd;

use drm_pagemap::PageRange;
use drm_pagemap::range::page_size;
use drm_pagemap::residency::Place;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rustix::mm::{MapFlags, MremapFlags};

use crate::case::Case;
use crate::check::{check, letters, look};
use crate::device::Device;
use crate::memory::Memory;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("fork shares device pages", forked),
        Case::new("mremap moves device pages along", moved),
        Case::new("written pages of a private file move, the file's do not", private_file),
        Case::new("shared memory does not move", shared),
        Case::new("pages held exclusively look like device pages, as documented", exclusive),
    ]
}

fn forked() {
    let memory = Memory::private(4);
    memory.write(0..4);
    let device = Device::first();
    device.take(memory.part(0..3));
    // SAFETY: this process has one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let seen = std::panic::catch_unwind(|| {
                // The parent's descriptor mirrors the parent.
                let device = Device::first();
                check(&device, memory.range(), "DDDs");
                memory.read(0..1);
                check(&device, memory.range(), "sDDs");
                // The device brings its pages back when a descriptor is closed.
                nix::sys::signal::raise(Signal::SIGSTOP).unwrap();
            });
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(i32::from(seen.is_err())) }
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, Some(WaitPidFlag::WUNTRACED)).unwrap();
            assert_eq!(status, WaitStatus::Stopped(child, Signal::SIGSTOP), "see the child's message");
            check(&device, memory.range(), "sDDs");
            kill(child, Signal::SIGCONT).unwrap();
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        }
    }
}

fn moved() {
    let device = Device::first();
    let memory = Memory::private(4);
    memory.write(0..4);
    device.take(memory.part(1..3));
    let len = memory.range().len() as usize;
    // SAFETY: the mapping is this test's own, and is forgotten below; the new one is at an address of the kernel's choice.
    let new =
        unsafe { rustix::mm::mremap(memory.range().start() as *mut _, len, 2 * len, MremapFlags::MAYMOVE) }
            .unwrap();
    std::mem::forget(memory);
    let range = PageRange::new(new as u64, 2 * len as u64).unwrap();
    check(&device, range, "sDDs....");
    // SAFETY: the mapping is this test's own.
    unsafe { rustix::mm::munmap(new, 2 * len) }.unwrap();
}

fn private_file() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(4 * page_size()).unwrap();
    let device = Device::first();
    let memory = Memory::file(file.as_fd(), 4, MapFlags::PRIVATE);
    memory.write(0..2);
    memory.read(2..4);
    device.take(memory.range());
    check(&device, memory.range(), "DDss");
}

fn shared() {
    let device = Device::first();
    let memory = Memory::anonymous(4, MapFlags::SHARED);
    memory.write(0..4);
    device.take(memory.range());
    check(&device, memory.range(), "ssss");
}

fn exclusive() {
    let device = Device::first();
    let memory = Memory::private(3);
    memory.write(0..3);
    device.make_exclusive(memory.part(0..1));
    let residency = look(memory.range());
    assert_eq!(letters(&residency), "Dss", "only a calibration tells");
    memory.read(0..1);
    assert_eq!(look(memory.range()).place_at(memory.range().start()), Some(Place::System));
}
