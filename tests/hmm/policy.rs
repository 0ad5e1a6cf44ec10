//! What may be done to pages that are on the device, and which pages go there at all.

use std::os::fd::{AsRawFd, OwnedFd};

use drm_pagemap::PageRange;
use drm_pagemap::range::page_size;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::case::Case;
use crate::check::{check, check_counts, look};
use crate::device::Device;
use crate::memory::Memory;
use crate::prepare::has_swap;
use crate::swap::swaps_out;

const MADV_POPULATE_READ: i32 = 22;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("advice that moves nothing, and advice that brings back", advice),
        Case::new("another reader of this process's memory brings a page back", read_from_outside),
        Case::new("a page that a pipe holds stays, and goes when it is free", held),
        Case::new("memory shared with a child goes as a whole", shared_with_a_child),
        Case::new("asking for another node moves no device page", asked_for_a_node),
        Case::new("every kind of page side by side, swapped ones too", with_swapped)
            .needs(has_swap(), "no swap area"),
        Case::new("swapped pages stay in swap, their neighbours go", swapped_stay)
            .needs(has_swap(), "no swap area"),
    ]
}

fn advice() {
    let device = Device::first();
    let memory = Memory::private(8);
    memory.write(0..8);
    device.take(memory.range());
    for kind in [libc::MADV_COLD, libc::MADV_PAGEOUT, libc::MADV_FREE, libc::MADV_WILLNEED] {
        memory.advise(0..8, kind).unwrap();
        check(&device, memory.range(), "DDDDDDDD");
    }
    // Kernels without KSM refuse it.
    let _ = memory.advise(0..8, libc::MADV_MERGEABLE);
    check(&device, memory.range(), "DDDDDDDD");
    memory.advise(2..4, MADV_POPULATE_READ).unwrap();
    check(&device, memory.range(), "DDssDDDD");
    memory.advise(6..8, libc::MADV_DONTNEED).unwrap();
    check(&device, memory.range(), "DDssDD..");
}

fn read_from_outside() {
    let device = Device::first();
    let memory = Memory::private(3);
    memory.write(0..3);
    device.take(memory.range());
    let mut byte = [0u8; 8];
    let local = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    let remote = libc::iovec { iov_base: memory.range().start() as *mut _, iov_len: byte.len() };
    // SAFETY: reads eight bytes of this process into a buffer of that size.
    let read = unsafe { libc::process_vm_readv(std::process::id() as i32, &local, 1, &remote, 1, 0) };
    assert_eq!(read, 8);
    check(&device, memory.range(), "sDD");
}

/// Lends pages to a pipe: a reference to each, until the pipe is gone.
pub(crate) fn lend(range: PageRange) -> (OwnedFd, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let pages = libc::iovec { iov_base: range.start() as *mut _, iov_len: range.len() as usize };
    // SAFETY: lends pages of the test's own, which outlive the pipe.
    let lent = unsafe { libc::vmsplice(writer.as_raw_fd(), &pages, 1, 0) };
    assert_eq!(lent, range.len() as isize);
    (reader, writer)
}

fn held() {
    let device = Device::first();
    let memory = Memory::private(8);
    memory.write(0..8);
    let pipe = lend(memory.part(3..5));
    device.take(memory.range());
    check(&device, memory.range(), "DDDssDDD");
    drop(pipe);
    device.take(memory.range());
    check(&device, memory.range(), "DDDDDDDD");
    // Lending is a touch.
    let _pipe = lend(memory.part(1..2));
    check(&device, memory.range(), "DsDDDDDD");
}

/// A child that does nothing until it is killed, so that memory stays shared with it.
struct Child(Pid);

impl Child {
    fn start() -> Self {
        // SAFETY: this process has one thread, and the child only waits.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => loop {
                nix::unistd::pause();
            },
            ForkResult::Parent { child } => Self(child),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGKILL).unwrap();
        assert_eq!(waitpid(self.0, None).unwrap(), WaitStatus::Signaled(self.0, Signal::SIGKILL, false));
    }
}

fn shared_with_a_child() {
    let memory = Memory::private(6);
    memory.write(0..6);
    let child = Child::start();
    let device = Device::first();
    device.take(memory.part(0..4));
    check(&device, memory.range(), "DDDDss");
    memory.write(1..2);
    check(&device, memory.range(), "DsDDss");
    drop(child);
    check(&device, memory.range(), "DsDDss");
}

fn asked_for_a_node() {
    let device = Device::first();
    let memory = Memory::private(4);
    memory.write(0..4);
    device.take(memory.part(0..2));
    let mut pages: Vec<_> =
        (0..4u64).map(|page| (memory.range().start() + page * page_size()) as *mut libc::c_void).collect();
    let (nodes, mut states) = ([0i32; 4], [1i32; 4]);
    // SAFETY: asks for pages of this process to be on node 0; the arrays have the four entries that are said.
    let result = unsafe {
        libc::syscall(libc::SYS_move_pages, 0, 4, pages.as_mut_ptr(), nodes.as_ptr(), states.as_mut_ptr(), 0)
    };
    // Kernels without NUMA have no such call; those with it say that there is no such page.
    if result >= 0 {
        assert_eq!(states, [-libc::ENOENT, -libc::ENOENT, 0, 0]);
    }
    check(&device, memory.range(), "DDss");
}

fn with_swapped() {
    const MADV_GUARD_INSTALL: i32 = 102;
    let device = Device::first();
    let memory = Memory::private(16);
    memory.write(0..5);
    memory.read(6..7);
    memory.write(7..9);
    memory.advise(9..10, MADV_GUARD_INSTALL).unwrap();
    memory.read(11..12);
    memory.write(13..16);
    let uncached = swaps_out(&memory, 7..9);
    device.take(memory.part(0..4));
    device.take(memory.part(10..12));
    if uncached {
        check(&device, memory.range(), "DDDDs.zwwgDD.sss");
    } else {
        // In the swap cache a page is as good as present for `mincore`; the counts are exact all the same.
        check_counts(&device, memory.range(), &look(memory.range()));
    }
}

fn swapped_stay() {
    let device = Device::first();
    let memory = Memory::private(8);
    memory.write(0..8);
    let uncached = swaps_out(&memory, 2..6);
    device.take(memory.range());
    if uncached {
        check(&device, memory.range(), "DDwwwwDD");
    } else {
        check_counts(&device, memory.range(), &look(memory.range()));
    }
}
